#include "io/uring/timer_heap.h"

#include <algorithm>

#include "base/check.h"

namespace dst::io::uring {

void TimerHeap::add(Timer& timer) {
    // A time that has passed counts as that of the latest turn: who arms again and again for the
    // past must not stand before all others for ever.
    const Entry entry{std::max(timer.when(), fired_until_), next_sequence_++, &timer};
    entries_.push_back(entry);
    sift_up(entries_.size() - 1, entry);
}

void TimerHeap::remove(Timer& timer) {
    const std::size_t place = timer.place;
    CHECK(place < entries_.size() && entries_[place].timer == &timer);
    const Entry last = entries_.back();
    entries_.pop_back();
    if (place == entries_.size()) return;
    if (place > 0 && last.is_before(entries_[(place - 1) / 2])) {
        sift_up(place, last);
    } else {
        sift_down(place, last);
    }
}

void TimerHeap::fire(TimePoint now) {
    fired_until_ = now;
    const std::uint64_t first_new = next_sequence_;
    while (!entries_.empty() && entries_.front().when <= now &&
           entries_.front().sequence < first_new) {
        Timer& timer = *entries_.front().timer;
        remove(timer);
        timer.fire();
    }
}

void TimerHeap::sift_up(std::size_t place, Entry entry) {
    while (place > 0) {
        const std::size_t parent = (place - 1) / 2;
        if (!entry.is_before(entries_[parent])) break;
        put(place, entries_[parent]);
        place = parent;
    }
    put(place, entry);
}

void TimerHeap::sift_down(std::size_t place, Entry entry) {
    while (true) {
        std::size_t child = 2 * place + 1;
        if (child >= entries_.size()) break;
        if (child + 1 < entries_.size() && entries_[child + 1].is_before(entries_[child])) ++child;
        if (!entries_[child].is_before(entry)) break;
        put(place, entries_[child]);
        place = child;
    }
    put(place, entry);
}

}  // namespace dst::io::uring
