#include "node/covered.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace dst::node {
namespace {

SectorRange range(std::uint64_t first, std::uint64_t count) {
    return {SectorIndex(first), SectorCount(count)};
}

TEST(Covered, gaps_are_what_was_not_added) {
    std::mt19937 random(7);
    for (int round = 0; round < 200; ++round) {
        Covered covered;
        std::vector<bool> model(100);
        for (int step = 0; step < 30; ++step) {
            const std::uint64_t count = 1 + random() % 20;
            const std::uint64_t first = random() % (model.size() - count);
            std::vector<bool> free(model.size());
            for (const SectorRange gap : covered.gaps(range(first, count)))
                for (SectorIndex at = gap.first; at < gap.end(); at = at + SectorCount(1)) {
                    EXPECT_FALSE(free[at.value()]) << "told twice";
                    free[at.value()] = true;
                }
            for (std::uint64_t at = 0; at < model.size(); ++at) {
                const bool is_inside = at >= first && at < first + count;
                EXPECT_EQ(free[at], is_inside && !model[at]) << at;
            }
            covered.add(range(first, count));
            for (std::uint64_t at = first; at < first + count; ++at) model[at] = true;
        }
    }
}

TEST(Covered, costs_in_proportion_to_what_was_added) {
    std::mt19937 random(1);
    constexpr std::uint64_t kChanges = 60'000;
    // Small ones far apart; all of one place; something between; and each beside the one before.
    for (const std::uint64_t places : {kChanges, std::uint64_t{1}, std::uint64_t{500}}) {
        Covered covered;
        for (std::uint64_t i = 0; i < kChanges; ++i) {
            const SectorRange change = range(random() % places * 16, 1 + random() % 16);
            (void)covered.gaps(change);
            covered.add(change);
        }
        EXPECT_LE(covered.steps(), 4 * kChanges);
    }
    Covered covered;
    for (std::uint64_t i = 0; i < kChanges; ++i) covered.add(range(i * 8, 8));
    // Now one change over all of them, again and again.
    for (std::uint64_t i = 0; i < kChanges; ++i) {
        EXPECT_TRUE(covered.gaps(range(0, kChanges * 8)).empty());
        covered.add(range(0, kChanges * 8));
    }
    EXPECT_LE(covered.steps(), 4 * kChanges);
}

}  // namespace
}  // namespace dst::node
