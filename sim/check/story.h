// Story: the history of one sector, for a person.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sim/check/history.h"

namespace dst::sim::check {

/// One line of a request, as it stands in stories and complaints: "write #7 (fua) of 16+8".
[[nodiscard]] std::string to_string(const Operation& operation, History::Number number);
/// Seconds since the world began.
[[nodiscard]] std::string to_string(io::TimePoint time);

class Story {
  public:
    /// About `sector`, up to where `read` and `other` (0: none) contradict each other.
    Story(const History& history, SectorIndex sector, History::Number read, History::Number other);

    [[nodiscard]] Finding finding(std::string_view check, std::string_view text) const;

  private:
    struct Line {
        Order order = 0;
        std::string text;
    };
    /// Those furthest back that are left out, if there are more.
    static constexpr std::size_t kLinesMax = 40;

    void tell(History::Number number);
    void tell_flushes();
    void tell_events();

    const History& history_;
    const SectorIndex sector_;
    const History::Number read_;
    const History::Number other_;
    const std::vector<History::Touch> touches_;
    std::vector<Line> lines_;
};

}  // namespace dst::sim::check
