// Histogram of durations: exact to 3 %, of fixed size, nothing allocated while it counts.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace dst::cli {

/// Buckets are linear within each power of two: 32 of them, so none is wider than 1/32 of its
/// value.
class Histogram {
  public:
    void add(std::uint64_t value) {
        ++buckets_[bucket_of(value)];
        ++count_;
        sum_ += value;
        if (value > max_) max_ = value;
    }
    void add(const Histogram& other) {
        for (std::size_t at = 0; at < buckets_.size(); ++at) buckets_[at] += other.buckets_[at];
        count_ += other.count_;
        sum_ += other.sum_;
        if (other.max_ > max_) max_ = other.max_;
    }
    [[nodiscard]] std::uint64_t count() const { return count_; }
    [[nodiscard]] std::uint64_t max() const { return max_; }
    [[nodiscard]] double mean() const {
        return count_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(count_);
    }
    /// The value that a share of `part` (0..1) does not exceed, rounded up to its bucket's end.
    [[nodiscard]] std::uint64_t quantile(double part) const {
        const auto wanted = static_cast<std::uint64_t>(part * static_cast<double>(count_));
        std::uint64_t seen = 0;
        for (std::size_t at = 0; at < buckets_.size(); ++at) {
            seen += buckets_[at];
            if (seen > wanted) return end_of(at) < max_ ? end_of(at) : max_;
        }
        return max_;
    }

  private:
    static constexpr unsigned kShift = 5;
    static constexpr std::size_t kLinear = 1 << kShift;

    static std::size_t bucket_of(std::uint64_t value) {
        if (value < kLinear) return value;
        const auto power = static_cast<unsigned>(std::bit_width(value)) - 1 - kShift;
        return (power + 1) * kLinear + ((value >> power) - kLinear);
    }
    static std::uint64_t end_of(std::size_t bucket) {
        if (bucket < kLinear) return bucket;
        const std::size_t power = bucket / kLinear - 1;
        return ((kLinear + bucket % kLinear + 1) << power) - 1;
    }

    std::array<std::uint64_t, kLinear * (64 - kShift + 1)> buckets_{};
    std::uint64_t count_ = 0;
    std::uint64_t sum_ = 0;
    std::uint64_t max_ = 0;
};

}  // namespace dst::cli
