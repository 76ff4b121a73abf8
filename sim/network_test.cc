#include "sim/network.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/test_support.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;
using async::Task;

/// What a sender and a receiver find out.
struct Talk {
    io::Endpoint server;
    io::Duration silence = 3s;
    io::Duration patience = 5s;
    std::uint64_t to_send = 0;
    bool reads = true;
    bool listens = true;

    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t receives = 0;
    bool in_order = true;
    bool was_connected = false;
    bool has_accepted = false;
    std::optional<ErrorCode> connect_error;
    std::optional<ErrorCode> send_error;
    std::optional<ErrorCode> receive_error;
    bool ended = false;
    io::TimePoint connected_at;
    io::TimePoint broken_at;
    io::Address peer;
};

/// The byte at each place of the stream.
std::byte byte_at(std::uint64_t place) { return static_cast<std::byte>(place * 131 >> 3); }

Task<void> serve(io::World world, Talk& talk) {
    if (!talk.listens) co_return;
    auto listener = co_await world.network.listen(talk.server);
    if (!listener) co_return;
    auto stream = co_await (*listener)->accept();
    if (!stream) co_return;
    talk.has_accepted = true;
    talk.peer = (*stream)->peer();
    std::vector<std::byte> bytes(10'000);
    while (true) {
        while (!talk.reads) co_await io::sleep_for(world.clock, 10ms);
        const std::array slices{io::Slice(bytes.data(), 100), io::Slice(bytes.data() + 100, 9900)};
        const auto got = co_await (*stream)->receive(slices);
        if (!got) talk.receive_error = got.error().code;
        if (!got || *got == 0) break;
        for (std::size_t at = 0; at < *got; ++at)
            if (bytes[at] != byte_at(talk.received + at)) talk.in_order = false;
        talk.received += *got;
        ++talk.receives;
    }
    talk.ended = true;
}

Task<void> send(io::World world, Talk& talk) {
    auto stream = co_await world.network.connect(talk.server, world.clock.now() + talk.patience,
                                                 talk.silence);
    talk.connected_at = world.clock.now();
    if (!stream) {
        talk.connect_error = stream.error().code;
        co_return;
    }
    talk.was_connected = true;
    std::vector<std::byte> bytes;
    while (talk.sent < talk.to_send) {
        bytes.resize(std::min<std::uint64_t>(7'000, talk.to_send - talk.sent));
        for (std::size_t at = 0; at < bytes.size(); ++at) bytes[at] = byte_at(talk.sent + at);
        const io::Slice slice(bytes.data(), bytes.size());
        const auto sent = co_await (*stream)->send(std::span(&slice, 1));
        if (!sent) {
            talk.send_error = sent.error().code;
            break;
        }
        talk.sent += *sent;
    }
    if (!talk.send_error && talk.to_send == 0) {
        std::byte byte{};
        const io::Slice slice(&byte, 1);
        const auto got = co_await (*stream)->receive(std::span(&slice, 1));
        if (!got) talk.send_error = got.error().code;
    }
    talk.broken_at = world.clock.now();
}

class SimulatedNetworkTest : public testing::Test {
  protected:
    void build(WorldSettings settings = {}) {
        world = std::make_unique<World>(settings);
        near = &world->add_host("near");
        far = &world->add_host("far");
        talk.server = far->endpoint(700);
        server = &far->add_process("server", script(serve, talk));
        client = &near->add_process("client", script(send, talk));
    }
    /// Both run; the server listens.
    void begin() {
        server->start();
        world->run_for(1ms);
        client->start();
    }

    Talk talk;
    std::unique_ptr<World> world;
    Host* near = nullptr;
    Host* far = nullptr;
    Process* server = nullptr;
    Process* client = nullptr;
};

TEST_F(SimulatedNetworkTest, a_stream_arrives_whole_in_order_and_cut_anywhere) {
    for (std::uint64_t seed = 1; seed < 20; ++seed) {
        talk = {};
        talk.to_send = 1'000'000;
        build({.seed = seed});
        begin();
        world->run_for(10s);
        EXPECT_EQ(talk.received, talk.to_send);
        EXPECT_TRUE(talk.in_order);
        EXPECT_TRUE(talk.ended);
        EXPECT_FALSE(talk.receive_error.has_value());
        EXPECT_GT(talk.receives, 100u);
        EXPECT_EQ(talk.peer.bytes, near->address().bytes);
    }
}

TEST_F(SimulatedNetworkTest, who_does_not_read_stops_the_sender) {
    talk.to_send = 10'000'000;
    talk.reads = false;
    talk.silence = 0s;
    build();
    begin();
    world->run_for(10s);
    const auto& settings = world->network().settings();
    EXPECT_EQ(talk.sent, settings.send_buffer_bytes + settings.receive_buffer_bytes);
    talk.reads = true;
    world->run_for(10s);
    EXPECT_EQ(talk.received, talk.to_send);
    EXPECT_TRUE(talk.in_order);
}

TEST_F(SimulatedNetworkTest, a_full_window_breaks_a_connection_with_a_limit_on_silence) {
    talk.to_send = 10'000'000;
    talk.reads = false;
    build();
    begin();
    world->run_for(10s);
    EXPECT_EQ(talk.send_error, ErrorCode::node_lost);
}

TEST_F(SimulatedNetworkTest, nobody_listens_is_refused_at_once) {
    talk.listens = false;
    build();
    begin();
    world->run_for(1s);
    EXPECT_EQ(talk.connect_error, ErrorCode::refused);
    EXPECT_LT(talk.connected_at - EventQueue::kBegin, 10ms);
}

TEST_F(SimulatedNetworkTest, a_dead_host_is_met_with_silence) {
    build();
    far->lose_power();
    client->start();
    world->run_for(10s);
    EXPECT_EQ(talk.connect_error, ErrorCode::timed_out);
    EXPECT_GE(talk.connected_at - EventQueue::kBegin, 5s);
}

TEST_F(SimulatedNetworkTest, an_address_that_nobody_has_is_not_found) {
    build();
    talk.server.host = "nowhere";
    client->start();
    world->run_for(1s);
    EXPECT_EQ(talk.connect_error, ErrorCode::not_found);
}

TEST_F(SimulatedNetworkTest, a_partition_is_survived_if_it_is_shorter_than_the_silence) {
    talk.to_send = 30'000'000;
    talk.silence = 10s;
    build();
    begin();
    world->run_for(5ms);
    ASSERT_GT(talk.received, 0u);
    world->network().isolate(*far);
    world->run_for(1ms);
    const std::uint64_t before = talk.received;
    world->run_for(2s);
    EXPECT_EQ(talk.received, before);
    world->network().mend_all();
    world->run_for(30s);
    EXPECT_EQ(talk.received, talk.to_send);
    EXPECT_TRUE(talk.in_order);
}

TEST_F(SimulatedNetworkTest, a_longer_partition_breaks_the_connection_for_who_wants_to_know) {
    talk.to_send = 30'000'000;
    build();
    begin();
    world->run_for(5ms);
    const io::TimePoint cut = world->now();
    world->network().isolate(*far);
    world->run_for(30s);
    EXPECT_EQ(talk.send_error, ErrorCode::node_lost);
    EXPECT_NEAR(std::chrono::duration<double>(talk.broken_at - cut).count(), 3.4, 0.5);
    EXPECT_FALSE(talk.ended) << "the server waits for 60 s";
    world->run_for(60s);
    EXPECT_EQ(talk.receive_error, ErrorCode::node_lost);
}

TEST_F(SimulatedNetworkTest, an_idle_connection_over_a_cut_link_breaks_too) {
    build();
    begin();
    world->run_for(10s);
    ASSERT_TRUE(talk.was_connected);
    EXPECT_FALSE(talk.send_error.has_value()) << "idle is not silent";
    world->network().isolate(*far);
    world->run_for(5s);
    EXPECT_EQ(talk.send_error, ErrorCode::node_lost);
}

TEST_F(SimulatedNetworkTest,
       over_a_link_that_is_cut_one_way_bytes_arrive_and_are_not_acknowledged) {
    talk.to_send = 100'000;
    build();
    begin();
    while (!talk.has_accepted) world->run_for(10us);
    world->network().cut(*far, *near);
    world->run_for(1s);
    EXPECT_GT(talk.received, 0u);
    talk.to_send = 30'000'000;
    world->run_for(20s);
    EXPECT_TRUE(talk.in_order);
}

TEST_F(SimulatedNetworkTest, a_reset_breaks_both_ends) {
    talk.to_send = 30'000'000;
    build();
    begin();
    world->run_for(5ms);
    ASSERT_EQ(world->network().connection_count(), 1u);
    world->network().connection(0).reset();
    world->run_for(10ms);
    EXPECT_EQ(talk.send_error, ErrorCode::node_lost);
    EXPECT_EQ(talk.receive_error, ErrorCode::node_lost);
    EXPECT_TRUE(talk.in_order);
    world->run_for(1s);
    EXPECT_EQ(world->network().connection_count(), 0u);
}

TEST_F(SimulatedNetworkTest, a_stalled_connection_is_not_closed) {
    talk.to_send = 30'000'000;
    talk.silence = 0s;
    build();
    begin();
    world->run_for(5ms);
    world->network().connection(0).stall(0);
    world->run_for(50s);
    EXPECT_FALSE(talk.send_error.has_value());
    EXPECT_LT(talk.received, talk.to_send);
    world->network().connection(0).unstall();
    world->run_for(300s);
    EXPECT_EQ(talk.received, talk.to_send);
}

TEST_F(SimulatedNetworkTest, a_paused_process_accepts_in_its_backlog_and_a_killed_one_for_a_while) {
    build();
    server->start();
    world->run_for(1ms);
    server->pause();
    client->start();
    world->run_for(2s);
    EXPECT_TRUE(talk.was_connected) << "the kernel has accepted";
    EXPECT_FALSE(talk.has_accepted);
    server->kill();
    world->run_for(1s);
    EXPECT_TRUE(talk.send_error.has_value() || !client->is_running() ||
                talk.broken_at > talk.connected_at);
}

TEST_F(SimulatedNetworkTest, what_a_killed_process_had_sent_still_arrives) {
    talk.to_send = 100'000;
    build();
    begin();
    while (talk.sent < talk.to_send) world->run_for(1us);
    client->kill();
    world->run_for(1s);
    EXPECT_EQ(talk.received, talk.to_send);
    EXPECT_TRUE(talk.ended);
    EXPECT_FALSE(talk.receive_error.has_value());
}

TEST_F(SimulatedNetworkTest, a_host_that_comes_back_knows_of_no_connection) {
    talk.silence = 30s;
    build();
    begin();
    world->run_for(100ms);
    ASSERT_TRUE(talk.was_connected);
    far->lose_power();
    world->run_for(2s);
    EXPECT_FALSE(talk.send_error.has_value());
    far->restore_power();
    world->run_for(10s);
    EXPECT_EQ(talk.send_error, ErrorCode::node_lost) << "a probe was answered by a reset";
}

TEST_F(SimulatedNetworkTest, flipped_bits_are_seen_only_where_they_are_permitted) {
    talk.to_send = 5'000'000;
    build();
    world->network().link(*near, *far).settings.flip = percent(50);
    begin();
    world->run_for(10s);
    EXPECT_EQ(talk.received, talk.to_send);
    EXPECT_FALSE(talk.in_order);
    EXPECT_GT(world->flips(), 0u);
}

Task<void> listen_twice(io::World world, Talk& talk) {
    auto first = co_await world.network.listen(talk.server);
    auto second = co_await world.network.listen(talk.server);
    EXPECT_TRUE(first.has_value());
    EXPECT_FALSE(second.has_value());
    talk.connected_at = world.clock.now();
    auto other = co_await world.network.listen({"0.0.0.0", 0, {}});
    EXPECT_TRUE(other.has_value());
    EXPECT_NE((*other)->endpoint().port, 0);
    auto foreign = co_await world.network.listen({"10.0.0.77", 1, {}});
    EXPECT_FALSE(foreign.has_value());
}

TEST_F(SimulatedNetworkTest, a_port_in_use_is_tried_again_for_two_seconds) {
    build();
    Process& process = far->add_process("twice", script(listen_twice, talk));
    process.start();
    world->run_for(5s);
    EXPECT_GE(talk.connected_at - EventQueue::kBegin, 2s);
    EXPECT_LT(talk.connected_at - EventQueue::kBegin, 2200ms);
}

struct Giving {
    io::Interrupt interrupt;
    std::optional<ErrorCode> error;
};

Task<void> connect_nowhere(io::World world, Giving& giving) {
    auto stream = co_await world.network.connect_unless(
        {"10.0.0.2", 9, {}}, world.clock.now() + 60s, 3s, giving.interrupt);
    if (!stream) giving.error = stream.error().code;
}

Task<void> give_up_soon(io::World world, Giving& giving) {
    async::Scope scope;
    scope.spawn(connect_nowhere(world, giving));
    co_await io::sleep_for(world.clock, 1s);
    EXPECT_FALSE(giving.error.has_value());
    giving.interrupt.raise();
    co_await scope.join();
}

TEST_F(SimulatedNetworkTest, a_connect_is_given_up_when_the_caller_says_so) {
    build();
    far->lose_power();
    Giving giving;
    Process& process = near->add_process("impatient", script(give_up_soon, giving));
    process.start();
    world->run_for(2s);
    EXPECT_EQ(giving.error, ErrorCode::cancelled);
    process.kill();
}

}  // namespace
}  // namespace dst::sim
