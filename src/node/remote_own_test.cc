// A remote node and a server of our kind: the gate, reservations, digests, pings, instances.
#include "node/test_support.h"

namespace dst::node {
namespace {

struct TestGate final : Gate {
    Task<Outcome<>> admit(Visit& visit) override {
        ++asked;
        same_instance = visit.is_same_instance();
        instance = visit.instance();
        size = visit.size();
        read = co_await visit.read({SectorIndex(0), SectorCount(4)}, bytes);
        reservation = co_await visit.read_reservation();
        while (holds) co_await gate.wait();
        if (!refusal.text.empty()) co_return std::unexpected(refusal);
        co_return Outcome<>{};
    }
    int asked = 0;
    bool same_instance = false;
    std::uint64_t instance = 0;
    SectorCount size;
    std::array<std::byte, 4 * kSectorBytes> bytes{};
    Result<> read;
    Result<nbd::Reservation> reservation;
    Problem refusal{};
    bool holds = false;
    async::WaitQueue gate;
};

RemoteSettings gate_of(Gate& gate) {
    RemoteSettings settings;
    settings.gate = &gate;
    return settings;
}

TEST_F(RemoteTest, the_gate_is_asked_before_anything_is_replayed_or_sent) {
    run_test([](RemoteTest& t) -> Task<void> {
        TestGate gate;
        t.server.disk.current[0] = 's';
        co_await t.start(gate_of(gate));
        EXPECT_EQ(gate.asked, 1);
        EXPECT_FALSE(gate.same_instance);
        EXPECT_EQ(gate.instance, 1U);
        EXPECT_EQ(gate.size, kSize);
        EXPECT_TRUE(gate.read.has_value());
        EXPECT_EQ(gate.bytes[0], std::byte{'s'});
        EXPECT_EQ(gate.reservation->number, 3U);
        EXPECT_TRUE((co_await t.write(0, 8, 'a')).has_value());

        gate.holds = true;
        co_await t.server.lose_power();
        t.server.disk.seen.clear();
        co_await t.server.start();
        Asked& waits = t.begin(t.write(8, 8, 'b'));
        co_await t.until([&] { return gate.asked == 2 && gate.reservation.has_value(); });
        co_await io::sleep_for(t.world.clock, 20ms);
        EXPECT_EQ(t.server.disk.count(Op::write), 0U) << "replayed before the gate has answered";
        EXPECT_FALSE(gate.same_instance);
        EXPECT_EQ(t.remote->status().link, LinkState::handshake);
        gate.holds = false;
        gate.gate.wake_all();
        co_await t.until([&] { return waits.answer.has_value(); });
        EXPECT_EQ(t.server.disk.count(Op::write), 2U);
        t.server.cut_connections();
        co_await t.until([&] { return t.remote->status().reconnects == 3; });
        EXPECT_TRUE(gate.same_instance);
        co_await t.stop();
    });
}

TEST_F(RemoteTest, who_is_refused_by_the_gate_is_fenced_until_readmitted) {
    run_test([](RemoteTest& t) -> Task<void> {
        TestGate gate;
        Notes notes;
        t.observer = &notes;
        co_await t.start(gate_of(gate));
        EXPECT_TRUE((co_await t.write(0, 8, 'a')).has_value());
        gate.refusal = {ErrorCode::refused, "head 7 has it"};
        co_await t.server.lose_power();
        Asked& waits = t.begin(t.execute(Op::read, 0, 8));
        Asked& flush = t.begin(t.execute(Op::flush));
        t.server.disk.seen.clear();
        co_await t.server.start();
        co_await t.until([&] { return t.remote->status().fenced; });
        co_await t.until([&] { return t.answered() == 2; }, 1s);
        EXPECT_EQ(waits.answer->error().code, ErrorCode::io_error);
        EXPECT_EQ(flush.answer->error().code, ErrorCode::io_error);
        EXPECT_EQ(t.remote->status().reason, "head 7 has it");
        EXPECT_EQ(t.window(), 0U);
        std::erase(notes.told, 'R');
        EXPECT_EQ(notes.told, "rlf");
        for (const Op op : {Op::read, Op::write, Op::flush})
            EXPECT_EQ((co_await t.execute(op, 0, op == Op::flush ? 0 : 8)).error().code,
                      ErrorCode::io_error);
        EXPECT_EQ(t.server.disk.count(Op::write), 0U);
        co_await io::sleep_for(t.world.clock, 300ms);
        EXPECT_EQ(gate.asked, 2) << "nothing is tried while it is fenced";

        gate.refusal = {};
        t.remote->readmit();
        co_await t.ready();
        std::erase(notes.told, 'R');
        EXPECT_EQ(notes.told, "rlfr");
        EXPECT_EQ(t.server.disk.current[0], '\0') << "what was kept was dropped";
        EXPECT_TRUE((co_await t.write(0, 8, 'b')).has_value());
        EXPECT_TRUE((co_await t.execute(Op::flush)).has_value());
        co_await t.stop();
    });
}

TEST_F(RemoteTest, a_gate_that_lost_its_connection_is_asked_again) {
    run_test([](RemoteTest& t) -> Task<void> {
        TestGate gate;
        gate.refusal = {ErrorCode::refused, "what it saw makes no sense"};
        gate.holds = true;
        co_await t.server.start();
        t.make(gate_of(gate));
        co_await t.until([&] { return gate.asked == 1 && gate.reservation.has_value(); });
        t.server.cut_connections();
        gate.holds = false;
        co_await io::sleep_for(t.world.clock, 5ms);
        gate.gate.wake_all();
        co_await t.until([&] { return gate.asked == 2; });
        // Now it means it.
        co_await t.until([&] { return t.remote->status().fenced; });
        // And with this code it wants to look again, too.
        gate.refusal = {ErrorCode::node_lost, "the superblock can't be read"};
        t.remote->readmit();
        co_await t.until(
            [&] { return t.remote->status().reason == "the superblock can't be read"; });
        gate.refusal = {};
        co_await t.ready();
        co_await t.stop();
    });
}

TEST_F(RemoteTest, a_stop_ends_in_time_while_the_gate_looks_and_while_fenced) {
    run_test([](RemoteTest& t) -> Task<void> {
        TestGate gate;
        t.server.disk.held = {Op::read};
        co_await t.server.start();
        t.make(gate_of(gate));
        co_await t.until([&] { return t.server.disk.arrived == 1; });
        t.begin(t.execute(Op::read, 0, 8));
        co_await t.stop_in_time();
        t.server.disk.release();
        gate.refusal = {ErrorCode::refused, "no"};
        t.make(gate_of(gate));
        co_await t.until([&] { return t.remote->status().fenced; });
        co_await t.stop_in_time();
    });
}

// Reservation, digest, lease, instance, size.

TEST_F(RemoteTest, reservations_are_read_claimed_and_released_or_fail_at_once) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_EQ((co_await t.remote->read_reservation())->number, 3U);
        const nbd::Ruling claimed = co_await t.remote->claim({.expected = 3, .takeover = 5s});
        EXPECT_TRUE(claimed.done.has_value());
        EXPECT_EQ(claimed.now.number, 4U);
        EXPECT_EQ(claimed.now.holder->takeover, 5000ms);
        const nbd::Ruling refused = co_await t.remote->release(3);
        EXPECT_EQ(refused.done.error().code, ErrorCode::not_permitted);
        EXPECT_EQ(refused.text, "another number");
        EXPECT_TRUE((co_await t.remote->release(4)).done.has_value());
        co_await t.server.kill();
        co_await t.until([&] { return !t.remote->is_ready(); });
        EXPECT_EQ((co_await t.remote->read_reservation()).error().code, ErrorCode::node_lost);
        EXPECT_EQ((co_await t.remote->claim({.expected = 4, .takeover = 5s})).done.error().code,
                  ErrorCode::node_lost);
        EXPECT_EQ((co_await t.remote->release(4)).done.error().code, ErrorCode::node_lost);
        t.server.is_ours = false;
        co_await t.restart();
        EXPECT_EQ((co_await t.remote->read_reservation()).error().code, ErrorCode::unsupported);
        EXPECT_EQ((co_await t.remote->digest({SectorIndex(0), SectorCount(8)})).error().code,
                  ErrorCode::unsupported);
    });
}

TEST_F(RemoteTest, a_digest_is_made_by_the_peer) {
    run_test([](RemoteTest& t) -> Task<void> {
        co_await t.start();
        EXPECT_TRUE((co_await t.write(0, 16, 'd')).has_value());
        const auto told = co_await t.remote->digest({SectorIndex(4), SectorCount(8)});
        EXPECT_TRUE(told.has_value());
        block::Buffer buffer = co_await t.payloads.allocate(4096);
        Request read{.range = {SectorIndex(4), SectorCount(8)}, .data = buffer.bytes().first(4096)};
        EXPECT_TRUE((co_await t.server.disk.execute(read)).has_value());
        EXPECT_EQ(*told, digest_of(read.data));
        t.server.disk.failing = {Op::read};
        EXPECT_EQ((co_await t.remote->digest({SectorIndex(4), SectorCount(8)})).error().code,
                  ErrorCode::no_space);
        t.server.disk.failing.clear();
        t.server.disk.held = {Op::read};
        std::optional<Result<Digest>> late;
        const auto note = [](Task<Result<Digest>> task,
                             std::optional<Result<Digest>>& to) -> Task<void> {
            to = co_await std::move(task);
        };
        t.scope.spawn(note(t.remote->digest({SectorIndex(4), SectorCount(8)}), late));
        const std::size_t before = t.server.disk.arrived;
        co_await t.until([&] { return t.server.disk.arrived > before; });
        t.server.cut_connections();
        co_await t.until([&] { return late.has_value(); }, 1s);
        EXPECT_EQ(late->error().code, ErrorCode::node_lost);
    });
}

TEST_F(RemoteTest, pings_go_out_as_often_as_is_asked_even_under_load) {
    run_test([](RemoteTest& t) -> Task<void> {
        RemoteSettings settings;
        settings.ping_each = 20ms;
        co_await t.start(settings);
        EXPECT_TRUE(
            co_await t.until([&] { return t.remote->answered_ping_sent_at().has_value(); }));
        const io::TimePoint begin = t.now();
        std::set<io::TimePoint> pings;
        io::Duration oldest{};
        while (t.now() < begin + 300ms) {
            EXPECT_TRUE((co_await t.execute(Op::read, 0, 8)).has_value());
            pings.insert(*t.remote->answered_ping_sent_at());
            oldest = std::max(oldest, t.now() - *t.remote->answered_ping_sent_at());
        }
        EXPECT_GE(pings.size(), 5U);
        EXPECT_LE(*pings.rbegin(), t.now());
        // The sending counts, not the answer; and the past stays what it was.
        const io::TimePoint latest = *t.remote->answered_ping_sent_at();
        co_await t.server.kill();
        co_await t.until([&] { return !t.remote->is_ready(); });
        EXPECT_GE(*t.remote->answered_ping_sent_at(), latest);
        t.remote->drop();
        EXPECT_FALSE(t.remote->answered_ping_sent_at().has_value());
    });
}

TEST_F(RemoteTest, a_ping_over_a_connection_that_the_gate_has_not_let_in_does_not_count) {
    run_test([](RemoteTest& t) -> Task<void> {
        TestGate gate;
        gate.holds = true;
        RemoteSettings settings = gate_of(gate);
        settings.ping_each = 10ms;
        co_await t.server.start();
        t.make(settings);
        co_await t.until([&] { return gate.asked == 1 && gate.reservation.has_value(); });
        co_await io::sleep_for(t.world.clock, 60ms);
        EXPECT_FALSE(t.remote->answered_ping_sent_at().has_value());
        gate.holds = false;
        const io::TimePoint let_in = t.now();
        gate.gate.wake_all();
        co_await t.until([&] { return t.remote->answered_ping_sent_at().has_value(); });
        EXPECT_GE(*t.remote->answered_ping_sent_at(), let_in);
        co_await t.stop();
    });
}

TEST_F(RemoteTest, a_peer_that_falls_silent_is_lost_as_soon_as_the_settings_say) {
    run_test([](RemoteTest& t) -> Task<void> {
        MutableNetwork network(t.world.network);
        io::World muted{t.world.clock, t.world.random, t.world.files, network, t.world.queue};
        RemoteSettings settings;
        settings.ping_after = 50ms;
        settings.silence_max = 150ms;
        co_await t.server.start();
        t.make(settings, &muted);
        co_await t.ready();
        co_await io::sleep_for(t.world.clock, 400ms);
        EXPECT_EQ(t.remote->status().reconnects, 1U) << "it answers its pings";
        network.mute(true);
        const io::TimePoint begin = t.now();
        co_await t.until([&] { return !t.remote->is_ready(); });
        EXPECT_GE(t.now() - begin, 100ms);
        EXPECT_LT(t.now() - begin, 450ms);
        network.mute(false);
        co_await t.until([&] { return t.remote->status().reconnects == 2; });
        co_await t.stop();
    });
}

TEST_F(RemoteTest, the_peers_instance_is_known_from_the_handshake_on) {
    run_test([](RemoteTest& t) -> Task<void> {
        TestGate gate;
        t.server.instance = 41;
        co_await t.start(gate_of(gate));
        EXPECT_EQ(t.remote->peer_instance(), 41U);
        co_await t.server.lose_power();
        EXPECT_EQ(t.remote->peer_instance(), 41U) << "that of the last connection";
        gate.holds = true;
        co_await t.server.start();
        co_await t.until([&] { return gate.asked == 2; });
        EXPECT_EQ(t.remote->peer_instance(), 42U);
        gate.holds = false;
        gate.gate.wake_all();
        co_await t.ready();
        t.server.is_ours = false;
        t.server.cut_connections();
        co_await t.until([&] { return t.remote->status().reconnects == 3; });
        EXPECT_EQ(t.remote->peer_instance(), 0U);
        co_await t.stop();
    });
}

}  // namespace
}  // namespace dst::node
