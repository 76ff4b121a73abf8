// Mirror: copies of one device on several nodes, which come and go. Design §7 has the rules that it
// keeps, docs/consistency.md the reasons why nothing acknowledged is lost and nothing stale read.
//
// It is told where its nodes are (backing.h), and that it may start, from which age and from which
// node (metadata/assembly.h decides that). Of requests that overlap and of which one is a change it
// must be given one at a time.
//
//     core         what all parts share        regions, bits   what is known of each region
//     changes      writes, trims, zeroes       reads           from one copy, or another
//     flushes      and what follows from them  sender          one request to several nodes
//     membership   who is attached: ages       joining         how a node comes back
//     resync       what it lacks is copied     watch, lease    what time brings
//     roster       nodes come in, and go       verify          copies are compared
//     growing      as its nodes have
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "algorithm/mirror/changes.h"
#include "algorithm/mirror/core.h"
#include "algorithm/mirror/evening.h"
#include "algorithm/mirror/flushes.h"
#include "algorithm/mirror/growing.h"
#include "algorithm/mirror/joining.h"
#include "algorithm/mirror/lease.h"
#include "algorithm/mirror/membership.h"
#include "algorithm/mirror/reads.h"
#include "algorithm/mirror/resync.h"
#include "algorithm/mirror/roster.h"
#include "algorithm/mirror/sender.h"
#include "algorithm/mirror/stakes.h"
#include "algorithm/mirror/verify.h"
#include "algorithm/mirror/watch.h"

namespace dst::mirror {

/// What the data of a new mirror is.
enum class Init : std::uint8_t {
    zero,          // nothing: all of it reads as zeroes, and nothing is copied
    adopt,         // the first node's; the others are stale
    assume_clean,  // that of all nodes, which are equal
};

/// How a mirror is taken over: the bits of `source` are loaded, which was attached in the age there
/// is (what is damaged there, from `others` that were, too), the nodes flush that `first` names,
/// and that age is sent, which forks off the one there is. It names `source`, and others only if
/// the storage was stopped in order.
struct Takeover {
    metadata::Form first;
    metadata::Cookie source = 0;
    std::vector<metadata::Cookie> others{};
    /// They went another way, which was given up: they join, and all of their data is copied.
    std::vector<metadata::Cookie> given_up{};
    /// The source's data is right because a person says so: no bitmap counts, and all other nodes
    /// are all stale.
    bool is_declared = false;
};

class Mirror {
  public:
    /// Nodes are those of `form`'s table. `form` is the age to take over from, or the first one of
    /// a new storage. All references outlive it.
    Mirror(io::World& world, Memory memory, metadata::Head head, Settings settings,
           metadata::Form form, Owner& owner);
    ~Mirror();

    /// The node for whose disk `assemble` failed; nothing if that was not why.
    [[nodiscard]] std::optional<metadata::Cookie> broken() const { return broken_; }
    /// Where a node of the table is. Before `create` and `assemble` for those that take part in
    /// them; others join when they answer. Outlives the mirror.
    void found(metadata::Cookie cookie, Backing& backing, bool is_local);
    /// Its backing goes: it is in the table no more, and gone (Roster::is_gone).
    void lost(metadata::Cookie cookie);
    /// Something about a node's backing has changed: it is connected, lost, or taken.
    void backing_changed(metadata::Cookie cookie);

    /// Makes the storage that `form` describes: bitmaps and superblocks on all nodes, which have
    /// all been found. Serves when it returns; on refusal nothing is in force. Suspends.
    async::Task<Outcome<>> create(Init init);
    /// Takes over as it is told. Serves when it returns. Suspends.
    async::Task<Outcome<>> assemble(Takeover takeover);

    [[nodiscard]] block::Geometry geometry() const;
    /// As block::Device; fails once it is over. Suspends.
    async::Task<Result<>> execute(block::Request& request);

    // Live changes. Only while it serves.

    [[nodiscard]] Roster& roster() { return roster_; }
    [[nodiscard]] Growing& growing() { return growing_; }
    [[nodiscard]] Verify& verify() { return verify_; }
    [[nodiscard]] const Verify& verify() const { return verify_; }
    /// The window of a resync, and how often its worker looks when there is nothing to do.
    void set_resync(SectorCount size, io::Duration timeout);
    /// Nothing on that node is known to be right.
    [[nodiscard]] bool lacks_all(metadata::Cookie cookie) const;

    /// The end is near: nodes that answer late are left out much sooner.
    void hurry();
    /// Flushes, and leaves an age that says that all is in order, until `deadline`. No request may
    /// be under way, or come. False: it did not come to that. Suspends.
    async::Task<bool> finish(io::TimePoint deadline);
    /// Nothing is answered from now on. What is under way ends when its backings are dropped.
    void end();
    /// Waits until nothing is under way. After `end`. Suspends.
    async::Task<void> join();

    /// The age in force.
    [[nodiscard]] const metadata::Form& form() const { return *core_.form; }
    /// The one that was sent last.
    [[nodiscard]] const metadata::Form& newest_form() const { return membership_.newest_form(); }
    [[nodiscard]] bool is_serving() const { return core_.is_serving && !core_.is_over(); }
    /// Why no age can be formed any more: another head has the nodes. Empty: it can.
    [[nodiscard]] const std::string& fenced() const { return core_.fenced; }

    struct NodeView {
        metadata::Cookie cookie = 0;
        NodeState state = NodeState::away;
        bool is_connected = false;
        SectorCount stale;
        std::string reason;
        io::WallTime since;
        std::uint64_t read_errors = 0;  // requests that it could not read
        std::uint64_t rewritten = 0;    // of those, written again from another copy
    };
    /// In the order of the table.
    [[nodiscard]] std::vector<NodeView> nodes() const;
    struct Prospect {
        metadata::Outlook outlook;
        Stakes stakes;
    };
    /// What the loss of these nodes would come to, of the table in force.
    [[nodiscard]] Prospect prospect(std::span<const metadata::Cookie> lost,
                                    bool is_head_lost) const;
    [[nodiscard]] Resync::View resync() const { return resync_.view(); }
    /// Requests that nobody can answer at the moment.
    [[nodiscard]] std::size_t waiting() const {
        return reads_.waiting() + changes_.waiting() + lease_.waiting();
    }
    /// Whom they wait for, why, and until when, for a person; empty: for nobody.
    [[nodiscard]] std::string obstacle() const { return membership_.obstacle(); }
    /// Requests are answered, as far as nodes that are there can do that.
    [[nodiscard]] bool is_answering() const { return membership_.is_answering(); }
    /// A node that has all of the data can be had, whether requests wait or not.
    [[nodiscard]] bool has_source() const { return membership_.has_source(); }

  private:
    async::Task<Outcome<>> load_bits(Node& source, const Takeover& takeover);
    void declare_bits(const Node& source);
    void note_broken(const Node& node, Error error);
    async::Task<Outcome<>> load_one(Node& source, BitmapName name,
                                    const std::vector<metadata::Cookie>& others);
    async::Task<Outcome<>> take_as_attached(Node& node);
    async::Task<Outcome<>> prepare(Init init);
    async::Task<bool> until(bool (Mirror::*done)() const);
    [[nodiscard]] bool all_are_prepared() const;
    void begin_serving();
    async::Task<Result<>> perform(block::Request& request);
    async::Task<Result<>> perform_timed(block::Request& request);
    async::Task<bool> finish_in_order();

    Core core_;
    Membership membership_;
    Lease lease_;
    Sender sender_;
    Flushes flushes_;
    Changes changes_;
    Reads reads_;
    Evening evening_;
    Resync resync_;
    Joining joining_;
    Roster roster_;
    Verify verify_;
    Growing growing_;
    Watch watch_;
    bool is_watching_ = false;
    std::optional<metadata::Cookie> broken_;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace dst::mirror
