// Regions: what is known of each region of a mirror: the bits that are kept on nodes, and what of
// it is going on at this moment. No I/O, nothing suspends.
//
// The life of a region that is written to: its intent is set and made durable, and it is opened;
// changes come in and go out; from the first of them until a flush, begun after the last, that
// succeeded on every node that took them it is unsettled; some time after that it is closed and its
// intent cleared.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithm/mirror/bits.h"
#include "io/clock.h"

namespace dst::mirror {

class Regions {
  public:
    Regions(const Shape& shape, const metadata::StorageId& storage);

    Bits bits;
    [[nodiscard]] const Shape& shape() const { return bits.shape(); }

    // Open: all that a change there needs is durable, and nothing stands in its way.
    [[nodiscard]] bool is_open(RegionRange regions) const { return open_.all(regions); }
    void open(RegionRange regions) { open_.set(regions); }
    void close(RegionRange regions) { open_.clear(regions); }
    /// Something more has to be durable somewhere from now on.
    void close_all() { open_.clear_all(); }

    // Locked: no change begins. By one at a time; closes.
    [[nodiscard]] bool is_locked(RegionRange regions) const { return locked_.any(regions); }
    void lock(RegionRange regions);
    void unlock(RegionRange regions) { locked_.clear(regions); }

    // Changes under way. Until they are over, and flushed, the regions are unsettled.
    void enter(RegionRange regions);
    void leave(RegionRange regions);
    [[nodiscard]] bool is_busy(RegionRange regions) const;
    [[nodiscard]] const Bitmap& unsettled() const { return unsettled_; }

    // Fresh: written by now, though nodes may have it as unwritten, until a flush (rule 10).
    [[nodiscard]] const Bitmap& fresh() const { return fresh_; }
    void make_fresh(RegionRange regions);
    /// Nothing but zeroes can be read there.
    [[nodiscard]] bool is_unwritten(RegionIndex region) const {
        return bits.unwritten().test(region) && !fresh_.test(region);
    }
    /// One of them is.
    [[nodiscard]] bool has_unwritten(RegionRange regions) const;

    // Uneven: a change failed on all nodes, so each may hold any part of it. Unsettled until it is
    // made equal.
    [[nodiscard]] const Bitmap& uneven() const { return uneven_; }
    void make_uneven(RegionRange regions) {
        uneven_.set(regions);
        failed_.set(regions);
    }
    /// A node may have forgotten what is not durable there. Nobody writes again what of it came of
    /// changes that failed, and others may have been given that: they are uneven once more.
    void doubt_failed();
    /// The node that reads come from has forgotten what is not durable, and others may have it.
    void doubt_unsettled();
    /// How often that was. What was read of an uneven region before the last time is worth nothing.
    [[nodiscard]] std::uint64_t doubts() const { return doubts_; }
    /// They are equal again, if not durably: as after a change.
    void make_even(RegionRange regions);

    /// What a flush covers that begins now.
    /// Given back when it is over, for its memory.
    struct Flush {
        std::vector<RegionIndex> changed;
        std::vector<RegionIndex> fresh;
    };
    [[nodiscard]] Flush begin_flush();
    void flush_failed(Flush& flush);
    /// The data is durable wherever it was taken: fresh regions are cleared in the bits, and what
    /// is not being changed any more is settled.
    void flush_succeeded(Flush& flush, io::TimePoint now);
    /// So are those bits, after that.
    void make_written(const Flush& flush);

    /// Closes and clears the intent of regions that have been settled since before `until` and for
    /// which `may_clear(region)`; others wait on. At most `most` at a time. How many were cleared.
    template <typename MayClear>
    std::size_t clear_intents(io::TimePoint until, std::size_t most, MayClear may_clear);
    [[nodiscard]] bool has_settled() const { return !settled_.empty(); }
    /// Regions whose intent was found set at the start, and which are settled by now.
    void assume_settled(io::TimePoint now);

  private:
    void note_changed(RegionIndex region);
    void keep(std::vector<RegionIndex> list);
    void list_settled(RegionIndex region, io::TimePoint now);
    [[nodiscard]] bool is_settled(RegionIndex region) const {
        return in_flight_[region.value()] == 0 && !unsettled_.test(region);
    }

    std::vector<std::uint32_t> in_flight_;  // by region
    Bitmap open_;
    Bitmap locked_;
    Bitmap fresh_;
    Bitmap uneven_;
    std::uint64_t doubts_ = 0;
    Bitmap failed_;  // a change failed there, and no flush has succeeded since they are even
    Bitmap unsettled_;
    Bitmap changed_;  // since the last flush began
    std::vector<RegionIndex> changed_list_;
    std::vector<RegionIndex> fresh_list_;
    std::vector<RegionIndex> spare_list_;  // empty: the memory of the last flush's
    struct Settled {
        RegionIndex region;
        io::TimePoint since;
    };
    std::vector<Settled> settled_;  // with an intent that may be cleared; the oldest first
    Bitmap is_listed_;              // there; once
};

template <typename MayClear>
std::size_t Regions::clear_intents(io::TimePoint until, std::size_t most, MayClear may_clear) {
    std::size_t cleared = 0;
    std::size_t kept = 0;
    std::size_t at = 0;
    for (; at < settled_.size() && settled_[at].since < until && cleared < most; ++at) {
        const RegionIndex region = settled_[at].region;
        is_listed_.clear(region);
        // Changed since: it comes here again.
        if (!is_settled(region) || !bits.intent().test(region)) continue;
        if (locked_.test(region) || !may_clear(region)) {
            settled_[kept++] = settled_[at];
            is_listed_.set(region);
            continue;
        }
        open_.clear(region);
        bits.clear(Bits::kIntent, region);
        ++cleared;
    }
    settled_.erase(settled_.begin() + static_cast<std::ptrdiff_t>(kept),
                   settled_.begin() + static_cast<std::ptrdiff_t>(at));
    return cleared;
}

}  // namespace dst::mirror
