// Latency: how long something took, many times. A histogram of fixed size: counting allocates
// nothing and costs nanoseconds.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace dst {

class Latency {
  public:
    /// Bucket `i` counts what took at most 4^i microseconds and more than the one before; the last
    /// one counts all that took longer.
    static constexpr std::size_t kBuckets = 14;

    void add(std::chrono::nanoseconds took) {
        const auto nanoseconds =
            static_cast<std::uint64_t>(std::max<std::int64_t>(took.count(), 0));
        ++buckets_[bucket_of(nanoseconds)];
        nanoseconds_ += nanoseconds;
    }
    [[nodiscard]] const std::array<std::uint64_t, kBuckets>& buckets() const { return buckets_; }
    [[nodiscard]] std::uint64_t count() const {
        std::uint64_t count = 0;
        for (const std::uint64_t in_bucket : buckets_) count += in_bucket;
        return count;
    }
    /// Of all that was added.
    [[nodiscard]] std::chrono::nanoseconds sum() const {
        return std::chrono::nanoseconds(nanoseconds_);
    }
    /// What bucket `at` goes up to; not of the last one.
    [[nodiscard]] static constexpr std::chrono::microseconds end_of(std::size_t at) {
        return std::chrono::microseconds(std::int64_t{1} << (2 * at));
    }

    void add(const Latency& other) {
        for (std::size_t at = 0; at < kBuckets; ++at) buckets_[at] += other.buckets_[at];
        nanoseconds_ += other.nanoseconds_;
    }

  private:
    static constexpr std::size_t bucket_of(std::uint64_t nanoseconds) {
        if (nanoseconds <= 1000) return 0;
        // The number of whole microseconds that are full before it: 1 for 1001 ns to 2000 ns.
        const std::uint64_t full = (nanoseconds - 1) / 1000;
        return std::min<std::size_t>((static_cast<std::size_t>(std::bit_width(full)) + 1) / 2,
                                     kBuckets - 1);
    }

    std::array<std::uint64_t, kBuckets> buckets_{};
    std::uint64_t nanoseconds_ = 0;
};

}  // namespace dst
