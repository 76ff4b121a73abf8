// Covered: the sectors that some changes cover, as stretches that never touch.
//
// Adding joins what it touches, so each stretch is made once and swallowed once: a hundred thousand
// changes cost a hundred thousand steps, however they lie.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <vector>

#include "base/units.h"

namespace dst::node {

class Covered {
  public:
    /// What of `range` is not covered, in order.
    [[nodiscard]] std::vector<SectorRange> gaps(SectorRange range) {
        std::vector<SectorRange> left;
        SectorIndex at = range.first;
        for (auto next = first_touching(range); next != ends_.end() && next->first < range.end();
             ++next) {
            ++steps_;
            if (next->first > at) left.push_back({at, next->first - at});
            at = std::max(at, next->second);
        }
        if (at < range.end()) left.push_back({at, range.end() - at});
        return left;
    }
    void add(SectorRange range) {
        SectorIndex first = range.first;
        SectorIndex end = range.end();
        for (auto next = first_touching(range); next != ends_.end() && next->first <= end;) {
            ++steps_;
            first = std::min(first, next->first);
            end = std::max(end, next->second);
            next = ends_.erase(next);
        }
        ends_.emplace(first, end);
    }
    /// How many stretches were looked at: what all this has cost, but for finding the first.
    [[nodiscard]] std::uint64_t steps() const { return steps_; }

  private:
    using Ends = std::map<SectorIndex, SectorIndex>;  // of each stretch: begin and end

    [[nodiscard]] Ends::const_iterator first_touching(SectorRange range) const {
        auto next = ends_.upper_bound(range.first);
        if (next != ends_.begin() && std::prev(next)->second >= range.first) --next;
        return next;
    }

    Ends ends_;
    std::uint64_t steps_ = 0;
};

}  // namespace dst::node
