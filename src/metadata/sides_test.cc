#include "metadata/sides.h"

#include <gtest/gtest.h>

namespace dst::metadata {
namespace {

const History kBase = next_generation(first_history(1));

bool safe(const History& candidate, const std::vector<History>& votes, std::size_t absent,
          std::size_t majority) {
    Histories present;
    for (const History& vote : votes) present.push_back(&vote);
    return is_safe(candidate, newest_of(present),
                   {.present = present, .absent = absent, .majority = majority});
}

TEST(Sides, newest_are_those_that_nothing_came_after) {
    const History left = fork(kBase, 2);
    const History left_on = next_generation(left);
    const History right = fork(kBase, 3);
    const std::vector<const History*> seen = {&left, &kBase, &left_on, &right, &left_on};
    EXPECT_EQ(newest_of(seen), (Histories{&left_on, &right}));
    EXPECT_TRUE(newest_of({}).empty());
}

TEST(Sides, with_all_votes_here_a_side_of_few_was_never_in_force) {
    const History left = fork(kBase, 2);
    const History right = fork(kBase, 3);
    EXPECT_TRUE(safe(left, {left, left, right}, 0, 2));
    EXPECT_FALSE(safe(right, {left, left, right}, 0, 2));
    // Neither was: either may be gone on with.
    EXPECT_TRUE(safe(left, {left, right, kBase}, 0, 2));
    EXPECT_TRUE(safe(right, {left, right, kBase}, 0, 2));
}

TEST(Sides, a_vote_that_is_away_may_be_on_either) {
    const History left = fork(kBase, 2);
    const History right = fork(kBase, 3);
    EXPECT_FALSE(safe(left, {left, right}, 1, 2));
    EXPECT_FALSE(safe(right, {left, right}, 1, 2));
    // Five votes: two of them away don't make a majority with one.
    EXPECT_TRUE(safe(left, {left, left, right}, 1, 3));
    EXPECT_FALSE(safe(right, {left, left, right}, 1, 3));
}

// Each side of p counts one node for itself, z one too; p, which three votes hold or went on from,
// belongs to two sides and would be counted for nobody.
TEST(Sides, an_age_that_two_sides_went_on_from_is_not_forgotten) {
    const History p = next_generation(fork(kBase, 2));
    const History x = fork(p, 3);
    const History y = fork(p, 4);
    const History z = fork(kBase, 5);
    for (const auto& votes : {std::vector{z, x, y, p}, std::vector{x, y, p, z}}) {
        EXPECT_FALSE(safe(z, votes, 0, 3));
        EXPECT_TRUE(safe(x, votes, 0, 3));
        EXPECT_TRUE(safe(y, votes, 0, 3));
    }
}

TEST(Sides, a_later_generation_of_one_assembling_is_a_side_too) {
    const History on = next_generation(next_generation(kBase));
    const History apart = fork(kBase, 2);
    EXPECT_TRUE(safe(on, {on, on, apart}, 0, 2));
    EXPECT_FALSE(safe(apart, {on, on, apart}, 0, 2));
}

TEST(Sides, where_memory_ends_nothing_is_safe) {
    EXPECT_FALSE(safe(first_history(1), {first_history(1), first_history(2)}, 0, 2));
    History left = fork(kBase, 2);
    const History right = fork(kBase, 3);
    EXPECT_TRUE(safe(left, {left, left, right}, 0, 2));
    left.is_cut_short = true;
    EXPECT_FALSE(safe(left, {left, left, right}, 0, 2));
    EXPECT_TRUE(safe(left, {left, left, left}, 0, 2));
}

}  // namespace
}  // namespace dst::metadata
