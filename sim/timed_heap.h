// TimedHeap: what is to happen, in the order of (time, number of being added): a total order, so
// that there is never a choice. A binary heap whose items know their places, so that taking one out
// is as cheap as putting it in, and neither allocates once the heap has grown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "io/clock.h"

namespace dst::sim {

/// `Item` has a member `std::size_t place`, which is the heap's while the item is in it.
template <typename Item>
class TimedHeap {
  public:
    TimedHeap() = default;
    TimedHeap(const TimedHeap&) = delete;
    TimedHeap& operator=(const TimedHeap&) = delete;

    [[nodiscard]] bool empty() const { return entries_.empty(); }
    [[nodiscard]] std::size_t size() const { return entries_.size(); }
    /// When the first one is due; max() if there is none.
    [[nodiscard]] io::TimePoint first_time() const {
        return entries_.empty() ? io::TimePoint::max() : entries_.front().when;
    }
    /// The number of the first one, and of the next one to be added.
    [[nodiscard]] std::uint64_t first_number() const { return entries_.front().number; }
    [[nodiscard]] std::uint64_t next_number() const { return next_number_; }

    void add(Item& item, io::TimePoint when) {
        const Entry entry{when, next_number_++, &item};
        entries_.push_back(entry);
        sift_up(entries_.size() - 1, entry);
    }
    void remove(Item& item) {
        const std::size_t place = item.place;
        CHECK(place < entries_.size() && entries_[place].item == &item);
        const Entry last = entries_.back();
        entries_.pop_back();
        if (place == entries_.size()) return;
        if (place > 0 && last.is_before(entries_[(place - 1) / 2])) {
            sift_up(place, last);
        } else {
            sift_down(place, last);
        }
    }
    Item& take_first() {
        CHECK(!entries_.empty());
        Item& first = *entries_.front().item;
        remove(first);
        return first;
    }

  private:
    struct Entry {
        io::TimePoint when;
        std::uint64_t number = 0;
        Item* item = nullptr;

        [[nodiscard]] bool is_before(const Entry& other) const {
            return when != other.when ? when < other.when : number < other.number;
        }
    };

    void put(std::size_t place, const Entry& entry) {
        entries_[place] = entry;
        entry.item->place = place;
    }
    void sift_up(std::size_t place, Entry entry) {
        while (place > 0) {
            const std::size_t parent = (place - 1) / 2;
            if (!entry.is_before(entries_[parent])) break;
            put(place, entries_[parent]);
            place = parent;
        }
        put(place, entry);
    }
    void sift_down(std::size_t place, Entry entry) {
        while (true) {
            std::size_t child = 2 * place + 1;
            if (child >= entries_.size()) break;
            if (child + 1 < entries_.size() && entries_[child + 1].is_before(entries_[child]))
                ++child;
            if (!entries_[child].is_before(entry)) break;
            put(place, entries_[child]);
            place = child;
        }
        put(place, entry);
    }

    std::vector<Entry> entries_;
    std::uint64_t next_number_ = 0;
};

}  // namespace dst::sim
