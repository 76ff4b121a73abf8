// Flushes: of the user, and of the mirror itself; and what follows from one that succeeded: regions
// are settled, fresh ones written in the bits, intents cleared some time later.
#pragma once

#include "algorithm/mirror/core.h"
#include "algorithm/mirror/sender.h"

namespace dst::mirror {

class Flushes {
  public:
    /// A region that is written to no more keeps its intent so long: setting it again costs a
    /// write on every node.
    static constexpr io::Duration kIntentLingers = std::chrono::seconds(3);

    Flushes(Core& core, Membership& membership, Sender& sender)
        : core_(core), membership_(membership), sender_(sender) {}

    /// All that was answered before is durable on every node that took it, and is not forgotten by
    /// them either (rule 10). One at a time is under way; who waits meanwhile shares the next.
    /// Suspends.
    async::Task<Result<>> flush();
    /// Clears intents that may be. True if there are more that may be some time.
    bool clear_intents();
    /// The same at the end, however short ago they were used. False if some can't be cleared yet.
    bool clear_all_intents();

  private:
    async::Task<Result<>> flush_now();
    [[nodiscard]] bool may_clear(RegionIndex region);
    async::Task<Result<>> written_bits_are_durable(const Regions::Flush& flush);

    Core& core_;
    Membership& membership_;
    Sender& sender_;
    async::Semaphore turn_{1};
    std::uint64_t begun_ = 0;
    std::uint64_t succeeded_ = 0;  // the number of the latest one that did
};

}  // namespace dst::mirror
