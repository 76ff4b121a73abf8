#include "sim/disk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "sim/test_support.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;
using async::Task;

/// On the heap: a coroutine's frame is not aligned to more than 16 bytes.
struct Block {
    std::unique_ptr<std::byte[], decltype(&std::free)> memory{
        static_cast<std::byte*>(std::aligned_alloc(4096, 4096)), &std::free};
    std::span<std::byte> bytes{memory.get(), 4096};
    void fill(char with) { std::ranges::fill(bytes, static_cast<std::byte>(with)); }
    bool holds(char what) const {
        return std::ranges::all_of(bytes,
                                   [&](std::byte b) { return b == static_cast<std::byte>(what); });
    }
};

/// A file that is opened, and what was found out about it.
struct Desk {
    std::optional<Problem> problem{};
    io::TimePoint opened_at{};
    io::FileOptions options{};
    bool hold = false;
};

Task<void> open(io::World world, Desk& desk) {
    auto opened = co_await world.files.open("/disk", desk.options);
    desk.opened_at = world.clock.now();
    if (!opened) {
        desk.problem = opened.error();
        co_return;
    }
    desk.problem.reset();
    const std::unique_ptr<io::File> file = std::move(*opened);
    while (desk.hold) co_await io::sleep_for(world.clock, 1ms);
}

class SimulatedDiskTest : public testing::Test {
  protected:
    World world{{.seed = 4}};
    Host& host = world.add_host("a");
    Disk& disk = host.add_disk("/disk", {.size = SectorCount(1024)});
};

TEST_F(SimulatedDiskTest, a_disk_is_one_writers_or_many_readers) {
    Desk first{.hold = true};
    Desk second{.hold = true};
    Desk reader{.options = {.read_only = true}, .hold = true};
    Process& one = host.add_process("one", script(open, first));
    Process& two = host.add_process("two", script(open, second));
    Process& three = host.add_process("three", script(open, reader));
    one.start();
    world.run_for(1ms);
    EXPECT_TRUE(disk.is_open());
    two.start();
    three.start();
    world.run_for(3s);
    ASSERT_TRUE(second.problem.has_value());
    EXPECT_EQ(second.problem->code, ErrorCode::busy);
    EXPECT_GE(second.opened_at - EventQueue::kBegin, 2s) << "it was tried again for 2 s";
    EXPECT_EQ(reader.problem->code, ErrorCode::busy);
    one.kill();
    two.kill();
    three.kill();
    world.run_for(1s);
    EXPECT_FALSE(disk.is_open());
    three.start();
    world.run_for(10ms);
    EXPECT_FALSE(reader.problem.has_value());
    three.kill();
}

TEST_F(SimulatedDiskTest, who_looks_on_needs_no_lock_and_keeps_nobody_out) {
    Desk onlooker{.options = {.read_only = true, .looks_on = true}, .hold = true};
    Desk user{.hold = true};
    Process& one = host.add_process("one", script(open, onlooker));
    Process& two = host.add_process("two", script(open, user));
    one.start();
    two.start();
    world.run_for(10ms);
    EXPECT_FALSE(onlooker.problem.has_value());
    EXPECT_FALSE(user.problem.has_value());
    one.kill();
    world.run_for(1s);
    EXPECT_TRUE(disk.is_open());
    one.start();
    world.run_for(10ms);
    EXPECT_FALSE(onlooker.problem.has_value());
    one.kill();
    two.kill();
    world.run_for(1s);
    EXPECT_FALSE(disk.is_open());
}

TEST_F(SimulatedDiskTest, a_successor_of_a_killed_process_gets_the_lock) {
    Desk desk{.hold = true};
    Process& process = host.add_process("p", script(open, desk));
    for (int round = 0; round < 20; ++round) {
        process.start();
        world.run_for(1s);
        ASSERT_FALSE(desk.problem.has_value());
        process.kill();
    }
}

TEST_F(SimulatedDiskTest, what_is_not_there_is_not_found) {
    Desk desk;
    Host& other = world.add_host("b");
    other.add_process("p", script(open, desk)).start();
    world.run_for(1s);
    ASSERT_TRUE(desk.problem.has_value());
    EXPECT_EQ(desk.problem->code, ErrorCode::not_found);
}

Task<void> use(io::World world, Desk& desk) {
    auto opened = co_await world.files.open("/disk", {});
    if (!opened) co_return;
    io::File& file = **opened;
    Block block;
    block.fill('x');
    Block got;
    EXPECT_EQ(file.info().size, ByteCount(512 * 1024));
    EXPECT_NE(file.info().identity, 0u);
    EXPECT_TRUE((co_await file.write(ByteOffset(4096), block.bytes, false)).has_value());
    EXPECT_TRUE((co_await file.sync()).has_value());
    EXPECT_TRUE((co_await file.read(ByteOffset(4096), got.bytes)).has_value());
    EXPECT_TRUE(got.holds('x'));
    const auto past = co_await file.write(ByteOffset(512 * 1024), block.bytes, false);
    EXPECT_EQ(past.error().code, ErrorCode::out_of_range);
    const auto behind = co_await file.read(ByteOffset(512 * 1024), got.bytes);
    EXPECT_EQ(behind.error().code, ErrorCode::io_error);
    const auto askew = co_await file.read(ByteOffset(100), got.bytes);
    EXPECT_EQ(askew.error().code, ErrorCode::invalid);
    const auto extent = co_await file.extent(ByteOffset(0), ByteCount(20000));
    EXPECT_EQ(extent->count, ByteCount(4096));
    EXPECT_TRUE(extent->hole);
    EXPECT_TRUE((co_await file.zero(ByteOffset(4096), ByteCount(4096), true)).has_value());
    EXPECT_TRUE((co_await file.read(ByteOffset(4096), got.bytes)).has_value());
    EXPECT_TRUE(got.holds('\0'));
    EXPECT_TRUE(world.files.store("/etc/x", "content").has_value());
    EXPECT_EQ(*world.files.load("/etc/x"), "content");
    EXPECT_EQ(world.files.load("/etc/y").error().code, ErrorCode::not_found);
    desk.opened_at = world.clock.now();
}

TEST_F(SimulatedDiskTest, a_file_does_what_the_seam_says) {
    Desk desk;
    host.add_process("p", script(use, desk)).start();
    world.run_for(1s);
    EXPECT_GT(desk.opened_at, EventQueue::kBegin);
}

constexpr std::uint64_t kBlocks = 128;

/// What may be found in each block, the oldest first: what the last sync made durable, and what was
/// written since; the last one was not answered perhaps.
struct Stamps {
    std::array<std::vector<char>, kBlocks> versions;
    std::optional<std::uint64_t> in_flight;  // block
    char next = 0;
};

Task<void> stamp(io::World world, Stamps& stamps) {
    auto opened = co_await world.files.open("/disk", {});
    if (!opened) co_return;
    Block block;
    while (true) {
        const std::uint64_t at = world.random.below(kBlocks);
        ++stamps.next;
        block.fill(stamps.next);
        stamps.versions[at].push_back(stamps.next);
        stamps.in_flight = at;
        const bool durable = world.random.below(10) == 0;
        const auto written = co_await (*opened)->write(ByteOffset(at * 4096), block.bytes, durable);
        stamps.in_flight.reset();
        if (written && durable) stamps.versions[at] = {stamps.versions[at].back()};
        if (world.random.below(20) > 0) continue;
        if (co_await (*opened)->sync())
            for (auto& versions : stamps.versions) versions = {versions.back()};
    }
}

char byte_of(Disk& disk, std::uint64_t sector) {
    std::array<std::byte, 512> bytes{};
    disk.medium().read({SectorIndex(sector), SectorCount(1)}, bytes);
    return static_cast<char>(bytes[0]);
}

/// All bytes of the disk are what they may be; they are what the next life begins with.
std::uint64_t check(Disk& disk, Stamps& stamps, bool after_power_cut) {
    std::uint64_t lost = 0;
    for (std::uint64_t block = 0; block < kBlocks; ++block) {
        auto& versions = stamps.versions[block];
        const bool in_flight = stamps.in_flight == block;
        for (std::uint64_t sector = block * 8; sector < block * 8 + 8; ++sector) {
            const char found = byte_of(disk, sector);
            // From the latest one on: stamps come round again.
            const auto place = std::find(versions.rbegin(), versions.rend(), found);
            EXPECT_NE(place, versions.rend()) << "sector " << sector;
            const auto behind = place - versions.rbegin() + 1;
            if (!after_power_cut) EXPECT_LE(behind, in_flight ? 2 : 1) << "sector " << sector;
            if (behind > (in_flight ? 2 : 1)) ++lost;
        }
        // Make it whole again: what a torn write left is no concern of the next life.
        const char left = byte_of(disk, block * 8);
        const std::vector bytes(4096, static_cast<std::byte>(left));
        disk.medium().write({SectorIndex(block * 8), SectorCount(8)}, bytes);
        versions = {left};
    }
    disk.medium().end_sync(disk.medium().begin_sync());
    stamps.in_flight.reset();
    return lost;
}

TEST_F(SimulatedDiskTest,
       a_killed_process_leaves_what_was_answered_and_a_power_cut_what_was_synced) {
    Stamps stamps;
    for (auto& versions : stamps.versions) versions = {'\0'};
    Process& process = host.add_process("p", script(stamp, stamps));
    std::uint64_t lost = 0;
    for (int round = 0; round < 200; ++round) {
        process.start();
        // Less than 128 writes, so that each stamp stands for one write.
        world.run_for(10ms + world.random().up_to(5ms));
        const bool is_power_cut = round % 2 == 1;
        if (is_power_cut)
            host.lose_power();
        else
            process.kill();
        lost += check(disk, stamps, is_power_cut);
        world.run_for(1s);
        host.restore_power();
    }
    EXPECT_GT(lost, 50u);
}

struct Failing {
    std::optional<ErrorCode> write{};
    std::optional<ErrorCode> read{};
    std::optional<ErrorCode> sync{};
    std::optional<ErrorCode> second_sync{};
    bool is_done = false;
};

std::optional<ErrorCode> code_of(const Result<>& result) {
    if (result) return std::nullopt;
    return result.error().code;
}

Task<void> fail(io::World world, Failing& failing) {
    auto opened = co_await world.files.open("/disk", {});
    if (!opened) co_return;
    Block block;
    failing.write = code_of(co_await (*opened)->write(ByteOffset(8192), block.bytes, false));
    failing.read = code_of(co_await (*opened)->read(ByteOffset(0), block.bytes));
    failing.sync = code_of(co_await (*opened)->sync());
    failing.second_sync = code_of(co_await (*opened)->sync());
    failing.is_done = true;
}

TEST_F(SimulatedDiskTest, faults_of_a_disk_are_answered_as_they_are) {
    Failing failing;
    Process& process = host.add_process("p", script(fail, failing));
    const auto run = [&](DiskFaults faults) {
        disk.set_faults(faults);
        failing = {};
        process.start();
        world.run_for(1s);
        EXPECT_TRUE(failing.is_done);
        process.kill();
        world.run_for(1s);
    };
    run({.is_full = true});
    EXPECT_EQ(failing.write, ErrorCode::no_space);
    run({.read_error = percent(100)});
    EXPECT_EQ(failing.read, ErrorCode::io_error);
    EXPECT_EQ(failing.write, std::nullopt);
    run({.write_error = percent(100)});
    EXPECT_EQ(failing.write, ErrorCode::io_error);
    run({.flush_error = percent(100)});
    EXPECT_EQ(failing.sync, ErrorCode::io_error);
    EXPECT_EQ(failing.second_sync, ErrorCode::io_error);
    run({.is_full = true});
    EXPECT_EQ(failing.write, std::nullopt) << "it has its place already";
    EXPECT_EQ(failing.second_sync, std::nullopt) << "the file was opened anew";
    disk.make_unreadable(SectorIndex(3));
    run({});
    EXPECT_EQ(failing.read, ErrorCode::io_error);
}

TEST_F(SimulatedDiskTest, a_failed_flush_stays_failed_until_the_file_is_opened_anew) {
    Failing failing;
    Process& process = host.add_process("p", script(fail, failing));
    disk.set_faults({.flush_error = percent(100)});
    process.start();
    while (!failing.sync) world.run_for(10us);
    disk.set_faults({});
    world.run_for(1s);
    EXPECT_EQ(failing.second_sync, ErrorCode::io_error);
    process.kill();
}

TEST_F(SimulatedDiskTest, a_disk_that_hangs_answers_when_it_goes_on) {
    Failing failing;
    Process& process = host.add_process("p", script(fail, failing));
    disk.set_faults({.hangs = true});
    process.start();
    world.run_for(100s);
    EXPECT_FALSE(failing.is_done);
    EXPECT_TRUE(disk.is_stuck());
    disk.set_faults({});
    world.run_for(1s);
    EXPECT_TRUE(failing.is_done);
    EXPECT_EQ(failing.write, std::nullopt);
    EXPECT_FALSE(disk.is_stuck());
    process.kill();
}

TEST_F(SimulatedDiskTest, a_stuck_request_is_answered_late) {
    Failing failing;
    Process& process = host.add_process("p", script(fail, failing));
    disk.set_faults({.stuck = percent(100)});
    process.start();
    world.run_for(1ms);
    EXPECT_TRUE(disk.is_stuck());
    disk.set_faults({});
    world.run_for(60s);
    EXPECT_TRUE(failing.is_done);
    EXPECT_FALSE(disk.is_stuck());
    process.kill();
}

TEST_F(SimulatedDiskTest, an_exchanged_disk_is_another_one_and_the_old_one_comes_back_as_it_was) {
    std::vector<std::byte> bytes(512, std::byte{'k'});
    disk.medium().write({SectorIndex(9), SectorCount(1)}, bytes);
    const std::uint64_t identity = disk.medium().identity();
    disk.exchange(SectorCount(100));
    EXPECT_NE(disk.medium().identity(), identity);
    EXPECT_EQ(disk.medium().size(), SectorCount(100));
    EXPECT_EQ(byte_of(disk, 9), '\0');
    disk.put_back();
    EXPECT_EQ(disk.medium().identity(), identity);
    EXPECT_EQ(byte_of(disk, 9), 'k');
}

}  // namespace
}  // namespace dst::sim
