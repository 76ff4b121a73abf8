// Judgement: a history, made ready for the judge of sectors.
#pragma once

#include <optional>
#include <vector>

#include "sim/check/history.h"

namespace dst::sim::check {

class Judgement {
  public:
    explicit Judgement(const History& history);

    [[nodiscard]] std::vector<Finding> run(std::size_t most);

  private:
    using Touch = History::Touch;

    using CrashAt = std::vector<Crash>::const_iterator;

    void find_crashes();
    [[nodiscard]] Order first_answer_after(Order crash) const;
    void find_flushes();
    [[nodiscard]] CrashAt crash_within(const Operation& operation) const;
    [[nodiscard]] Change change_of(const Operation& operation, History::Number number) const;
    [[nodiscard]] std::optional<Verdict> judge_sector(SectorIndex sector);

    const History& history_;
    std::vector<Crash> crashes_;
    /// Of each: no request of before it takes effect any more.
    std::vector<Order> settled_after_;
    std::vector<Change> losses_;  // those that took everything
    /// All that ended before `from` is durable as of `at`.
    struct Flush {
        Order from = 0;
        Order at = kNever;
    };
    std::vector<Flush> flushes_;
    std::vector<Change> changes_;  // of each operation; of one that is no change: unused
    std::vector<Change> sector_changes_;
    std::vector<Sight> sector_sights_;
};

}  // namespace dst::sim::check
