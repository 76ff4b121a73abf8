// The link of a remote node: drops, peers that grow, and that a stop ends in time wherever it
// stands.
#include "node/test_support.h"

namespace dst::node {
namespace {

TEST_F(RemoteTest, a_drop_fails_what_waits_and_forgets_what_was_kept) {
    run_test([](RemoteTest& t) -> Task<void> {
        Notes notes;
        t.observer = &notes;
        co_await t.start();
        EXPECT_TRUE((co_await t.write(0, 8, 'a')).has_value());
        EXPECT_TRUE((co_await t.write(8, 8, 'b')).has_value());
        t.server.disk.held = {Op::write, Op::flush, Op::read};
        t.begin(t.write(16, 8, 'c'));
        t.begin(t.execute(Op::flush));
        t.begin(t.execute(Op::flush));  // waits for its turn
        t.begin(t.execute(Op::read, 0, 8));
        co_await t.until([&] { return t.server.disk.arrived == 5; });
        EXPECT_EQ(t.remote->drop().value(), 2 * (8 * kSectorBytes + kOverhead));
        EXPECT_FALSE(t.remote->is_ready());
        Asked& after = t.begin(t.write(24, 8, 'd'));
        co_await t.until([&] { return t.answered() == 4; }, 1s);
        for (std::size_t i = 0; i < 4; ++i)
            EXPECT_EQ(t.asked[i].answer->error().code, ErrorCode::node_lost);
        EXPECT_FALSE(after.answer.has_value()) << "it belongs to what comes";
        t.server.disk.release();
        co_await t.until([&] { return after.answer.has_value(); });
        EXPECT_TRUE(after.answer->has_value());
        EXPECT_EQ(t.remote->status().replayed, 0U);
        std::erase(notes.told, 'R');
        EXPECT_EQ(notes.told, "rlr");
        // What is written from here on is kept as ever.
        co_await t.server.lose_power();
        EXPECT_EQ(t.server.disk.current[24], '\0');
        co_await t.restart();
        EXPECT_EQ(t.server.disk.current[24], 'd');
        EXPECT_EQ(t.remote->status().replayed, 1U) << "what was dropped was written again";
        co_await t.stop();
    });
}

TEST_F(RemoteTest, a_drop_without_a_link_fails_what_waits_with_the_error_that_is_given) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start(window_of(16 << 10));
        EXPECT_TRUE((co_await t.write(0, 24, 'a')).has_value());
        co_await t.server.kill();
        co_await t.until([&] { return !t.remote->is_ready(); });
        Asked& read = t.begin(t.execute(Op::read, 0, 8));
        Asked& write = t.begin(t.write(0, 24, 'b'));  // there is no room in the window
        EXPECT_EQ(t.remote->drop({ErrorCode::timed_out, "test"}).value(),
                  24 * kSectorBytes + kOverhead);
        co_await t.until([&] { return t.answered() == 2; }, 1s);
        EXPECT_EQ(read.answer->error().code, ErrorCode::timed_out);
        EXPECT_EQ(write.answer->error().code, ErrorCode::timed_out);
        EXPECT_EQ(t.window(), 0U);
        co_await t.restart();
        EXPECT_TRUE((co_await t.write(0, 24, 'c')).has_value());
    });
}

TEST_F(RemoteTest, a_drop_amid_a_replay_ends_it) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        for (std::uint64_t i = 0; i < 100; ++i)
            EXPECT_TRUE((co_await t.write(i % 10 * 8, 8, 'a')).has_value());
        co_await t.server.lose_power();
        t.server.disk.held = {Op::write};
        t.server.disk.arrived = 0;
        co_await t.server.start();
        co_await t.until([&] { return t.server.disk.arrived > 0; });
        // Each sector once: the replay has cut out what was written over.
        EXPECT_EQ(t.remote->drop().value(), 10 * (8 * kSectorBytes + kOverhead));
        t.server.disk.release();
        co_await t.ready();
        EXPECT_EQ(t.window(), 0U);
        EXPECT_EQ(t.remote->status().replayed, 0U);
        EXPECT_TRUE((co_await t.write(0, 8, 'b')).has_value());
        EXPECT_TRUE((co_await t.execute(Op::flush)).has_value());
        EXPECT_EQ(t.server.disk.durable[0], 'b');
    });
}

TEST_F(RemoteTest, a_drop_after_a_failed_flush_lets_later_flushes_succeed) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.fail_to_write_again();
        t.remote->drop();
        t.server.disk.failing.clear();
        EXPECT_TRUE((co_await t.execute(Op::flush)).has_value());
        EXPECT_TRUE((co_await t.execute(Op::read, 0, 8)).has_value()) << "nothing is unwritable";
    });
}

TEST_F(RemoteTest, nothing_is_said_of_what_could_not_be_written_again) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.fail_to_write_again();
        t.server.disk.failing.clear();
        // The old content is there, and would be told.
        EXPECT_FALSE((co_await t.execute(Op::read, 4, 8)).has_value());
        EXPECT_FALSE((co_await t.execute(Op::block_status, 4, 8)).has_value());
        EXPECT_TRUE((co_await t.execute(Op::block_status, 8, 8)).has_value());
        EXPECT_TRUE((co_await t.write(0, 8, 'b')).has_value());
        EXPECT_TRUE((co_await t.execute(Op::block_status, 4, 8)).has_value());
    });
}

// The gate.

TEST_F(RemoteTest, it_connects_anew_to_learn_how_large_its_peer_is) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        t.server.size = kSize + SectorCount(1000);
        EXPECT_TRUE((co_await t.remote->look_anew(t.world.clock.now() + 3s)).has_value());
        EXPECT_EQ(t.remote->geometry().size, kSize + SectorCount(1000));
        EXPECT_EQ(t.remote->status().reconnects, 2u);
        co_await t.server.kill();
        co_await t.until([&] { return !t.remote->is_ready(); });
        EXPECT_FALSE((co_await t.remote->look_anew(t.world.clock.now() + 3s)).has_value());
        co_await t.stop();
    });
}

TEST_F(RemoteTest, a_peer_that_grew_is_noticed_and_its_size_taken_when_asked) {
    run_test([](RemoteTest& t) -> Task<void> {
        Notes notes;
        t.observer = &notes;
        RemoteSettings settings;
        settings.size_max = kSize + SectorCount(100);
        co_await t.start(settings);
        EXPECT_EQ(t.remote->largest_size_seen(), kSize);
        co_await t.server.kill();
        t.server.size = kSize + SectorCount(1000);
        co_await t.restart();
        std::erase(notes.told, 'R');  // attempts before it came back
        EXPECT_EQ(notes.told, "rlgr");
        EXPECT_EQ(t.remote->geometry().size, kSize);
        EXPECT_EQ(t.remote->largest_size_seen(), kSize + SectorCount(100));
        EXPECT_EQ(t.remote->accept_size(), kSize + SectorCount(100));
        EXPECT_EQ(t.remote->geometry().size, kSize + SectorCount(100));
        // From now on less is too little.
        co_await t.server.kill();
        t.server.size = kSize;
        co_await t.server.start();
        co_await t.until([&] { return t.remote->status().reason.contains("shrank"); });
        co_await t.stop();
    });
}

TEST_F(RemoteTest, a_stop_ends_in_time_while_connecting) {
    run_test([](RemoteTest& t) -> Task<void> {
        SilentNetwork silent(t.world.clock);
        io::World world{t.world.clock, t.world.random, t.world.files, silent, t.world.queue};
        t.make({}, &world);
        t.begin(t.write(0, 8, 'x'));
        t.begin(t.execute(Op::flush));
        EXPECT_EQ(t.remote->status().link, LinkState::connecting);
        co_await t.stop_in_time();
        for (const Asked& one : t.asked) EXPECT_EQ(one.answer->error().code, ErrorCode::cancelled);
    });
}

Task<void> accept_and_say_nothing(io::Listener& listener,
                                  std::vector<std::unique_ptr<io::Stream>>& kept) {
    while (auto stream = co_await listener.accept()) kept.push_back(std::move(*stream));
}

TEST_F(RemoteTest, a_stop_ends_in_time_amid_the_handshake) {
    run_test([](RemoteTest& t) -> Task<void> {
        auto listener =
            co_await t.world.network.listen({.host = "127.0.0.1", .port = 0, .unix_path = {}});
        t.server.port = (*listener)->endpoint().port;
        std::vector<std::unique_ptr<io::Stream>> kept;
        async::Scope accepting;
        accepting.spawn(accept_and_say_nothing(**listener, kept));
        t.make();
        t.begin(t.write(0, 8, 'x'));
        co_await t.until([&] { return t.remote->status().link == LinkState::handshake; });
        co_await t.stop_in_time();
        EXPECT_EQ(t.asked[0].answer->error().code, ErrorCode::cancelled);
        (*listener)->close();
        co_await accepting.join();
    });
}

TEST_F(RemoteTest, a_stop_ends_in_time_amid_a_replay) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        for (std::uint64_t i = 0; i < 100; ++i)
            EXPECT_TRUE((co_await t.write(i, 8, 'x')).has_value());
        co_await t.server.lose_power();
        t.server.disk.held.insert(Op::write);
        co_await t.server.start();
        t.begin(t.write(0, 8, 'y'));
        co_await t.until([&] { return t.remote->status().link == LinkState::replaying; });
        co_await io::sleep_for(t.world.clock, 20ms);
        co_await t.stop_in_time();
        EXPECT_EQ(t.asked[0].answer->error().code, ErrorCode::cancelled);
    });
}

TEST_F(RemoteTest, a_stop_ends_in_time_when_connected_and_makes_durable_what_was_answered) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.write(0, 8, 'x')).has_value());
        co_await t.stop_in_time();
        EXPECT_EQ(t.server.disk.durable[0], 'x');
    });
}

TEST_F(RemoteTest, a_stop_ends_in_time_when_requests_and_its_flush_are_not_answered) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.write(0, 8, 'x')).has_value());
        t.server.disk.held = {Op::read, Op::flush, Op::write};
        t.begin(t.execute(Op::read, 0, 8));
        t.begin(t.write(0, 8, 'y'));
        t.begin(t.execute(Op::flush));
        co_await t.until([&] { return t.server.disk.arrived == 4; });
        co_await t.stop_in_time();
        for (const Asked& one : t.asked) EXPECT_EQ(one.answer->error().code, ErrorCode::cancelled);
    });
}

TEST_F(RemoteTest, a_stop_ends_in_time_while_the_link_is_lost) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.write(0, 8, 'x')).has_value());
        co_await t.server.kill();
        t.begin(t.execute(Op::read, 0, 8));
        t.begin(t.write(0, 8, 'y'));
        co_await t.until([&] { return t.remote->status().link == LinkState::lost; });
        co_await t.stop_in_time();
        for (const Asked& one : t.asked) EXPECT_EQ(one.answer->error().code, ErrorCode::cancelled);
    });
}

TEST_F(RemoteTest, a_stop_ends_in_time_while_writes_wait_for_room_in_the_window) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start(window_of(64 << 10));
        t.server.disk.held = {Op::flush, Op::write};
        for (std::uint64_t i = 0; i < 10; ++i) t.begin(t.write(i * 32, 32, 'y'));
        co_await t.until([&] { return t.server.disk.arrived == 3; });
        co_await t.stop_in_time();
        for (const Asked& one : t.asked) EXPECT_EQ(one.answer->error().code, ErrorCode::cancelled);
    });
}

TEST_F(RemoteTest, a_node_that_was_never_started_can_be_stopped) {
    run_test([](RemoteTest& t) -> Task<void> {
        Remote never(t.world, t.pool, t.receiving, HeadIdentity{.id = 5, .incarnation = 1}, 9, {});
        co_await never.stop(t.now() + 200ms);
        EXPECT_EQ(never.status().link, LinkState::stopped);
    });
}

}  // namespace
}  // namespace dst::node
