// The timers of a reactor: a binary heap whose items know their places, so that disarming is as
// cheap as arming and neither allocates (up to what was reserved).
//
// Timers fire in the order of their times, those of one time in the order of being armed.
#pragma once

#include <cstdint>
#include <vector>

#include "io/clock.h"

namespace dst::io::uring {

class TimerHeap {
  public:
    TimerHeap() { entries_.reserve(kReserved); }

    void add(Timer& timer);
    void remove(Timer& timer);
    /// When the first one is due; max() if there is none.
    [[nodiscard]] TimePoint next() const {
        return entries_.empty() ? TimePoint::max() : entries_.front().when;
    }
    [[nodiscard]] bool empty() const { return entries_.empty(); }
    /// Fires what is due at `now`, but not what is armed meanwhile.
    void fire(TimePoint now);

  private:
    static constexpr std::size_t kReserved = 4096;

    struct Entry {
        TimePoint when;
        std::uint64_t sequence = 0;
        Timer* timer = nullptr;

        [[nodiscard]] bool is_before(const Entry& other) const {
            return when != other.when ? when < other.when : sequence < other.sequence;
        }
    };

    void put(std::size_t place, const Entry& entry) {
        entries_[place] = entry;
        entry.timer->place = place;
    }
    void sift_up(std::size_t place, Entry entry);
    void sift_down(std::size_t place, Entry entry);

    std::vector<Entry> entries_;
    std::uint64_t next_sequence_ = 0;
    TimePoint fired_until_;
};

}  // namespace dst::io::uring
