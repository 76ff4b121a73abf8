// The real code in a simulated world, from end to end.
#include "sim/smoke.h"

#include <gtest/gtest.h>

#include <string>

namespace dst::sim {
namespace {

std::string traced(std::uint64_t seed) {
    std::string all;
    const auto result = run_smoke(
        {.seed = seed, .requests = 500, .faults = 6, .trace = [&all](std::string_view line) {
             all += line;
             all += '\n';
         }});
    EXPECT_EQ(result.failure, "") << "seed " << seed;
    return all;
}

TEST(SmokeTest, every_request_is_answered_right_whatever_happens_to_the_exporter) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        const auto result = run_smoke({.seed = seed, .requests = 1000});
        EXPECT_EQ(result.failure, "") << "seed " << seed;
        EXPECT_EQ(result.faults, 10u);
    }
}

TEST(SmokeTest, the_same_seed_gives_the_same_trace_byte_for_byte) {
    const std::string first = traced(11);
    EXPECT_GT(first.size(), 10'000u);
    EXPECT_EQ(first, traced(11));
    EXPECT_NE(first, traced(12));
}

TEST(SmokeTest, a_trace_changes_nothing) {
    const auto plain = run_smoke({.seed = 5, .requests = 500});
    const auto with_trace =
        run_smoke({.seed = 5, .requests = 500, .trace = [](std::string_view) {}});
    EXPECT_EQ(plain.digest, with_trace.digest);
    EXPECT_EQ(plain.events, with_trace.events);
}

}  // namespace
}  // namespace dst::sim
