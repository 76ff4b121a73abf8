#include "sim/faults.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "sim/test_support.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;
using async::Task;

struct Nothing {};
Task<void> idle(io::World world, Nothing&) { co_await io::sleep_for(world.clock, 1h); }
/// One that does not stop when it is told to.
class Stubborn final : public Program {
  public:
    explicit Stubborn(io::World world) : world_(world) {}
    Task<Outcome<>> start() override { co_return Outcome<>{}; }
    Task<void> stop() override { co_await io::sleep_for(world_.clock, 1h); }

  private:
    io::World world_;
};

struct FaultsTest : testing::Test {
    Nothing nothing;
    World world{{.seed = 5}};
    Keeper keeper{world};
    Faults faults{world, keeper};
    Host& far = world.add_host("far");
    Host& near = world.add_host("near");
    Disk& disk = far.add_disk("/disk");
    Process& process = far.add_process("p", script(idle, nothing));
};

TEST_F(FaultsTest, every_fault_has_a_name_and_a_target) {
    EXPECT_EQ(all_faults().size(), kFaultKinds);
    for (const Fault fault : all_faults()) EXPECT_EQ(parse_fault(to_string(fault)), fault);
    EXPECT_EQ(parse_fault("a fault"), std::nullopt);
    EXPECT_EQ(target_kind(Fault::pause), TargetKind::process);
    EXPECT_EQ(target_kind(Fault::power_cut), TargetKind::host);
    EXPECT_EQ(target_kind(Fault::flip_bits), TargetKind::link);
    EXPECT_EQ(target_kind(Fault::bit_rot), TargetKind::disk);
    EXPECT_EQ(target_kind(Fault::metadata_rot), TargetKind::disk);
    EXPECT_EQ(target_kind(Fault::smaller_disk), TargetKind::used_disk);
}

TEST_F(FaultsTest, nothing_strikes_that_was_not_permitted) {
    EXPECT_FALSE(faults.strike());
    keeper.keep(process);
    world.run_for(10ms);
    faults.permit({.faults = {Fault::pause}, .targets = {{.process = &process}}});
    EXPECT_TRUE(faults.strike());
    EXPECT_TRUE(process.is_paused());
    EXPECT_FALSE(faults.strike()) << "it is paused already";
    EXPECT_EQ(faults.count(Fault::pause), 1U);
    EXPECT_EQ(faults.total(), 1U);
}

TEST_F(FaultsTest, a_permit_may_be_used_up) {
    faults.permit({.faults = {Fault::clock_step}, .targets = {{.host = &far}}, .most = 2});
    EXPECT_TRUE(faults.strike());
    EXPECT_TRUE(faults.strike());
    EXPECT_FALSE(faults.strike());
}

TEST_F(FaultsTest, a_fault_ends_in_time_and_leaves_others_alone) {
    const Target target{.disk = &disk};
    EXPECT_TRUE(faults.strike(Fault::hanging_disk, target, 2s));
    EXPECT_TRUE(faults.strike(Fault::full_disk, target, 5s));
    EXPECT_TRUE(disk.faults().hangs && disk.faults().is_full);
    EXPECT_FALSE(faults.strike(Fault::full_disk, target, 5s)) << "it is full already";
    world.run_for(3s);
    EXPECT_FALSE(disk.faults().hangs);
    EXPECT_TRUE(disk.faults().is_full);
    world.run_for(3s);
    EXPECT_FALSE(disk.faults().is_full);
    EXPECT_EQ(faults.log()[0].end - faults.log()[0].begin, io::Duration(2s));
    EXPECT_EQ(faults.log()[1].end - faults.log()[1].begin, io::Duration(5s));
}

TEST_F(FaultsTest, calm_ends_everything_and_nothing_strikes_any_more) {
    keeper.keep(process);
    world.run_for(10ms);
    EXPECT_TRUE(faults.strike(Fault::partition, {.host = &far, .other = &near}, {}));
    EXPECT_TRUE(faults.strike(Fault::slow_disk, {.disk = &disk}, {}));
    EXPECT_TRUE(faults.strike(Fault::power_cut, {.host = &far}, {}));
    world.run_for(100s);
    EXPECT_FALSE(far.has_power() || process.is_running());
    EXPECT_TRUE(world.network().is_cut(far, near) && world.network().is_cut(near, far));
    faults.calm();
    EXPECT_TRUE(far.has_power());
    EXPECT_FALSE(world.network().is_cut(far, near) || world.network().is_cut(near, far));
    EXPECT_EQ(disk.faults().slowness, io::Duration(0));
    world.run_for(2s);
    EXPECT_TRUE(process.is_serving());
    EXPECT_FALSE(faults.strike(Fault::kill, {.process = &process}, 1s));
    for (const Struck& struck : faults.log()) EXPECT_LE(struck.end, world.now());
}

TEST_F(FaultsTest, many_faults_strike_in_the_time_that_they_are_given) {
    keeper.keep(process);
    faults.permit({.faults = {Fault::kill, Fault::restart, Fault::pause},
                   .targets = {{.process = &process}}});
    faults.permit({.faults = {Fault::partition, Fault::slow_link},
                   .targets = {{.host = &far, .other = &near}}});
    faults.strike_often(40, 300ms);
    world.run_for(120s);
    EXPECT_EQ(faults.total(), 40U);
    for (const Fault fault : {Fault::kill, Fault::partition, Fault::slow_link})
        EXPECT_GE(faults.count(fault), 2U) << to_string(fault);
}

TEST_F(FaultsTest, an_exchanged_disk_is_put_back_and_is_the_old_one) {
    keeper.keep(process);
    const std::uint64_t identity = disk.medium().identity();
    EXPECT_TRUE(faults.strike(Fault::exchanged_disk, {.process = &process, .disk = &disk}, 2s));
    EXPECT_FALSE(process.is_running()) << "nobody has it open while it is exchanged";
    world.run_for(2s);
    EXPECT_TRUE(process.is_running());
    EXPECT_NE(disk.medium().identity(), identity);
    world.run_for(10s);
    EXPECT_EQ(disk.medium().identity(), identity);
    EXPECT_TRUE(process.is_running());
}

TEST_F(FaultsTest, who_is_kept_comes_back_and_who_is_held_down_does_not) {
    keeper.keep(process);
    process.kill();
    world.run_for(200ms);
    EXPECT_TRUE(process.is_running());
    process.kill();
    keeper.hold_down(process, 5s);
    world.run_for(4s);
    EXPECT_FALSE(process.is_running());
    keeper.keep(process);
    EXPECT_TRUE(process.is_running()) << "whatever held it down";
    keeper.retire();
    process.kill();
    world.run_for(10s);
    EXPECT_FALSE(process.is_running());
    keeper.resume();
    EXPECT_TRUE(process.is_running());
}

TEST_F(FaultsTest, who_does_not_stop_in_time_is_named_and_killed) {
    Process& stubborn =
        far.add_process("stubborn", [](io::World of) { return std::make_unique<Stubborn>(of); });
    keeper.keep(stubborn);
    world.run_for(10ms);
    stubborn.stop();
    world.run_for(11s);
    EXPECT_TRUE(stubborn.is_stopping());
    EXPECT_TRUE(keeper.complaints().empty());
    world.run_for(2s);
    EXPECT_FALSE(stubborn.is_stopping());
    ASSERT_EQ(keeper.complaints().size(), 1U);
    EXPECT_EQ(keeper.complaints()[0], "far/stubborn was asked to stop and has not for 12 s");
}

}  // namespace
}  // namespace dst::sim
