// RangeLock: orders overlapping requests (design §4), first come, first served.
//
// A shared hold waits for earlier overlapping exclusive ones, an exclusive hold for every earlier
// overlapping one, whether those are granted or still wait: nobody overtakes, nobody starves.
// Holds of up to 128 KiB stand in buckets by address, so that looking for conflicts costs the few
// neighbours and not all that is in flight; longer ones stand in one list.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "async/run_queue.h"
#include "base/list.h"
#include "base/units.h"

namespace dst::async {

class RangeLock {
  public:
    enum class Mode : std::uint8_t { shared, exclusive };

    /// A place in the order; granted once `co_await hold.granted()` goes on, given up when it dies.
    class Hold {
      public:
        /// Queues up at once. `range` is not empty.
        Hold(RangeLock& lock, SectorRange range, Mode mode);
        ~Hold();
        Hold(const Hold&) = delete;
        Hold& operator=(const Hold&) = delete;

        class Awaiter : public Waiter {
          public:
            explicit Awaiter(Hold& hold) : hold_(hold) {}
            bool await_ready() const noexcept { return hold_.blockers_ == 0; }
            void await_suspend(std::coroutine_handle<> handle) {
                suspend(handle);
                hold_.waiter_ = this;
            }
            void await_resume() const noexcept {}
            ~Awaiter() { hold_.waiter_ = nullptr; }
            Awaiter(const Awaiter&) = delete;
            Awaiter& operator=(const Awaiter&) = delete;

          private:
            Hold& hold_;
        };
        /// Suspends until no earlier hold is in the way.
        [[nodiscard]] Awaiter granted() { return Awaiter(*this); }
        [[nodiscard]] const SectorRange& range() const { return range_; }

      private:
        friend class RangeLock;
        struct Place : ListHook<> {
            Hold* hold = nullptr;
        };

        [[nodiscard]] bool conflicts(const Hold& other) const {
            return range_.overlaps(other.range_) &&
                   (mode_ == Mode::exclusive || other.mode_ == Mode::exclusive);
        }

        RangeLock& lock_;
        SectorRange range_;
        Mode mode_;
        std::uint64_t sequence_ = 0;
        std::uint32_t blockers_ = 0;
        std::array<Place, 2> places_;  // first and last granule; a long hold uses the first alone
        Waiter* waiter_ = nullptr;
    };

    RangeLock() = default;
    RangeLock(const RangeLock&) = delete;
    RangeLock& operator=(const RangeLock&) = delete;

    [[nodiscard]] std::size_t size() const { return size_; }

  private:
    using Bucket = List<Hold::Place>;
    static constexpr unsigned kGranuleShift = 8;  // 256 sectors, 128 KiB
    static constexpr std::size_t kBuckets = 256;

    void enter(Hold& hold);
    void leave(Hold& hold);
    template <typename Visit>
    void for_each_conflict(Hold& hold, Visit visit);
    Bucket& bucket(std::uint64_t granule) { return buckets_[granule % kBuckets]; }

    std::array<Bucket, kBuckets> buckets_;
    Bucket long_;
    std::uint64_t next_sequence_ = 1;
    std::size_t size_ = 0;
};

}  // namespace dst::async
