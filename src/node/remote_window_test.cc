// The window of a remote node: what is replayed and in which order, what a flush covers, how much
// is kept.
#include "node/test_support.h"

namespace dst::node {
namespace {

TEST_F(RemoteTest, of_overlapping_changes_a_replay_leaves_those_that_were_answered_last) {
    run_test([](RemoteTest& t) -> Task<void> {
        const unsigned seed = std::random_device{}();
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937 random(seed);
        co_await t.start();
        std::size_t changes = 0;
        for (int round = 0; round < 5; ++round) {
            // What no change of this round touched was durable before, and nobody brings it back.
            std::vector<char> model(kSize.value(), '?');
            for (int i = 0; i < 150; ++i, ++changes) {
                const std::uint64_t count = 1 + random() % 30;
                const std::uint64_t at = random() % 60;
                const unsigned kind = random() % 8;
                const char fill = kind == 0 ? '\0' : static_cast<char>('a' + random() % 26);
                const auto done = co_await t.execute(kind == 0 ? Op::write_zeroes : Op::write, at,
                                                     count, fill, kind == 1);
                EXPECT_TRUE(done.has_value());
                std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(at), count, fill);
            }
            co_await t.server.lose_power();
            std::ranges::fill(t.server.disk.current, '?');
            co_await t.restart();
            EXPECT_LE(t.remote->status().replayed, changes);
            for (std::size_t sector = 0; sector < 60; ++sector)
                EXPECT_EQ(t.server.disk.current[sector], model[sector]) << "sector " << sector;
            EXPECT_TRUE((co_await t.execute(Op::flush)).has_value());
            EXPECT_EQ(t.window(), 0U);
        }
    });
}

/// Found by the simulator: the old write was replayed first, and for a moment what the one with FUA
/// had made durable was undone. A head that died in that moment had lost it.
TEST_F(RemoteTest, a_replay_never_undoes_what_is_durable) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.write(0, 16, 'a')).has_value());
        EXPECT_TRUE((co_await t.execute(Op::write, 4, 4, 'b', true)).has_value());
        EXPECT_TRUE((co_await t.write(6, 4, 'c')).has_value());
        co_await t.server.lose_power();
        t.server.disk.seen.clear();
        co_await t.restart();
        std::string seen;
        for (const FarDisk::Seen& one : t.server.disk.seen)
            seen += std::to_string(one.first) + "+" + std::to_string(one.count) + " ";
        EXPECT_EQ(seen, "0+4 10+6 4+2 6+4 ");
        EXPECT_TRUE((co_await t.execute(Op::read, 0, 16)).has_value());
        EXPECT_EQ(t.last_read, "aaaabbccccaaaaaa");
        // What was cut costs nothing once it is durable, in however many pieces.
        EXPECT_TRUE((co_await t.execute(Op::flush)).has_value());
        EXPECT_EQ(t.window(), 0U);
    });
}

TEST_F(RemoteTest, metadata_with_fua_is_kept_only_over_what_is_not_durable) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        const auto note = [&t](std::uint64_t at, char fill) -> Task<void> {
            const block::Buffer buffer = co_await t.payloads.allocate(4096);
            Request request{.op = Op::write,
                            .fua = true,
                            .is_metadata = true,
                            .range = {SectorIndex(at), SectorCount(8)},
                            .data = buffer.bytes().first(4096),
                            .buffer = &buffer};
            std::ranges::fill(request.data, static_cast<std::byte>(fill));
            EXPECT_TRUE((co_await t.remote->execute(request)).has_value());
        };
        co_await note(100, 'a');
        EXPECT_EQ(t.window(), 0U);
        EXPECT_TRUE((co_await t.write(8, 8, 'b')).has_value());
        const std::uint64_t one = t.window();
        EXPECT_GT(one, 0U);
        co_await note(0, 'c');
        co_await note(16, 'd');
        EXPECT_EQ(t.window(), one);
        co_await note(4, 'e');
        EXPECT_EQ(t.window(), 2 * one);
        EXPECT_TRUE((co_await t.write(40, 8, 'f')).has_value());
        co_await note(24, 'g');
        EXPECT_EQ(t.window(), 4 * one) << "it may lie over one of them";
        co_await t.server.lose_power();
        co_await t.restart();
        EXPECT_TRUE((co_await t.execute(Op::read, 0, 32)).has_value());
        EXPECT_EQ(t.last_read, "cccceeeeeeeebbbbddddddddgggggggg");
        EXPECT_TRUE((co_await t.execute(Op::flush)).has_value());
        EXPECT_EQ(t.window(), 0U);
        co_await note(4, 'h');
        EXPECT_EQ(t.window(), 0U) << "what was there is durable";
    });
}

/// Found by the simulator: what a head had written before it crashed was read by its next life, and
/// lost afterwards with the exporter's power, although that life had never crashed.
TEST_F(RemoteTest, what_was_there_before_is_made_durable_before_anything_is_answered) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.server.start();
        t.server.disk.current[3] = 'e';
        t.server.disk.held.insert(Op::flush);
        t.make();
        Asked& read = t.begin(t.execute(Op::read, 0, 8));
        co_await t.until([&] { return t.server.disk.count(Op::flush) == 1; });
        co_await io::sleep_for(t.world.clock, 50ms);
        EXPECT_FALSE(read.answer.has_value());
        t.server.disk.release();
        co_await t.until([&] { return read.answer.has_value(); });
        EXPECT_EQ(t.server.disk.durable[3], 'e');
        co_await t.server.lose_power();
        co_await t.restart();
        EXPECT_EQ(t.server.disk.count(Op::flush), 1U) << "once in a life";
    });
}

TEST_F(RemoteTest, a_node_waits_for_a_peer_that_cannot_make_durable_what_was_there_before) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.server.start();
        t.server.disk.failing.insert(Op::flush);
        t.make();
        Asked& read = t.begin(t.execute(Op::read, 0, 8));
        co_await t.until([&] { return t.server.disk.count(Op::flush) == 2; });
        EXPECT_FALSE(read.answer.has_value());
        co_await t.until([&] {
            return t.remote->status().reason ==
                   "what was there before can't be made durable: a flush failed";
        });
        t.server.disk.failing.clear();
        co_await t.until([&] { return read.answer.has_value(); });
        EXPECT_TRUE(read.answer->has_value());
    });
}

TEST_F(RemoteTest, changes_that_were_not_answered_follow_the_replay) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.write(0, 8, 'a')).has_value());
        t.server.disk.held.insert(Op::write);
        Asked& waiting = t.begin(t.write(4, 8, 'b'));
        co_await t.until([&] { return t.server.disk.arrived == 2; });
        co_await t.server.lose_power();
        t.server.disk.release();
        t.server.disk.seen.clear();
        co_await t.server.start();
        co_await t.until([&] { return waiting.answer.has_value(); });
        EXPECT_TRUE(waiting.answer->has_value());
        EXPECT_EQ(t.server.disk.seen.size(), 2U);
        EXPECT_EQ(t.server.disk.seen[0].first, 0U);
        EXPECT_EQ(t.server.disk.current[4], 'b');
        EXPECT_EQ(t.server.disk.current[3], 'a');
    });
}

TEST_F(RemoteTest, a_flush_covers_only_what_was_answered_before_it_was_sent) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.write(0, 8, 'a')).has_value());
        t.server.disk.held.insert(Op::flush);
        Asked& flush = t.begin(t.execute(Op::flush));
        co_await t.until([&] { return t.server.disk.count(Op::flush) == 1; });
        EXPECT_TRUE((co_await t.write(16, 8, 'b')).has_value());
        t.server.disk.release();
        co_await t.until([&] { return flush.answer.has_value(); });
        EXPECT_TRUE(flush.answer->has_value());
        EXPECT_EQ(t.window(), 8 * kSectorBytes + kOverhead) << "the second write is still kept";
        co_await t.server.lose_power();
        co_await t.restart();
        EXPECT_EQ(t.remote->status().replayed, 1U);
        EXPECT_EQ(t.server.disk.current[16], 'b');
    });
}

TEST_F(RemoteTest, a_write_that_is_in_flight_while_a_flush_is_sent_is_kept) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        t.server.disk.held.insert(Op::write);
        Asked& write = t.begin(t.write(0, 8, 'a'));
        co_await t.until([&] { return t.server.disk.count(Op::write) == 1; });
        EXPECT_TRUE((co_await t.execute(Op::flush)).has_value());
        t.server.disk.release();
        co_await t.until([&] { return write.answer.has_value(); });
        EXPECT_EQ(t.window(), 8 * kSectorBytes + kOverhead);
        co_await t.server.lose_power();
        co_await t.restart();
        EXPECT_EQ(t.server.disk.current[0], 'a');
    });
}

TEST_F(RemoteTest, the_window_stays_within_its_bound_and_is_flushed_by_itself) {
    run_test([](RemoteTest& t) -> Task<void> {
        constexpr std::uint64_t kWindow = 256 << 10;
        co_await t.start(window_of(kWindow));
        const io::TimePoint before = t.now();
        for (int i = 0; i < 300; ++i) {
            EXPECT_TRUE(
                (co_await t.write(static_cast<std::uint64_t>(i) % 200 * 32, 32, 'w')).has_value());
            EXPECT_LE(t.window(), kWindow);
        }
        EXPECT_GT(t.server.disk.count(Op::flush), 10U);
        EXPECT_LT(t.now() - before, 4s);
    });
}

TEST_F(RemoteTest, a_burst_of_writes_beyond_the_window_goes_through_without_a_pause) {
    run_test([](RemoteTest& t) -> Task<void> {
        constexpr std::uint64_t kWindow = 256 << 10;
        co_await t.start(window_of(kWindow));
        const io::TimePoint before = t.now();
        for (std::uint64_t i = 0; i < 40; ++i) t.begin(t.write(i * 32, 32, 'w'));
        while (t.answered() < 40 && t.now() < before + 12s) {
            EXPECT_LE(t.window(), kWindow);
            co_await io::sleep_for(t.world.clock, 1ms);
        }
        EXPECT_EQ(t.answered(), 40U);
        EXPECT_LT(t.now() - before, 2s) << "nobody flushed for those who wait for room";
    });
}

TEST_F(RemoteTest, with_a_server_without_flush_writes_beyond_the_window_go_through) {
    server.flags = static_cast<std::uint16_t>(server.flags & ~nbd::kFlagSendFlush);
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start(window_of(64 << 10));
        EXPECT_FALSE(t.remote->status().has_flush);
        for (std::uint64_t i = 0; i < 4; ++i) {
            // The first one leaves the window less than half full, the second has no room.
            EXPECT_TRUE((co_await t.write(0, 48, 'a')).has_value());
            Asked& second = t.begin(t.write(64, 96, 'b'));
            if (!co_await t.until([&] { return second.answer.has_value(); }, 2s)) break;
        }
        // Awakes the one that sleeps, for the end of the test.
        t.begin(t.write(0, 120, 'c'));
        EXPECT_TRUE((co_await t.execute(Op::flush)).has_value());
        EXPECT_EQ(t.server.disk.count(Op::flush), 0U) << "it does not know it";
    });
}

TEST_F(RemoteTest, a_failed_flush_writes_all_again_before_the_next_may_succeed) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.write(0, 8, 'a')).has_value());
        EXPECT_TRUE((co_await t.write(4, 8, 'b')).has_value());
        t.server.disk.failing.insert(Op::flush);
        EXPECT_FALSE((co_await t.execute(Op::flush)).has_value());
        t.server.disk.failing.clear();
        t.server.disk.current = t.server.disk.durable;  // what it may have done to its cache
        EXPECT_TRUE((co_await t.execute(Op::flush)).has_value());
        EXPECT_EQ(t.server.disk.durable[3], 'a');
        EXPECT_EQ(t.server.disk.durable[4], 'b');
    });
}

TEST_F(RemoteTest, it_connects_again_when_others_have_taken_all_memory) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        std::vector<block::Buffer> taken;
        for (std::size_t size = 1 << 20; size >= 4096; size /= 2)
            for (block::Account* account : {&t.receiving, &t.payloads})
                while (block::Buffer buffer = account->try_allocate(size))
                    taken.push_back(std::move(buffer));
        EXPECT_FALSE(t.receiving.try_allocate(4096));
        // Somebody is there for whatever comes free.
        const auto take_one = [](block::Account& from) -> Task<void> {
            (void)co_await from.allocate(1 << 20);
        };
        t.scope.spawn(take_one(t.payloads));
        t.server.cut_connections();
        co_await t.until([&] { return t.remote->status().reconnects == 2; });
        co_await t.ready();
    });
}

TEST_F(RemoteTest, what_is_answered_during_a_flush_is_given_back_to_who_waits_for_memory) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.write(0, 8, 'a')).has_value());
        std::vector<block::Buffer> taken;
        for (std::size_t size = 1 << 20; size >= 4096; size /= 2)
            while (block::Buffer buffer = t.payloads.try_allocate(size))
                taken.push_back(std::move(buffer));
        t.server.disk.held.insert(Op::flush);
        t.scope.spawn([](block::Account& from) -> Task<void> {
            (void)co_await from.allocate(1 << 20);
        }(t.payloads));
        co_await t.until([&] { return t.server.disk.count(Op::flush) == 1; });
        EXPECT_TRUE((co_await t.execute(Op::trim, 16, 8)).has_value());
        t.server.disk.release();
        co_await t.until([&] { return t.window() == 0; }, 2s);
    });
}

TEST_F(RemoteTest, many_kept_trims_are_replayed) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        constexpr std::uint64_t kTrims = 3000;
        for (std::uint64_t i = 0; i < kTrims; ++i)
            EXPECT_TRUE((co_await t.execute(Op::trim, i * 7 % 2000, 1)).has_value());
        co_await t.server.lose_power();
        t.server.disk.seen.clear();
        co_await t.restart();
        EXPECT_EQ(t.remote->status().replayed, 2000U) << "each place once";
    });
}

// Requests that wait for no link.

}  // namespace
}  // namespace dst::node
