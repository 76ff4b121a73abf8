// RangesInFlight: what is being replayed at this moment, so that no change overtakes one that it
// overlaps. Looking costs what is in flight, never what is kept: a window of a hundred thousand
// small changes is replayed in as many steps.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "base/units.h"

namespace dst::node {

class RangesInFlight {
  public:
    static constexpr std::size_t kMax = 64;

    /// There is room, and nothing in flight overlaps `range`.
    [[nodiscard]] bool admits(SectorRange range) {
        if (count_ == kMax) return false;
        return std::ranges::none_of(std::span(ranges_).first(count_), [&](SectorRange other) {
            ++comparisons_;
            return other.overlaps(range);
        });
    }
    void enter(SectorRange range) {
        CHECK(count_ < kMax);
        ranges_[count_++] = range;
    }
    /// `range` has entered, and is alone in flight with these sectors.
    void leave(SectorRange range) {
        const auto in_flight = std::span(ranges_).first(count_);
        const auto at = std::ranges::find(in_flight, range);
        CHECK(at != in_flight.end());
        *at = in_flight.back();
        --count_;
    }
    [[nodiscard]] bool empty() const { return count_ == 0; }
    /// How often two ranges were compared: what all this has cost.
    [[nodiscard]] std::uint64_t comparisons() const { return comparisons_; }

  private:
    std::array<SectorRange, kMax> ranges_{};
    std::size_t count_ = 0;
    std::uint64_t comparisons_ = 0;
};

}  // namespace dst::node
