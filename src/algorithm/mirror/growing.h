// Growing: the nodes have grown, so the mirror does, while it serves: design §7, docs/on-disk.md 5.
//
// Nobody changes anything meanwhile, and all is settled: the copies are equal and durable, and no
// bit says anything but what was never written. Then each node gets the bitmaps of the new size
// where they will be, and, where its end has moved, the superblock of the age in force there, so
// that it is found by whoever looks at the end. Up to here nothing has happened. Then comes an age
// of the new size, written at the new ends alone; from when it is sent there is no way back. When
// it is in force the old metadata means nothing: what of it became data, up to the end of the
// region that was the last one, is made zero, and the next age says that this is done. Other new
// regions are unwritten.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "algorithm/mirror/changes.h"
#include "algorithm/mirror/core.h"
#include "algorithm/mirror/flushes.h"
#include "algorithm/mirror/membership.h"

namespace dst::mirror {

class Growing {
  public:
    Growing(Core& core, Membership& membership, Changes& changes, Flushes& flushes)
        : core_(core), membership_(membership), changes_(changes), flushes_(flushes) {}

    /// Every node is there and attached; the text names one that is not.
    [[nodiscard]] Outcome<> check_nodes() const;
    /// The same, and large enough for more data. What it will be.
    [[nodiscard]] Outcome<Shape> plan() const;
    /// Takes the size that the nodes allow now. No request of a user is under way, or comes, until
    /// it returns. Refused, with nothing changed, if that is not done by `deadline`; but for what
    /// comes after the age was sent there is none. Suspends.
    async::Task<Outcome<>> grow(io::TimePoint deadline);
    /// Nothing that can still be given up is waited for.
    void give_up();

    /// What is due behind the data of before, if the age in force says so. Before anybody is
    /// served. False if the mirror is over. Suspends.
    async::Task<bool> make_rest_zero();

  private:
    async::Task<Outcome<>> settle(io::TimePoint deadline);
    [[nodiscard]] bool is_settled();
    async::Task<Outcome<>> zero_halves(const Shape& to, io::TimePoint deadline);
    async::Task<Outcome<>> prepare(const Shape& to, io::TimePoint deadline);
    [[nodiscard]] bool is_prepared() const;
    [[nodiscard]] Outcome<> check_going_on() const;
    [[nodiscard]] std::string obstacle() const;
    void begin_node(Node& node, Bits& bits);
    void switch_over();
    void stop_writers();
    [[nodiscard]] bool forget_writers();
    async::Task<void> erase_old_superblocks();
    async::Task<Outcome<>> ask_in_time(block::Request request, io::TimePoint deadline);
    [[nodiscard]] std::vector<Node*> data_nodes() const;

    Core& core_;
    Membership& membership_;
    Changes& changes_;
    Flushes& flushes_;
    bool is_given_up_ = false;
    /// Of the new size, until they are those of the mirror.
    std::unique_ptr<Regions> next_;
    /// Of no use any more, until what is under way there has ended.
    std::vector<std::unique_ptr<PageWriter>> old_pages_;
    std::vector<std::unique_ptr<SuperblockWriter>> old_superblocks_;
    std::unique_ptr<Regions> old_regions_;
    struct OldEnd {
        metadata::Cookie cookie = 0;
        SectorCount end;
    };
    std::vector<OldEnd> old_ends_;
};

}  // namespace dst::mirror
