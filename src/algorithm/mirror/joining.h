// Joining: how a node comes back, or comes in: rule 5 of design §7.
//
// It is claimed and its superblock looked at: it must be of this storage, and its age one that the
// present one came from. Where its own intents say that something was being changed it is stale;
// elsewhere it takes the changes from then on. What is stale is copied to it, then it gets the
// bitmaps, and then an age may name it.
#pragma once

#include <string>

#include "algorithm/mirror/core.h"
#include "algorithm/mirror/lease.h"
#include "algorithm/mirror/membership.h"
#include "algorithm/mirror/resync.h"
#include "algorithm/mirror/superblock_reader.h"
#include "metadata/superblock.h"

namespace dst::mirror {

class Joining {
  public:
    Joining(Core& core, Membership& membership, Resync& resync, const Lease& lease)
        : core_(core), membership_(membership), resync_(resync), lease_(lease) {}

    /// `node` answers: takes it in, if it can be, and ends when it is attached, or has left, or
    /// can't be taken in now. Suspends.
    async::Task<void> take_in(Node& node);
    /// The same, from where the node is admitted.
    async::Task<void> bring_up(Node& node);
    /// The node is of the table, and all that has to be known of it is: it takes part from now on,
    /// and is brought up in a task of its own.
    void admit(Node& node);
    /// The node is away, answers, and nothing of its earlier life is under way.
    [[nodiscard]] bool may_begin(const Node& node) const;

    /// Begins to write superblocks to it, which ends where its record says. `found`: what is there;
    /// nothing that is needed, if it is not given.
    void begin_superblocks(Node& node, const FoundSuperblock& found = {});
    /// Begins to write the bitmaps to it, all of them or what changes from now on: it holds them.
    void begin_pages(Node& node, bool all);
    /// All of a bitmap as it is on `node`, with what is safe to believe where it is damaged: those
    /// regions are set in `damaged`. Suspends.
    async::Task<Result<Bitmap>> load_bitmap(Node& node, BitmapName name, Bitmap& damaged);

  private:
    async::Task<Outcome<>> look_at(Node& node);
    async::Task<Outcome<Bitmap>> own_doubts(Node& node, const metadata::Superblock& found,
                                            bool is_all_stale);
    [[nodiscard]] bool is_new(const Node& node, const metadata::Unreadable& found) const;
    [[nodiscard]] Outcome<bool> judge(Node& node, const metadata::Superblock& found) const;

    Core& core_;
    Membership& membership_;
    Resync& resync_;
    const Lease& lease_;
};

}  // namespace dst::mirror
