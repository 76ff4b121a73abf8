// Steps, each at its time, in whole runs.
#include "sim/run/script.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "sim/run/run.h"

namespace dst::sim {
namespace {

constexpr std::string_view kCluster = R"(
about = "A disk behind an exporter, and a node."
[[host]]
name = "far"
disks = [{ path = "/disk", size = "256K" }, { path = "/more", size = "256K" }]
[[host]]
name = "near"
[[daemon]]
name = "exporter"
host = "far"
config = '''
[[export]]
name = "disk"
device = "/disk"
'''
[[daemon]]
name = "head"
host = "near"
starts_later = true
config = '''
[[storage]]
name = "vol"
algorithm = "linear"
nodes = ["R: far/disk"]
[[export]]
name = "vol"
device = "storage:vol"
'''
[[client]]
name = "app"
kind = "plain"
host = "near"
at = "exporter/disk"
requests = 200
[storm]
faults = 0
)";

struct Traced {
    Report report;
    std::vector<std::string> lines;

    /// When a line with that text came, in seconds; -1: never.
    [[nodiscard]] double time_of(std::string_view text) const {
        for (const std::string& line : lines)
            if (line.contains(text)) return std::stod(line);
        return -1;
    }
};

Traced run_with(const std::string& steps) {
    Traced traced;
    const auto scenario = parse_scenario(std::string(kCluster) + steps, "test", 1);
    EXPECT_TRUE(scenario.has_value()) << scenario.error().text;
    traced.report =
        run(*scenario, 1, [&](std::string_view line) { traced.lines.emplace_back(line); });
    return traced;
}

TEST(ScriptTest, faults_strike_when_the_script_says_so) {
    const Traced traced = run_with(R"(
[[step]]
at = "300ms"
do = "kill exporter for 2s"
[[step]]
at = "5s"
do = "partition far - near for 1s"
)");
    EXPECT_TRUE(traced.report.findings.empty());
    EXPECT_EQ(traced.report.faults[static_cast<std::size_t>(Fault::kill)], 1U);
    const double killed = traced.time_of("far/exporter       is killed");
    EXPECT_GT(killed, 0.3);
    EXPECT_LT(killed, 0.8);
    EXPECT_NEAR(traced.time_of("far/exporter       starts, life 2"), killed + 2, 0.2);
    EXPECT_NEAR(traced.time_of("far -> near is cut"), killed + 4.7, 0.1);
    EXPECT_NEAR(traced.time_of("far -> near is whole"), killed + 5.7, 0.1);
}

TEST(ScriptTest, a_step_may_wait_for_requests) {
    const Traced traced = run_with("[[step]]\nafter = 100\ndo = \"pause app for 1s\"\n");
    EXPECT_TRUE(traced.report.findings.empty());
    const double paused = traced.time_of("near/app           is paused");
    EXPECT_GE(paused, traced.time_of("#100: done"));
    EXPECT_LT(paused, traced.time_of("#110: done"));
}

TEST(ScriptTest, a_daemon_may_start_later_and_is_told_what_to_do) {
    const Traced traced = run_with(R"(
[[step]]
at = "1s"
do = "start head"
[[step]]
at = "2s"
do = "tell head: node add vol L: memory:256K"
[[step]]
at = "3s"
do = "tell head: storage stop vol"
[[step]]
at = "4500ms"
do = "tell head: export remove vol"
)");
    EXPECT_TRUE(traced.report.findings.empty());
    EXPECT_GT(traced.time_of("near/head          starts, life 1"), 1);
    EXPECT_GT(traced.time_of("node add vol L: memory:256K: done"), 2);
    // Refused while it is exported, and given again each second.
    EXPECT_GT(traced.time_of("storage stop vol: storage 'vol' is in use by export 'vol'"), 3);
    EXPECT_GT(traced.time_of("storage stop vol: done"), 4.5);
}

}  // namespace
}  // namespace dst::sim
