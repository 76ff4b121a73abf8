#include "base/latency.h"

#include <gtest/gtest.h>

namespace dst {
namespace {

using namespace std::chrono_literals;

std::size_t bucket_that_counts(std::chrono::nanoseconds took) {
    Latency latency;
    latency.add(took);
    const auto& buckets = latency.buckets();
    return static_cast<std::size_t>(std::ranges::find(buckets, 1U) - buckets.begin());
}

TEST(Latency, each_bucket_ends_where_it_says) {
    for (std::size_t at = 0; at + 1 < Latency::kBuckets; ++at) {
        EXPECT_EQ(bucket_that_counts(Latency::end_of(at)), at);
        EXPECT_EQ(bucket_that_counts(Latency::end_of(at) + 1ns), at + 1);
    }
    EXPECT_EQ(bucket_that_counts(24h), Latency::kBuckets - 1);
    EXPECT_EQ(bucket_that_counts(0ns), 0U);
    EXPECT_EQ(bucket_that_counts(-5ns), 0U);
}

TEST(Latency, counts_and_adds_up_all_of_them) {
    Latency latency;
    latency.add(1us);
    latency.add(3ms);
    Latency more;
    more.add(2s);
    latency.add(more);
    EXPECT_EQ(latency.count(), 3U);
    EXPECT_EQ(latency.sum(), 2s + 3ms + 1us);
}

}  // namespace
}  // namespace dst
