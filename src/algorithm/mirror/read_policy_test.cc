#include "algorithm/mirror/read_policy.h"

#include <gtest/gtest.h>

namespace dst::mirror {
namespace {

constexpr SectorIndex kStart{1000};

TEST(ReadPolicyTest, nearest_takes_whoever_ended_nearest_to_the_start_before_or_behind) {
    const ReadCandidate before{SectorIndex(990), 5, false};
    const ReadCandidate behind{SectorIndex(1011), 0, true};
    EXPECT_TRUE(is_better(ReadPolicy::nearest, kStart, before, behind));
    EXPECT_FALSE(is_better(ReadPolicy::nearest, kStart, behind, before));
    const ReadCandidate at_once{SectorIndex(1000), 9, false};
    EXPECT_TRUE(is_better(ReadPolicy::nearest, kStart, at_once, before));
}

TEST(ReadPolicyTest, of_equally_near_ones_the_less_busy) {
    const ReadCandidate busy{SectorIndex(990), 2, false};
    const ReadCandidate idle{SectorIndex(1010), 1, false};
    EXPECT_TRUE(is_better(ReadPolicy::nearest, kStart, idle, busy));
    EXPECT_FALSE(is_better(ReadPolicy::nearest, kStart, busy, busy));
}

TEST(ReadPolicyTest, least_busy_does_not_look_at_where_it_is) {
    const ReadCandidate near{SectorIndex(1000), 2, true};
    const ReadCandidate far{SectorIndex(0), 1, false};
    EXPECT_TRUE(is_better(ReadPolicy::least_busy, kStart, far, near));
}

TEST(ReadPolicyTest, local_first_prefers_a_far_local_one_to_a_near_remote_one) {
    const ReadCandidate remote{SectorIndex(1000), 0, false};
    const ReadCandidate local{SectorIndex(0), 7, true};
    EXPECT_TRUE(is_better(ReadPolicy::local_first, kStart, local, remote));
    EXPECT_FALSE(is_better(ReadPolicy::nearest, kStart, local, remote));
}

TEST(ReadPolicyTest, names_are_read_as_they_are_written) {
    for (const ReadPolicy policy :
         {ReadPolicy::nearest, ReadPolicy::least_busy, ReadPolicy::local_first})
        EXPECT_EQ(parse_read_policy(to_string(policy)), policy);
    EXPECT_FALSE(parse_read_policy("newest").has_value());
}

}  // namespace
}  // namespace dst::mirror
