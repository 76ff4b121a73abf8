#include "sim/process.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "async/wait.h"
#include "sim/test_support.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;
using async::Task;

struct Ticks {
    std::vector<io::Duration> times;
    int most = 1000;
};

Task<void> tick(io::World world, Ticks& ticks) {
    while (static_cast<int>(ticks.times.size()) < ticks.most) {
        co_await io::sleep_for(world.clock, 10ms);
        ticks.times.push_back(world.clock.now() - EventQueue::kBegin);
    }
}

TEST(SimulatedProcessTest, time_is_virtual) {
    World world({.seed = 1});
    Ticks ticks{.times = {}, .most = 100'000};
    Process& process = world.add_host("a").add_process("p", script(tick, ticks));
    process.start();
    world.run_for(500s);
    EXPECT_NEAR(static_cast<double>(ticks.times.size()), 49'900, 100);
    process.kill();
}

TEST(SimulatedProcessTest, a_killed_process_is_gone_and_may_start_again) {
    World world({.seed = 1});
    Ticks ticks;
    Process& process = world.add_host("a").add_process("p", script(tick, ticks));
    process.start();
    world.run_for(55ms);
    process.kill();
    EXPECT_FALSE(process.is_running());
    const std::size_t before = ticks.times.size();
    EXPECT_EQ(before, 5u);
    world.run_for(1s);
    EXPECT_EQ(ticks.times.size(), before);
    process.start();
    EXPECT_EQ(process.lives(), 2u);
    world.run_for(15ms);
    EXPECT_EQ(ticks.times.size(), before + 1);
}

TEST(SimulatedProcessTest, a_paused_process_does_nothing_and_its_timers_fire_late) {
    World world({.seed = 1});
    Ticks ticks;
    Process& process = world.add_host("a").add_process("p", script(tick, ticks));
    process.start();
    world.run_for(15ms);
    process.pause();
    world.run_for(1s);
    EXPECT_EQ(ticks.times.size(), 1u);
    process.resume();
    world.run_for(1ms);
    ASSERT_EQ(ticks.times.size(), 2u);
    EXPECT_GT(ticks.times[1], 1s);
}

TEST(SimulatedProcessTest, an_orderly_stop_waits_for_the_program) {
    World world({.seed = 1});
    Ticks ticks{.times = {}, .most = 10};
    Process& process = world.add_host("a").add_process("p", script(tick, ticks));
    process.start();
    world.run_for(1ms);
    EXPECT_TRUE(process.is_serving());
    process.stop();
    EXPECT_FALSE(process.is_serving());
    EXPECT_TRUE(process.is_running());
    world.run_for(1s);
    EXPECT_FALSE(process.is_running());
    EXPECT_EQ(ticks.times.size(), 10u);
}

class Refuses final : public Program {
  public:
    Task<Outcome<>> start() override { co_return refuse("no disk today"); }
    Task<void> stop() override { co_return; }
};

TEST(SimulatedProcessTest, a_program_that_can_not_start_ends_and_says_why) {
    World world({.seed = 1});
    Process& process =
        world.add_host("a").add_process("p", [](io::World) { return std::make_unique<Refuses>(); });
    process.start();
    world.run_for(1s);
    EXPECT_FALSE(process.is_running());
    EXPECT_EQ(process.refusal(), "no disk today");
}

TEST(SimulatedProcessTest, clocks_of_hosts_differ_for_people_only) {
    World world({.seed = 1});
    Host& a = world.add_host("a");
    Host& b = world.add_host("b");
    const auto before = a.wall_now();
    b.step_wall_clock(-1h);
    EXPECT_EQ(a.wall_now() - b.wall_now(), 1h);
    world.run_for(1s);
    EXPECT_EQ(a.wall_now() - before, 1s);
}

// A small program that stands in every kind of await, killed in each of them ----------------------

struct Pair {
    io::Endpoint server;
    std::uint64_t echoed = 0;
    std::uint64_t served = 0;
};

Task<void> echo(std::unique_ptr<io::Stream> stream, Pair& pair) {
    std::array<std::byte, 64> bytes{};
    const io::Slice slice{std::span(bytes)};
    while (true) {
        const auto got = co_await stream->receive(std::span(&slice, 1));
        if (!got || *got == 0) co_return;
        if (!co_await io::send_all(*stream, std::span(bytes).first(*got))) co_return;
        pair.served += *got;
    }
}

Task<void> serve(io::World world, Pair& pair) {
    auto listener = co_await world.network.listen(pair.server);
    if (!listener) co_return;
    async::Scope scope;
    while (true) {
        auto stream = co_await (*listener)->accept();
        if (!stream) break;
        scope.spawn(echo(std::move(*stream), pair));
    }
    co_await scope.join();
}

Task<void> write_some(io::World& world, io::File& file, async::Event& written) {
    alignas(4096) static constinit std::byte bytes[4096]{};
    co_await async::yield();
    for (std::uint64_t at = 0; at < 4; ++at) {
        (void)co_await file.write(ByteOffset(at * 4096), bytes, at == 2);
        (void)co_await file.sync();
    }
    (void)co_await file.read(ByteOffset(0), bytes);
    (void)co_await file.extent(ByteOffset(0), ByteCount(8192));
    (void)co_await file.zero(ByteOffset(0), ByteCount(4096), true);
    co_await io::sleep_for(world.clock, 1ms);
    written.set();
}

Task<void> ask(io::World& world, Pair& pair) {
    auto stream = co_await world.network.connect(pair.server, world.clock.now() + 5s, 3s);
    if (!stream) co_return;
    std::array<std::byte, 300> bytes{};
    for (int round = 0; round < 3; ++round) {
        if (!co_await io::send_all(**stream, bytes)) co_return;
        for (std::size_t got = 0; got < bytes.size();) {
            const io::Slice slice(bytes.data() + got, bytes.size() - got);
            const auto more = co_await (*stream)->receive(std::span(&slice, 1));
            if (!more || *more == 0) co_return;
            got += *more;
        }
        pair.echoed += bytes.size();
    }
}

Task<void> do_everything(io::World world, Pair& pair) {
    auto file = co_await world.files.open("/disk", {});
    if (!file) co_return;
    async::Scope scope;
    async::Event written;
    scope.spawn(write_some(world, **file, written));
    co_await ask(world, pair);
    co_await written.wait();
    co_await scope.join();
}

struct PairWorld {
    explicit PairWorld(std::uint64_t seed) : world({.seed = seed}) {
        Host& a = world.add_host("a");
        Host& b = world.add_host("b");
        a.add_disk("/disk");
        pair.server = b.endpoint(700);
        server = &b.add_process("server", script(serve, pair));
        client = &a.add_process("client", script(do_everything, pair));
        server->start();
        client->start();
    }
    Pair pair;
    World world;
    Process* server = nullptr;
    Process* client = nullptr;
};

TEST(SimulatedProcessTest, a_process_can_be_killed_wherever_its_coroutines_stand) {
    std::uint64_t steps = 0;
    std::uint64_t served = 0;
    {
        PairWorld whole(3);
        whole.world.run_for(1s);
        steps = whole.client->steps();
        served = whole.server->steps();
        EXPECT_EQ(whole.pair.echoed, 900u);
        EXPECT_EQ(whole.pair.served, 900u);
    }
    EXPECT_GT(steps, 20u);
    for (std::uint64_t step = 1; step <= steps; ++step) {
        PairWorld cut(3);
        cut.client->kill_at_step(step);
        cut.world.run_for(500ms);
        EXPECT_FALSE(cut.client->is_running());
        cut.client->start();
        cut.world.run_for(5s);
        EXPECT_GE(cut.pair.echoed, 900u) << "killed at step " << step;
    }
    for (std::uint64_t step = 1; step <= served; ++step) {
        PairWorld cut(3);
        cut.server->kill_at_step(step);
        cut.world.run_for(500ms);
        EXPECT_FALSE(cut.server->is_running());
    }
}

TEST(SimulatedProcessTest, a_host_can_lose_its_power_at_any_time) {
    for (std::uint64_t at = 0; at < 300; ++at) {
        PairWorld cut(at);
        cut.world.run_for(at * 20us);
        Host& host = at % 2 == 0 ? cut.client->host() : cut.server->host();
        host.lose_power();
        cut.world.run_for(100ms);
        host.restore_power();
        cut.server->stop();
        if (!cut.client->is_running()) cut.client->start();
        if (!cut.server->is_running()) cut.server->start();
        cut.world.run_for(5s);
    }
}

TEST(SimulatedWorldTest, the_same_seed_is_the_same_run) {
    const auto run = [](std::uint64_t seed) {
        PairWorld pair(seed);
        pair.world.run_for(1s);
        return pair.world.digest();
    };
    EXPECT_EQ(run(1), run(1));
    EXPECT_NE(run(1), run(2));
}

}  // namespace
}  // namespace dst::sim
