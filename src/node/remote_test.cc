// Requests of a remote node: who waits for how long, and what a server lacks is done without.
#include "node/test_support.h"

namespace dst::node {
namespace {

TEST_F(RemoteTest, requests_fail_after_hold_and_not_before) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.server.start();
        co_await t.server.kill();
        RemoteSettings settings;
        settings.hold = 300ms;
        t.make(settings);
        const io::TimePoint first = t.now();
        Asked& write = t.begin(t.write(0, 8, 'h'));
        Asked& read = t.begin(t.execute(Op::read, 0, 8));
        Asked& flush = t.begin(t.execute(Op::flush));
        co_await io::sleep_for(t.world.clock, 150ms);
        const io::TimePoint second = t.now();
        Asked& later = t.begin(t.write(8, 8, 'h'));
        EXPECT_EQ(t.remote->status().waiting, 4U);
        co_await t.until([&] { return t.answered() == 4; });
        for (const Asked* one : {&write, &read, &flush, &later}) {
            EXPECT_EQ(one->answer->error().code, ErrorCode::io_error);
            const io::TimePoint since = one == &later ? second : first;
            EXPECT_GE(one->when - since, 295ms);
            EXPECT_LT(one->when - since, 500ms);
        }
        EXPECT_EQ(t.remote->status().waiting, 0U);
        EXPECT_EQ(t.window(), 0U);
    });
}

/// Found by the simulator: a write waited for room in the window behind a slow flush, and when the
/// link broke that time counted as if nobody had been there.
TEST_F(RemoteTest, hold_counts_from_when_nobody_can_answer) {
    run_test([](RemoteTest& t) -> Task<void> {
        RemoteSettings settings = window_of(16 << 10);
        settings.hold = 300ms;
        co_await t.start(settings);
        EXPECT_TRUE((co_await t.write(0, 24, 'a')).has_value());
        t.server.disk.held.insert(Op::flush);
        Asked& waiting = t.begin(t.write(32, 24, 'b'));
        co_await io::sleep_for(t.world.clock, 400ms);
        EXPECT_FALSE(waiting.answer.has_value()) << "the server is slow, but there";
        co_await t.server.kill();
        const io::TimePoint lost = t.now();
        co_await t.until([&] { return waiting.answer.has_value(); });
        EXPECT_EQ(waiting.answer->error().code, ErrorCode::io_error);
        EXPECT_GE(waiting.when - lost, 250ms);
        EXPECT_LT(waiting.when - lost, 500ms);
    });
}

TEST_F(RemoteTest, without_hold_requests_wait_for_the_first_connection) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.server.start();
        co_await t.server.kill();
        t.make();
        Asked& write = t.begin(t.write(0, 8, 'w'));
        co_await io::sleep_for(t.world.clock, 300ms);
        EXPECT_FALSE(write.answer.has_value());
        co_await t.server.start();
        co_await t.until([&] { return write.answer.has_value(); });
        EXPECT_TRUE(write.answer->has_value());
        EXPECT_EQ(t.server.disk.current[7], 'w');
    });
}

TEST_F(RemoteTest, each_reconnect_of_a_plain_server_counts_as_a_restart_and_one_of_ours_does_not) {
    for (const bool ours : {false, true}) {
        server.is_ours = ours;
        run_test([](RemoteTest& t) -> Task<void> {
            co_await t.start();
            EXPECT_EQ(t.remote->status().is_ours, t.server.is_ours);
            EXPECT_TRUE((co_await t.write(0, 8, 'a')).has_value());
            t.server.cut_connections();
            co_await t.until([&] { return t.remote->status().reconnects == 2; });
            EXPECT_EQ(t.remote->status().replayed, t.server.is_ours ? 0U : 1U);
            EXPECT_EQ(t.window(), 8 * kSectorBytes + kOverhead);
            EXPECT_EQ(co_await t.execute(Op::read, 0, 1), Result<>{});
            EXPECT_EQ(t.last_read, "a");
        });
    }
}

TEST_F(RemoteTest, fua_is_made_of_a_flush_where_the_server_has_none) {
    server.flags = static_cast<std::uint16_t>(server.flags & ~nbd::kFlagSendFua);
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.execute(Op::write, 0, 8, 'f', true)).has_value());
        EXPECT_EQ(t.server.disk.durable[0], 'f');
        EXPECT_FALSE(t.server.disk.seen[0].fua);
        EXPECT_EQ(t.server.disk.count(Op::flush), 1U);
        EXPECT_TRUE((co_await t.execute(Op::write_zeroes, 0, 8, 0, true)).has_value());
        EXPECT_EQ(t.server.disk.durable[0], '\0');
        EXPECT_EQ(t.window(), 0U);
        t.server.disk.failing.insert(Op::flush);
        EXPECT_FALSE((co_await t.execute(Op::write, 0, 8, 'g', true)).has_value());
        t.server.disk.failing.clear();
    });
}

TEST_F(RemoteTest, fua_is_sent_where_the_server_has_it_and_kept_all_the_same) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.execute(Op::write, 0, 8, 'f', true)).has_value());
        EXPECT_TRUE(t.server.disk.seen[0].fua);
        EXPECT_EQ(t.server.disk.count(Op::flush), 0U);
        EXPECT_GT(t.window(), 0U);
    });
}

TEST_F(RemoteTest, what_a_server_lacks_is_done_without) {
    server.flags = static_cast<std::uint16_t>(
        server.flags & ~(nbd::kFlagSendTrim | nbd::kFlagSendWriteZeroes | nbd::kFlagSendFastZero));
    server.payload_max = 8192;
    server.is_ours = false;
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_FALSE(t.remote->geometry().can_trim);
        EXPECT_FALSE(t.remote->geometry().can_zero_fast);
        EXPECT_TRUE((co_await t.write(0, 100, 'x')).has_value());
        EXPECT_TRUE((co_await t.execute(Op::trim, 0, 100)).has_value());
        EXPECT_EQ(t.server.disk.count(Op::trim), 0U);
        const auto fast = co_await t.execute(Op::write_zeroes, 0, 100, 0, false, true);
        EXPECT_EQ(fast.error().code, ErrorCode::unsupported);
        EXPECT_EQ(t.server.disk.current[5], 'x');
        EXPECT_TRUE((co_await t.execute(Op::write_zeroes, 10, 80)).has_value());
        EXPECT_EQ(t.server.disk.current[9], 'x');
        EXPECT_EQ(t.server.disk.current[10], '\0');
        EXPECT_EQ(t.server.disk.current[89], '\0');
        EXPECT_EQ(t.server.disk.current[90], 'x');
        // Zeroes made of writes survive a loss of power, too.
        co_await t.server.lose_power();
        std::ranges::fill(t.server.disk.current, '?');
        co_await t.restart();
        EXPECT_EQ(t.server.disk.current[9], 'x');
        EXPECT_EQ(t.server.disk.current[10], '\0');
    });
}

TEST_F(RemoteTest, payload_limits_and_blocks_of_the_server_are_obeyed) {
    server.payload_max = 12288;
    server.block_min = 4096;
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_EQ(t.remote->geometry().block_bytes, 4096U);
        for (std::uint64_t i = 0; i < 20; ++i)
            EXPECT_TRUE((co_await t.write(i * 8, 8, static_cast<char>('a' + i))).has_value());
        t.server.disk.seen.clear();
        EXPECT_TRUE((co_await t.execute(Op::read, 0, 160)).has_value());
        for (std::size_t i = 0; i < 160; ++i)
            EXPECT_EQ(t.last_read[i], static_cast<char>('a' + i / 8));
        EXPECT_TRUE((co_await t.write(0, 160, 'z')).has_value());
        EXPECT_TRUE(std::all_of(t.server.disk.current.begin(), t.server.disk.current.begin() + 160,
                                [](char c) { return c == 'z'; }));
        EXPECT_EQ(t.server.disk.seen.size(), 7 + 7U);
        for (const auto& one : t.server.disk.seen) {
            EXPECT_LE(one.count, 24U);
            EXPECT_EQ(one.first % 8, 0U);
        }
        EXPECT_TRUE((co_await t.execute(Op::write_zeroes, 0, 4096)).has_value());
        EXPECT_EQ(t.server.disk.count(Op::write_zeroes), 1U) << "what has no payload goes whole";
    });
}

TEST_F(RemoteTest, if_connected_fails_at_once_without_a_link) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        for (const Op op : {Op::read, Op::write, Op::write_zeroes, Op::flush, Op::block_status})
            if (op != Op::block_status)
                EXPECT_TRUE((co_await t.if_connected(op)).has_value()) << to_string(op);
        co_await t.server.kill();
        co_await t.until([&] { return !t.remote->is_ready(); });
        const io::TimePoint before = t.now();
        for (const Op op : {Op::read, Op::write, Op::trim, Op::write_zeroes, Op::flush})
            EXPECT_EQ((co_await t.if_connected(op)).error().code, ErrorCode::node_lost)
                << to_string(op);
        EXPECT_EQ((co_await t.remote->digest({SectorIndex(0), SectorCount(8)})).error().code,
                  ErrorCode::node_lost);
        EXPECT_LT(t.now() - before, 50ms);
        EXPECT_EQ(t.remote->status().waiting, 0U);
        // Others wait, and neither kind harms the other.
        Asked& patient = t.begin(t.execute(Op::read, 0, 8));
        EXPECT_EQ((co_await t.if_connected(Op::read)).error().code, ErrorCode::node_lost);
        co_await t.restart();
        co_await t.until([&] { return patient.answer.has_value(); });
        EXPECT_TRUE(patient.answer->has_value());
        EXPECT_TRUE((co_await t.execute(Op::flush)).has_value());
        EXPECT_EQ(t.window(), 0U);
    });
}

TEST_F(RemoteTest, if_connected_fails_as_soon_as_the_link_is_lost) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        t.server.disk.held = {Op::read, Op::write, Op::flush};
        std::vector<Asked*> impatient;
        for (const Op op : {Op::read, Op::write, Op::flush})
            impatient.push_back(&t.begin(t.if_connected(op)));
        Asked& patient = t.begin(t.execute(Op::read, 100, 8));
        co_await t.until([&] { return t.server.disk.arrived == 4; });
        t.server.cut_connections();
        co_await t.until([&] { return t.answered() == 3; }, 1s);
        for (const Asked* one : impatient)
            EXPECT_EQ(one->answer->error().code, ErrorCode::node_lost);
        EXPECT_FALSE(patient.answer.has_value());
        EXPECT_EQ(t.window(), 0U) << "the write is nobody's any more";
        t.server.disk.release();
        co_await t.until([&] { return patient.answer.has_value(); });
        EXPECT_TRUE(patient.answer->has_value());
        EXPECT_TRUE((co_await t.execute(Op::flush)).has_value()) << "no flush has failed";
    });
}

TEST_F(RemoteTest, if_connected_does_not_wait_for_room_in_the_window_of_a_lost_link) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start(window_of(8 << 10));
        EXPECT_TRUE((co_await t.write(0, 12, 'a')).has_value());
        t.server.disk.held = {Op::flush};
        Asked& waits = t.begin(t.if_connected(Op::write));
        co_await io::sleep_for(t.world.clock, 20ms);
        EXPECT_FALSE(waits.answer.has_value());
        t.server.holds_hello = true;
        t.server.cut_connections();
        co_await t.until([&] { return waits.answer.has_value(); }, 1s);
        EXPECT_EQ(waits.answer->error().code, ErrorCode::node_lost);
        t.server.holds_hello = false;
        t.server.hello_gate.wake_all();
        t.server.disk.release();
        co_await t.ready();
    });
}

// Dropping.

}  // namespace
}  // namespace dst::node
