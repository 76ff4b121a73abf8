// Whole clusters of real daemons and clients.
#include "sim/cluster.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "sim/model_load.h"
#include "sim/smoke.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;
using async::Task;

constexpr SectorCount kSize{2048};

TEST(ClusterTest, a_stack_of_daemons_answers_every_request_right_whatever_happens) {
    for (std::uint64_t seed = 1; seed <= 25; ++seed) {
        const auto result = run_smoke({.seed = seed, .shape = Shape::stack, .requests = 1000});
        EXPECT_EQ(result.failure, "") << "seed " << seed;
    }
}

/// A head over one exporter, and a client of the head.
struct Cluster {
    explicit Cluster(std::uint64_t requests, bool is_node = true) : model(kSize, requests) {
        far.add_disk("/disk", {.size = kSize});
        exporter = &far.add_process("exporter", daemon(config().show(file("d", "/disk"))));
        head = &middle.add_process(
            "head", daemon(config().make(linear("v", {"R: 10.0.0.1/d"})).show(storage("v"))));
        client = &near.add_process(
            "client", sim::client({.endpoint = middle.endpoint(control::kDefaultPort),
                                   .export_name = "v",
                                   .is_node = is_node},
                                  [this] { return std::make_unique<ModelLoad>(model); }));
    }
    void start() {
        exporter->start();
        head->start();
        client->start();
    }
    void stop(Process& process) {
        process.stop();
        EXPECT_TRUE(world.run_until([&] { return !process.is_running(); }, 20s)) << process.name();
    }
    void finish() {
        EXPECT_TRUE(world.run_until([&] { return model.is_over(); }, 60s));
        EXPECT_EQ(model.failure, "");
        for (Process* const process : {client, head, exporter}) stop(*process);
    }

    Model model;
    World world{{.seed = 3}};
    Host& far = world.add_host("far");
    Host& middle = world.add_host("middle");
    Host& near = world.add_host("near");
    Process* exporter = nullptr;
    Process* head = nullptr;
    Process* client = nullptr;
};

/// Kills one of them at every step that it would take, and starts it again.
void kill_everywhere(Process* Cluster::* which, std::uint64_t stride) {
    std::uint64_t steps = 0;
    {
        Cluster whole(100);
        whole.start();
        whole.finish();
        steps = (whole.*which)->steps();
    }
    EXPECT_GT(steps, 300u);
    for (std::uint64_t step = 1; step < steps; step += stride) {
        Cluster cut(100);
        Process& killed = *(cut.*which);
        killed.kill_at_step(step);
        cut.start();
        cut.world.run_until([&] { return !killed.is_running(); }, 10s);
        if (!killed.is_running()) killed.start();
        cut.finish();
        ASSERT_FALSE(testing::Test::HasFailure()) << "killed at step " << step;
    }
}

TEST(ClusterTest, an_exporter_can_be_killed_at_every_step) {
    kill_everywhere(&Cluster::exporter, 5);
}

TEST(ClusterTest, a_head_can_be_killed_at_every_step) { kill_everywhere(&Cluster::head, 7); }

TEST(ClusterTest, a_plain_client_is_served_too) {
    Cluster cluster(500, false);
    cluster.start();
    cluster.finish();
    EXPECT_EQ(cluster.model.answered, 500u);
}

TEST(ClusterTest, a_load_may_run_inside_the_head) {
    World world({.seed = 8});
    Host& host = world.add_host("a");
    host.add_disk("/disk", {.size = kSize});
    Model model(kSize, 300);
    Process& head = host.add_process(
        "head",
        daemon(config().make(linear("v", {"L: /disk"})).show(storage("v")),
               {{.export_name = "v", .make = [&] { return std::make_unique<ModelLoad>(model); }}}));
    head.start();
    EXPECT_TRUE(world.run_until([&] { return model.is_over(); }, 60s));
    EXPECT_EQ(model.failure, "");
    head.stop();
    EXPECT_TRUE(world.run_until([&] { return !head.is_running(); }, 20s));
}

struct Found {
    std::optional<Outcome<control::Status>> status;
    std::optional<Outcome<>> created;
};

Task<void> ask(control::Daemon& daemon, Found& found) {
    found.created = co_await daemon.export_add(memory("extra", ByteCount(1 << 20)));
    found.status = co_await daemon.status();
}

TEST(ClusterTest, commands_change_a_daemon_and_outlive_it) {
    World world({.seed = 8});
    Host& host = world.add_host("a");
    Process& process = host.add_process("daemon", daemon(config()));
    process.start();
    world.run_for(10ms);
    Found found;
    EXPECT_TRUE(process.call([&](Program& program) {
        dynamic_cast<DaemonProgram&>(program).command(
            [&](control::Daemon& daemon) { return ask(daemon, found); });
    }));
    world.run_for(100ms);
    ASSERT_TRUE(found.status.has_value() && found.status->has_value());
    EXPECT_TRUE(found.created->has_value());
    EXPECT_EQ((*found.status)->exports.size(), 1u);
    process.kill();
    process.start();
    world.run_for(1s);
    EXPECT_NE(process.program_as<DaemonProgram>().shown("extra"), nullptr);
}

/// Writes 12 blocks, and no more.
class TwelveBlocks final : public Load {
  public:
    explicit TwelveBlocks(std::uint64_t& written) : written_(written) {}
    Task<void> run(Site site) override {
        for (std::uint64_t at = 0; at < 12; ++at) {
            block::Buffer buffer = co_await site.payloads.allocate(4096);
            block::Request request{.op = block::Op::write,
                                   .range = {SectorIndex(at * 8), SectorCount(8)},
                                   .data = buffer.bytes().first(4096),
                                   .buffer = &buffer};
            if (co_await site.device.execute(request)) ++written_;
        }
    }
    void end() override {}

  private:
    std::uint64_t& written_;
};

/// Found by `dst-sim --scenario stack --seed 7755`: the flush that a node makes by itself went back
/// to the queue when the link broke, and `Remote::stop` waited for it before it failed the queue.
TEST(ClusterTest, a_node_stops_although_a_flush_of_its_own_waits_for_a_lost_peer) {
    World world({.seed = 8});
    Host& far = world.add_host("far");
    Host& near = world.add_host("near");
    far.add_disk("/disk", {.size = kSize, .sync_latency = 60s});
    Process& exporter = far.add_process("exporter", daemon(config().show(file("d", "/disk"))));
    std::uint64_t written = 0;
    Process& client = near.add_process(
        "client", sim::client({.endpoint = far.endpoint(control::kDefaultPort),
                               .export_name = "d",
                               .replay_window = ByteCount(64 << 10)},
                              [&] { return std::make_unique<TwelveBlocks>(written); }));
    exporter.start();
    client.start();
    EXPECT_TRUE(world.run_until([&] { return written == 12; }, 10s));
    world.run_for(100ms);
    exporter.kill();
    world.run_for(1s);
    client.stop();
    EXPECT_TRUE(world.run_until([&] { return !client.is_running(); }, 12s));
}

}  // namespace
}  // namespace dst::sim
