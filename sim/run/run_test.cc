// The real code in a simulated world, from end to end.
#include "sim/run/run.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "sim/run/stage.h"
#include "sim/scenario/library.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

Scenario scenario(const std::string& name, std::uint64_t seed, unsigned requests) {
    Scenario loaded = *load_scenario(name, seed);
    for (ClientSpec& client : loaded.clients) client.requests = requests;
    return loaded;
}

std::string first_of(const Report& report) {
    return report.findings.empty() ? "" : report.findings[0].check + ": " + report.findings[0].text;
}

TEST(RunTest, every_scenario_runs_clean) {
    for (const LibraryEntry& entry : library())
        for (std::uint64_t seed = 1; seed <= 5; ++seed) {
            const Report report = run(scenario(std::string(entry.name), seed, 700), seed);
            EXPECT_EQ(first_of(report), "") << entry.name << ", seed " << seed;
        }
}

TEST(RunTest, all_faults_strike_that_a_scenario_wants) {
    const Report report = run(scenario("exporter", 3, 500), 3);
    EXPECT_EQ(std::accumulate(report.faults.begin(), report.faults.end(), std::uint64_t{0}), 10u);
    EXPECT_GE(report.requests, 500u);
    EXPECT_EQ(report.failed, 0u);
}

std::string traced(std::uint64_t seed) {
    std::string all;
    static_cast<void>(run(scenario("default", seed, 500), seed, [&all](std::string_view line) {
        all += line;
        all += '\n';
    }));
    return all;
}

TEST(RunTest, the_same_seed_gives_the_same_trace_byte_for_byte) {
    const std::string first = traced(11);
    EXPECT_GT(first.size(), 10'000u);
    EXPECT_EQ(first, traced(11));
    EXPECT_NE(first, traced(12));
}

TEST(RunTest, a_trace_changes_nothing) {
    const Report plain = run(scenario("default", 5, 500), 5);
    const Report with_trace = run(scenario("default", 5, 500), 5, [](std::string_view) {});
    EXPECT_EQ(plain.digest, with_trace.digest);
    EXPECT_EQ(plain.events, with_trace.events);
}

// Killed everywhere ------------------------------------------------------------------------------

constexpr std::string_view kQuiet = R"(
about = "An exporter, a head over it, and a client of the head; nothing goes wrong by itself."
[[host]]
name = "far"
disks = [{ path = "/disk", size = "1M" }]
[[host]]
name = "middle"
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
host = "middle"
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
kind = "node"
host = "near"
at = "head/vol"
requests = 100
[storm]
faults = 0
)";

/// Runs it by hand; `step`: `killed` is killed when it has taken so many. What was found.
std::string run_quietly(std::string_view killed, std::uint64_t step, std::uint64_t& steps) {
    const Scenario quiet = *parse_scenario(kQuiet, "quiet", 1);
    Stage stage(quiet, 3, {});
    Process& process = *stage.find_process(killed);
    if (step > 0) process.kill_at_step(step);
    for (const Stage::Server& server : stage.servers()) stage.keeper().keep(*server.process);
    Stage::Customer& app = *stage.customers().front();
    stage.keeper().keep(*app.process);
    const auto is_over = [&] { return app.workload->has_device() && app.workload->is_over(); };
    if (!stage.world().run_until(is_over, 60s)) return app.workload->state();
    app.workload->read_back();
    if (!stage.world().run_until(is_over, 60s)) return app.workload->state();
    steps = process.steps();
    stage.keeper().retire();
    for (Process* const each : stage.in_order_of_stop()) {
        each->stop();
        if (!stage.world().run_until([&] { return !each->is_running(); }, 20s)) return each->name();
    }
    const auto findings = app.volume->history().judge(1);
    return findings.empty() ? "" : findings[0].text + "\n" + findings[0].story;
}

void kill_everywhere(std::string_view killed, std::uint64_t stride) {
    std::uint64_t steps = 0;
    EXPECT_EQ(run_quietly(killed, 0, steps), "");
    EXPECT_GT(steps, 300u);
    const std::uint64_t last = steps;
    for (std::uint64_t step = 1; step < last; step += stride)
        ASSERT_EQ(run_quietly(killed, step, steps), "") << killed << " killed at step " << step;
}

TEST(RunTest, an_exporter_can_be_killed_at_every_step) { kill_everywhere("exporter", 5); }
TEST(RunTest, a_head_can_be_killed_at_every_step) { kill_everywhere("head", 7); }
TEST(RunTest, a_client_can_be_killed_at_every_step) { kill_everywhere("app", 7); }

}  // namespace
}  // namespace dst::sim
