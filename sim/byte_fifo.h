// ByteFifo: bytes in, bytes out, in order: a ring that doubles when it is full.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

#include "base/check.h"

namespace dst::sim {

class ByteFifo {
  public:
    [[nodiscard]] std::size_t size() const { return size_; }
    void clear() { first_ = size_ = 0; }

    void put(std::span<const std::byte> bytes) {
        if (bytes.empty()) return;
        if (size_ + bytes.size() > capacity_) grow(size_ + bytes.size());
        const std::size_t at = (first_ + size_) & (capacity_ - 1);
        const std::size_t until_end = std::min(bytes.size(), capacity_ - at);
        std::memcpy(ring_.get() + at, bytes.data(), until_end);
        if (until_end < bytes.size())
            std::memcpy(ring_.get(), bytes.data() + until_end, bytes.size() - until_end);
        size_ += bytes.size();
    }
    void take(std::span<std::byte> into) {
        CHECK(into.size() <= size_);
        if (into.empty()) return;
        const std::size_t until_end = std::min(into.size(), capacity_ - first_);
        std::memcpy(into.data(), ring_.get() + first_, until_end);
        if (until_end < into.size())
            std::memcpy(into.data() + until_end, ring_.get(), into.size() - until_end);
        drop(into.size());
    }
    void drop(std::size_t count) {
        CHECK(count <= size_);
        size_ -= count;
        first_ = size_ == 0 ? 0 : (first_ + count) & (capacity_ - 1);
    }
    /// The byte that comes out after `index` others.
    [[nodiscard]] std::byte& at(std::size_t index) {
        CHECK(index < size_);
        return ring_[(first_ + index) & (capacity_ - 1)];
    }

  private:
    void grow(std::size_t wanted) {
        std::size_t larger = std::max<std::size_t>(capacity_ * 2, 4096);
        while (larger < wanted) larger *= 2;
        auto ring = std::make_unique_for_overwrite<std::byte[]>(larger);
        const std::size_t kept = size_;
        take({ring.get(), kept});
        ring_ = std::move(ring);
        capacity_ = larger;
        first_ = 0;
        size_ = kept;
    }

    std::unique_ptr<std::byte[]> ring_;
    std::size_t capacity_ = 0;  // a power of two, or 0
    std::size_t first_ = 0;
    std::size_t size_ = 0;
};

}  // namespace dst::sim
