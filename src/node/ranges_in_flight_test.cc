#include "node/ranges_in_flight.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

namespace dst::node {
namespace {

SectorRange range(std::uint64_t first, std::uint64_t count) {
    return {SectorIndex(first), SectorCount(count)};
}

TEST(RangesInFlight, admits_what_overlaps_nothing_while_there_is_room) {
    RangesInFlight flight;
    EXPECT_TRUE(flight.empty());
    flight.enter(range(100, 10));
    EXPECT_FALSE(flight.admits(range(95, 6)));
    EXPECT_FALSE(flight.admits(range(109, 1)));
    EXPECT_TRUE(flight.admits(range(110, 10)));
    EXPECT_TRUE(flight.admits(range(90, 10)));
    for (std::uint64_t i = 1; i < RangesInFlight::kMax; ++i) flight.enter(range(1000 * i, 1));
    EXPECT_FALSE(flight.admits(range(0, 1))) << "it is full";
    flight.leave(range(100, 10));
    EXPECT_TRUE(flight.admits(range(100, 10)));
    EXPECT_FALSE(flight.admits(range(5000, 1)));
}

/// Replays `changes` as a node does: in order, answered in any order. What it cost, in comparisons.
std::uint64_t cost_of(const std::vector<SectorRange>& changes, std::mt19937& random) {
    RangesInFlight flight;
    std::vector<SectorRange> sent;
    const auto answer_one = [&] {
        const std::size_t at = random() % sent.size();
        flight.leave(sent[at]);
        sent[at] = sent.back();
        sent.pop_back();
    };
    for (const SectorRange change : changes) {
        while (!flight.admits(change)) answer_one();
        for (const SectorRange other : sent) EXPECT_FALSE(other.overlaps(change));
        flight.enter(change);
        sent.push_back(change);
    }
    while (!sent.empty()) answer_one();
    EXPECT_TRUE(flight.empty());
    return flight.comparisons();
}

TEST(RangesInFlight, a_replay_costs_in_proportion_to_its_changes) {
    std::mt19937 random(1);
    // 60,000 small trims, far apart; all of one place; and something between.
    for (const std::uint64_t places : {60'000U, 1U, 500U}) {
        std::vector<SectorRange> changes;
        for (std::uint64_t i = 0; i < 60'000; ++i)
            changes.push_back(range(random() % places * 16, 1 + random() % 16));
        // Each change is looked at once, and again after each answer: two looks a change.
        EXPECT_LE(cost_of(changes, random), 2 * changes.size() * RangesInFlight::kMax);
    }
}

}  // namespace
}  // namespace dst::node
