// Node: a node of a mirror at run time. Private to the mirror.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "algorithm/mirror/backing.h"
#include "algorithm/mirror/bits.h"
#include "algorithm/mirror/node_state.h"
#include "algorithm/mirror/page_writer.h"
#include "algorithm/mirror/superblock_writer.h"
#include "metadata/form.h"

namespace dst::mirror {

/// So begins the reason of a node that was left out although its link was up.
inline constexpr std::string_view kSlow = "slow: ";

struct Node {
    explicit Node(const metadata::NodeRecord& record)
        : cookie(record.cookie),
          slot(record.slot),
          size(record.size),
          is_witness(record.is_witness),
          type(record.type) {}

    const metadata::Cookie cookie;
    const std::uint8_t slot;
    SectorCount size;  // where it ends, so where its metadata is
    const bool is_witness;
    const std::string type;  // as the tree shows it
    /// Null while nobody knows where it is.
    Backing* backing = nullptr;
    bool is_local = false;

    NodeState state = NodeState::away;
    /// Why it is in that state, for a person, and since when.
    std::string reason = "not seen yet";
    io::WallTime since;

    /// Grows each time it leaves: who waits for an answer from before waits no longer.
    std::uint64_t membership = 0;
    /// It failed something that the others did: it has to leave.
    bool has_failed = false;
    /// A person has said that nothing on it is to be trusted: it leaves, and is all stale then.
    bool is_distrusted = false;
    /// Where it has diverged from: a person has said that it counts for nothing.
    bool is_given_up = false;
    /// When it was asked last, another head had it.
    bool is_held_elsewhere = false;
    /// When it was looked at last it held an age of a head that went on without this one.
    bool is_astray = false;
    /// A joining one: takes no part any more, and leaves once that is noted.
    bool is_leaving = false;
    /// Since when it does not answer; nothing while it does.
    std::optional<io::TimePoint> silent_since;
    bool was_connected = false;  // when it was looked at last
    /// The medium on which it was this node when it left, or was looked at last; nothing if it was
    /// not there, or not this node.
    std::optional<std::uint64_t> found_on;
    /// It is looked at no sooner: it left because it failed, or can't join as it is.
    io::TimePoint try_again_at;
    io::Duration backoff{};

    /// This mirror has had it before, so its stale bits say what it lacks: what it took and did not
    /// settle is among them since it left. Its own intents are for a mirror that comes after.
    bool is_known = false;
    /// Requests under way, and tasks that write to it.
    std::size_t in_flight = 0;
    std::size_t writers = 0;
    /// Those that bring it in.
    std::size_t tasks = 0;
    /// Where the previous read ended.
    SectorIndex position;
    /// Reads under way, and since when none of them has been answered.
    std::size_t reads = 0;
    io::TimePoint reads_wait_since;

    /// Regions that are copied and not flushed yet, or being flushed: stale, but taking changes.
    /// While it joins.
    std::optional<Bitmap> copied;
    std::optional<Bitmap> being_flushed;
    /// Intents and stale bits have to be durable here, too.
    bool holds_bits = false;
    /// While it is one of those that are written to.
    std::unique_ptr<PageWriter> pages;
    std::unique_ptr<SuperblockWriter> superblock;
    std::uint64_t sequence = 0;  // of the superblock that was written there last, or found
    /// While the mirror grows: its new end, and what writes there.
    SectorCount next_size;
    std::unique_ptr<PageWriter> next_pages;
    std::unique_ptr<SuperblockWriter> next_superblock;

    // Counted for status and metrics.
    std::uint64_t read_errors = 0;
    std::uint64_t rewritten = 0;

    [[nodiscard]] bool is_attached() const { return state == NodeState::attached; }
    [[nodiscard]] bool is_joining() const {
        return state == NodeState::joining || state == NodeState::completing;
    }
    /// It holds what was acknowledged there, durably or not. Of a joining one: `stale` is its bits.
    [[nodiscard]] bool is_copied(RegionIndex region) const {
        return copied->test(region) || being_flushed->test(region);
    }
    /// It did not get a change there: copying has to begin anew.
    void missed(RegionRange regions) {
        if (!copied) return;
        copied->clear(regions);
        being_flushed->clear(regions);
    }
    void begin_copying(RegionCount regions) {
        copied.emplace(regions);
        being_flushed.emplace(regions);
    }
    /// Takes changes, where it is not stale.
    [[nodiscard]] bool takes_part() const {
        return is_attached() || (is_joining() && !is_leaving && !is_witness);
    }
    [[nodiscard]] bool is_connected() const {
        return backing != nullptr && backing->is_connected();
    }
    /// It may lack what it had taken, and acknowledged.
    [[nodiscard]] bool has_lost_changes() const {
        return backing != nullptr && backing->has_lost_changes();
    }
    /// Another head has it, as far as is known.
    [[nodiscard]] bool is_taken() const {
        return backing != nullptr && (is_held_elsewhere || backing->is_taken());
    }
    /// Its vote counts, whatever it lacks: nobody else has it as long as it answers this head.
    [[nodiscard]] bool has_say() const {
        return is_attached() || is_joining() || (is_connected() && found_on == backing->instance());
    }
    /// Silent for as long as `grace` and more.
    [[nodiscard]] bool is_silent(io::TimePoint now, io::Duration grace) const {
        return silent_since && now >= *silent_since + grace;
    }
    /// Nothing of an earlier membership is under way there.
    [[nodiscard]] bool is_quiet() const { return in_flight == 0 && writers == 0 && tasks == 0; }
};

}  // namespace dst::mirror
