// Real daemons and clients in simulated processes.
#include "sim/daemon.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "sim/client.h"
#include "sim/plain_server.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;
using async::Task;

constexpr SectorCount kSize{2048};

control::Config config(std::string_view toml) { return *control::parse_config(toml, "test"); }

control::Config export_of_disk() {
    return config("[[export]]\nname = \"d\"\ndevice = \"/disk\"\n");
}

struct Found {
    std::optional<Outcome<control::Status>> status;
    std::optional<Outcome<>> done;
};

Task<void> add_export(control::Daemon& daemon, Found& found) {
    control::ExportSpec spec;
    spec.name = "extra";
    spec.device = control::MemoryDevice{ByteCount(1 << 20)};
    found.done = co_await daemon.export_add(spec);
    found.status = co_await daemon.status();
}

Task<void> remove_export(control::Daemon& daemon, Found& found) {
    found.done = co_await daemon.export_remove("d");
}

TEST(SimulatedDaemonTest, commands_change_a_daemon_and_outlive_it) {
    World world({.seed = 8});
    Host& host = world.add_host("a");
    Process& process = host.add_process("daemon", daemon({}));
    process.start();
    world.run_for(10ms);
    Found found;
    EXPECT_TRUE(process.call([&](Program& program) {
        dynamic_cast<DaemonProgram&>(program).command(
            [&](control::Daemon& daemon) { return add_export(daemon, found); });
    }));
    world.run_for(100ms);
    ASSERT_TRUE(found.status.has_value() && found.status->has_value());
    EXPECT_TRUE(found.done->has_value());
    EXPECT_EQ((*found.status)->exports.size(), 1u);
    process.kill();
    process.start();
    world.run_for(1s);
    EXPECT_NE(process.program_as<DaemonProgram>().shown("extra"), nullptr);
}

/// Writes blocks of 4 KiB, so many, each after the answer of the one before; or sends all at once.
struct Blocks {
    std::uint64_t count = 12;
    std::uint64_t sent = 0;
    std::uint64_t written = 0;
};

class WriteBlocks final : public Load {
  public:
    explicit WriteBlocks(Blocks& blocks) : blocks_(blocks) {}
    Task<void> run(Site site) override {
        while (blocks_.sent < blocks_.count) {
            const std::uint64_t at = blocks_.sent++;
            block::Buffer buffer = co_await site.payloads.allocate(4096);
            block::Request request{.op = block::Op::write,
                                   .range = {SectorIndex(at * 8), SectorCount(8)},
                                   .data = buffer.bytes().first(4096),
                                   .buffer = &buffer};
            if (co_await site.device.execute(request)) ++blocks_.written;
        }
    }
    void end() override {}

  private:
    Blocks& blocks_;
};

struct ExporterAndClient {
    explicit ExporterAndClient(DiskSettings disk, Process::Main server) {
        far.add_disk("/disk", disk);
        exporter = &far.add_process("exporter", std::move(server));
    }
    void add_client(ByteCount window) {
        client = &near.add_process(
            "client", node_client({.endpoint = far.endpoint(control::kDefaultPort),
                                   .export_name = "d",
                                   .replay_window = window},
                                  [this] { return std::make_unique<WriteBlocks>(blocks); }));
    }

    Blocks blocks;
    World world{{.seed = 8}};
    Host& far = world.add_host("far");
    Host& near = world.add_host("near");
    Process* exporter = nullptr;
    Process* client = nullptr;
};

/// Found by a seed: the flush that a node makes by itself went back to the queue when the link
/// broke, and `Remote::stop` waited for it before it failed the queue.
TEST(SimulatedDaemonTest, a_node_stops_although_a_flush_of_its_own_waits_for_a_lost_peer) {
    ExporterAndClient cluster({.size = kSize}, daemon(export_of_disk()));
    cluster.add_client(ByteCount(64 << 10));
    cluster.exporter->start();
    cluster.client->start();
    // The flush with which a link begins is over by then.
    EXPECT_TRUE(cluster.world.run_until([&] { return cluster.blocks.written == 1; }, 10s));
    cluster.far.disks()[0]->set_sync_latency(60s);
    EXPECT_TRUE(cluster.world.run_until([&] { return cluster.blocks.written == 12; }, 10s));
    cluster.world.run_for(100ms);
    cluster.exporter->kill();
    cluster.world.run_for(1s);
    cluster.client->stop();
    EXPECT_TRUE(cluster.world.run_until([&] { return !cluster.client->is_running(); }, 12s));
}

TEST(SimulatedDaemonTest, a_daemon_may_be_killed_while_an_export_waits_for_its_last_requests) {
    ExporterAndClient cluster({.size = kSize}, daemon(export_of_disk()));
    cluster.add_client(ByteCount(4 << 20));
    cluster.exporter->start();
    cluster.client->start();
    EXPECT_TRUE(cluster.world.run_until([&] { return cluster.blocks.written == 6; }, 10s));
    cluster.far.disks()[0]->set_faults({.hangs = true});
    cluster.world.run_for(100ms);
    EXPECT_EQ(cluster.blocks.sent, 7u);
    Found found;
    EXPECT_TRUE(cluster.exporter->call([&](Program& program) {
        dynamic_cast<DaemonProgram&>(program).command(
            [&](control::Daemon& daemon) { return remove_export(daemon, found); });
    }));
    cluster.world.run_for(1s);
    EXPECT_FALSE(found.done.has_value());
    cluster.exporter->kill();
    EXPECT_FALSE(cluster.exporter->is_running());
    cluster.client->kill();
}

TEST(SimulatedDaemonTest, a_plain_server_serves_a_node_and_has_no_extension) {
    ExporterAndClient cluster({.size = kSize}, plain_server(export_of_disk()));
    cluster.add_client(ByteCount(4 << 20));
    cluster.exporter->start();
    cluster.client->start();
    EXPECT_TRUE(cluster.world.run_until([&] { return cluster.blocks.written == 12; }, 10s));
    EXPECT_FALSE(cluster.client->program_as<ClientProgram>().node()->status().is_ours);
    for (Process* const process : {cluster.client, cluster.exporter}) {
        process->stop();
        EXPECT_TRUE(cluster.world.run_until([&] { return !process->is_running(); }, 20s));
    }
}

}  // namespace
}  // namespace dst::sim
