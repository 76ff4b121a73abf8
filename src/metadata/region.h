// Regions: the parts of a node that one bit of a bitmap speaks of, numbered from the front of the
// data. As in base/units.h, position and length are different types.
#pragma once

#include <compare>
#include <cstdint>

namespace dst::metadata {

/// A number of regions.
class RegionCount {
  public:
    constexpr RegionCount() = default;
    constexpr explicit RegionCount(std::uint64_t value) : value_(value) {}
    [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
    friend constexpr auto operator<=>(RegionCount, RegionCount) = default;
    friend constexpr RegionCount operator+(RegionCount a, RegionCount b) {
        return RegionCount(a.value_ + b.value_);
    }
    friend constexpr RegionCount operator-(RegionCount a, RegionCount b) {
        return RegionCount(a.value_ - b.value_);
    }
    constexpr RegionCount& operator+=(RegionCount b) {
        value_ += b.value_;
        return *this;
    }

  private:
    std::uint64_t value_ = 0;
};

/// The number of a region.
class RegionIndex {
  public:
    constexpr RegionIndex() = default;
    constexpr explicit RegionIndex(std::uint64_t value) : value_(value) {}
    [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
    constexpr RegionIndex& operator++() {
        ++value_;
        return *this;
    }
    friend constexpr auto operator<=>(RegionIndex, RegionIndex) = default;
    friend constexpr RegionIndex operator+(RegionIndex a, RegionCount b) {
        return RegionIndex(a.value_ + b.value());
    }
    friend constexpr RegionCount operator-(RegionIndex a, RegionIndex b) {
        return RegionCount(a.value_ - b.value_);
    }

  private:
    std::uint64_t value_ = 0;
};

/// Regions `first` to `end() - 1`; may be empty.
struct RegionRange {
    RegionIndex first;
    RegionCount count;

    [[nodiscard]] constexpr RegionIndex end() const { return first + count; }
    friend constexpr bool operator==(const RegionRange&, const RegionRange&) = default;
};

}  // namespace dst::metadata
