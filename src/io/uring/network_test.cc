#include "io/uring/network.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <thread>

#include "async/scope.h"
#include "io/uring/socket_listener.h"
#include "io/uring/socket_stream.h"
#include "io/uring/test_reactor.h"

namespace dst::io::uring {
namespace {

using async::Task;
using Streams = std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>>;

constexpr Duration kSilence = std::chrono::seconds(5);

/// Another process that runs these tests has others.
std::string own_path(const std::string& name) {
    return (std::filesystem::temp_directory_path() / ("dst_network_" + std::to_string(::getpid())))
               .string() +
           "." + name;
}

Endpoint any_port() { return {"127.0.0.1", 0, {}}; }

class NetworkTest : public ::testing::Test {
  protected:
    NetworkTest() : network_(world_.network) {}

    TimePoint soon() { return world_.clock.now() + std::chrono::seconds(5); }
    std::unique_ptr<Listener> listen(const Endpoint& endpoint) {
        auto listener = reactor_->block_on(network_.listen(endpoint));
        EXPECT_TRUE(listener.has_value()) << listener.error().text;
        return *std::move(listener);
    }
    Task<Outcome<std::unique_ptr<Stream>>> connect(Endpoint endpoint) {
        return network_.connect(std::move(endpoint), soon(), kSilence);
    }
    Task<Streams> make_pair(Listener& listener) {
        auto client = co_await connect(listener.endpoint());
        auto server = co_await listener.accept();
        co_return Streams{*std::move(client), *std::move(server)};
    }
    Streams connected() {
        const auto listener = listen(any_port());
        return reactor_->block_on(make_pair(*listener));
    }

    TestReactor reactor_;
    World world_ = reactor_->world();
    Network& network_;
};

std::size_t open_files() {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

Task<Result<std::size_t>> receive_into(Stream& stream, std::span<std::byte> bytes) {
    const Slice slice(bytes);
    co_return co_await stream.receive(std::span(&slice, 1));
}

Task<std::string> receive_text(Stream& stream) {
    std::array<std::byte, 100> buffer;
    const auto got = co_await receive_into(stream, buffer);
    if (!got.has_value()) co_return std::string(to_string(got.error().code));
    co_return std::string(reinterpret_cast<const char*>(buffer.data()), *got);
}

Task<void> note_receive(Stream& stream, Result<std::size_t>& result) {
    std::array<std::byte, 16> buffer;
    result = co_await receive_into(stream, buffer);
}

Task<void> send_for_ever(Stream& stream, Result<>& result) {
    const std::vector<std::byte> bytes(1 << 20);
    do {
        result = co_await send_all(stream, bytes);
    } while (result.has_value());
}

Task<void> note_accept(Listener& listener, Result<std::unique_ptr<Stream>>& result) {
    result = co_await listener.accept();
}

TEST_F(NetworkTest, what_is_sent_arrives) {
    for (const Endpoint& endpoint :
         {any_port(), Endpoint{"::1", 0, {}}, Endpoint{{}, 0, own_path("sock")}}) {
        const auto listener = listen(endpoint);
        auto [client, server] = reactor_->block_on(make_pair(*listener));
        ASSERT_TRUE(reactor_->block_on(send_all(*client, as_bytes("hello"))).has_value());
        EXPECT_EQ(reactor_->block_on(receive_text(*server)), "hello");
        ASSERT_TRUE(reactor_->block_on(send_all(*server, as_bytes("and back"))).has_value());
        EXPECT_EQ(reactor_->block_on(receive_text(*client)), "and back");
        EXPECT_EQ(server->peer().is_unix, !endpoint.unix_path.empty());
    }
}

TEST_F(NetworkTest, peers_know_each_others_addresses) {
    const auto listener = listen(any_port());
    EXPECT_EQ(listener->endpoint().host, "127.0.0.1");
    EXPECT_NE(listener->endpoint().port, 0);
    const auto [client, server] = reactor_->block_on(make_pair(*listener));
    EXPECT_EQ(to_string(client->peer()), to_string(listener->endpoint()));
    EXPECT_TRUE(parse_subnet("127.0.0.1")->contains(server->peer()));
    EXPECT_NE(server->peer().port, 0);
}

TEST_F(NetworkTest, names_are_looked_up) {
    const auto listener = listen({"localhost", 0, {}});
    auto stream = reactor_->block_on(connect({"localhost", listener->endpoint().port, {}}));
    EXPECT_TRUE(stream.has_value()) << stream.error().text;
}

TEST_F(NetworkTest, end_of_stream_is_zero_bytes) {
    auto [client, server] = connected();
    ASSERT_TRUE(reactor_->block_on(send_all(*client, as_bytes("last"))).has_value());
    client.reset();
    EXPECT_EQ(reactor_->block_on(receive_text(*server)), "last");
    EXPECT_EQ(reactor_->block_on(receive_text(*server)), "");
}

TEST_F(NetworkTest, broken_connection_is_a_lost_node) {
    auto [client, server] = connected();
    Result<> sent;
    async::Scope scope;
    const async::RunQueue::Enter enter(world_.queue);
    scope.spawn(send_for_ever(*client, sent));
    reactor_->block_on(receive_text(*server));
    server.reset();  // with unread bytes in it: that resets the connection
    reactor_->block_on(scope.join());
    EXPECT_EQ(sent.error().code, ErrorCode::node_lost);
    EXPECT_EQ(reactor_->block_on(receive_text(*client)), "connection lost");
}

Task<void> receive_all(Stream& stream, std::span<std::byte> into) {
    while (!into.empty()) {
        const std::size_t half = into.size() / 2;
        std::array<Slice, 2> slices{Slice(into.first(half)), Slice(into.subspan(half))};
        const auto got = co_await stream.receive(std::span(slices).subspan(half == 0 ? 1 : 0));
        CHECK(got.has_value() && *got > 0);
        into = into.subspan(*got);
    }
}

Task<void> send_slices(Stream& stream, std::span<std::byte> from, std::size_t step) {
    std::vector<Slice> slices;
    for (std::size_t at = 0; at < from.size(); at += step)
        slices.emplace_back(from.subspan(at, std::min(step, from.size() - at)));
    CHECK((co_await send_all(stream, slices)).has_value());
}

TEST_F(NetworkTest, partial_sends_are_continued_where_they_stopped) {
    std::array<int, 2> fds{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    const int tiny = 1;
    ASSERT_EQ(::setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &tiny, sizeof tiny), 0);
    SocketStream left(*reactor_, UniqueFd(fds[0]), Address{});
    SocketStream right(*reactor_, UniqueFd(fds[1]), Address{});
    for (const std::size_t step : {1U, 777U, 100'000U}) {
        std::vector<std::byte> sent(step == 1 ? 5000 : 300'000);
        for (std::size_t at = 0; at < sent.size(); ++at)
            sent[at] = static_cast<std::byte>(at % 251);
        std::vector<std::byte> received(sent.size());
        async::Scope scope;
        {
            const async::RunQueue::Enter enter(world_.queue);
            scope.spawn(send_slices(left, sent, step));
        }
        reactor_->block_on(receive_all(right, received));
        reactor_->block_on(scope.join());
        EXPECT_EQ(sent, received) << "slices of " << step;
    }
}

TEST_F(NetworkTest, shutdown_ends_a_receive_and_a_send_in_flight) {
    auto [client, server] = connected();
    Result<std::size_t> received;
    Result<> sent;
    async::Scope scope;
    const async::RunQueue::Enter enter(world_.queue);
    scope.spawn(note_receive(*client, received));
    scope.spawn(send_for_ever(*client, sent));
    reactor_->block_on(pause(world_.clock, std::chrono::milliseconds(50)));
    EXPECT_EQ(scope.size(), 2U);
    client->shutdown();
    client->shutdown();
    reactor_->block_on(scope.join());
    EXPECT_EQ(received.error().code, ErrorCode::cancelled);
    EXPECT_EQ(sent.error().code, ErrorCode::cancelled);
    EXPECT_EQ(reactor_->block_on(receive_text(*client)), "cancelled");
}

TEST_F(NetworkTest, close_ends_an_accept_in_flight_and_frees_the_port) {
    auto listener = listen(any_port());
    const Endpoint endpoint = listener->endpoint();
    Result<std::unique_ptr<Stream>> accepted;
    async::Scope scope;
    const async::RunQueue::Enter enter(world_.queue);
    scope.spawn(note_accept(*listener, accepted));
    reactor_->block_on(pause(world_.clock, std::chrono::milliseconds(20)));
    listener->close();
    listener->close();
    reactor_->block_on(scope.join());
    ASSERT_FALSE(accepted.has_value());
    EXPECT_EQ(accepted.error().code, ErrorCode::cancelled);
    EXPECT_EQ(reactor_->block_on(connect(endpoint)).error().code, ErrorCode::refused);
    const auto address = look_up(endpoint.host, endpoint.port, true)->front();
    EXPECT_TRUE(SocketListener::open(*reactor_, address).has_value());
}

TEST_F(NetworkTest, refused_connection_names_the_address) {
    const Endpoint endpoint = listen(any_port())->endpoint();
    const auto refused = reactor_->block_on(connect(endpoint));
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::refused);
    EXPECT_EQ(refused.error().text, "cannot connect to " + to_string(endpoint) +
                                        ": connection refused; start the server there, or correct "
                                        "the address");
}

TEST_F(NetworkTest, unknown_name_says_so) {
    const auto unknown = reactor_->block_on(connect({"no-such-host.invalid", 1, {}}));
    ASSERT_FALSE(unknown.has_value());
    EXPECT_NE(unknown.error().text.find("no-such-host.invalid"), std::string::npos);
}

/// A listener that accepts nothing and whose backlog is full: a connect there gets no answer.
class DeafListener {
  public:
    DeafListener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* const form = reinterpret_cast<sockaddr*>(&address);
        CHECK(::bind(fd_.get(), form, size) == 0 && ::listen(fd_.get(), 0) == 0);
        CHECK(::getsockname(fd_.get(), form, &size) == 0);
        endpoint_ = {"127.0.0.1", ntohs(address.sin_port), {}};
        for (UniqueFd& client : clients_) {
            client = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            static_cast<void>(::connect(client.get(), form, size));
        }
    }
    const Endpoint& endpoint() const { return endpoint_; }

  private:
    UniqueFd fd_;
    std::array<UniqueFd, 4> clients_;
    Endpoint endpoint_;
};

TEST_F(NetworkTest, connect_gives_up_at_its_deadline) {
    const DeafListener deaf;
    const TimePoint start = world_.clock.now();
    const auto late = reactor_->block_on(
        network_.connect(deaf.endpoint(), start + std::chrono::milliseconds(100), kSilence));
    ASSERT_FALSE(late.has_value());
    EXPECT_EQ(late.error().code, ErrorCode::timed_out);
    EXPECT_GE(world_.clock.now() - start, std::chrono::milliseconds(100));
    EXPECT_LT(world_.clock.now() - start, std::chrono::seconds(3));
}

Task<void> note_connect(Network& network, Endpoint endpoint, TimePoint deadline,
                        Interrupt& interrupt, ErrorCode& code) {
    const auto stream = co_await network.connect_unless(endpoint, deadline, kSilence, interrupt);
    CHECK(!stream.has_value());
    code = stream.error().code;
}

TEST_F(NetworkTest, connect_in_flight_is_given_up_by_its_interrupt) {
    const DeafListener deaf;
    Interrupt interrupt;
    ErrorCode code{};
    async::Scope scope;
    const async::RunQueue::Enter enter(world_.queue);
    const TimePoint start = world_.clock.now();
    scope.spawn(note_connect(network_, deaf.endpoint(), soon(), interrupt, code));
    reactor_->block_on(pause(world_.clock, std::chrono::milliseconds(20)));
    EXPECT_EQ(scope.size(), 1U);
    interrupt.raise();
    reactor_->block_on(scope.join());
    EXPECT_EQ(code, ErrorCode::cancelled);
    EXPECT_LT(world_.clock.now() - start, std::chrono::seconds(3));
    scope.spawn(note_connect(network_, deaf.endpoint(), soon(), interrupt, code = {}));
    reactor_->block_on(scope.join());
    EXPECT_EQ(code, ErrorCode::cancelled) << "raised before it began";
}

TEST_F(NetworkTest, port_in_use_is_tried_for_two_seconds_then_named) {
    const auto first = listen(any_port());
    const TimePoint start = world_.clock.now();
    const auto second = reactor_->block_on(network_.listen(first->endpoint()));
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, ErrorCode::busy);
    EXPECT_EQ(second.error().text, "cannot listen on " + to_string(first->endpoint()) +
                                       ": address already in use; end the program that listens "
                                       "there, or choose another port");
    EXPECT_GE(world_.clock.now() - start, std::chrono::seconds(2));
}

Task<void> close_later(Clock& clock, Listener& listener) {
    co_await sleep_for(clock, std::chrono::milliseconds(200));
    listener.close();
}

TEST_F(NetworkTest, port_freed_meanwhile_is_taken) {
    const auto first = listen(any_port());
    async::Scope scope;
    const async::RunQueue::Enter enter(world_.queue);
    scope.spawn(close_later(world_.clock, *first));
    const auto second = reactor_->block_on(network_.listen(first->endpoint()));
    EXPECT_TRUE(second.has_value());
    reactor_->block_on(scope.join());
}

TEST_F(NetworkTest, socket_left_by_a_dead_process_is_replaced_and_removed_at_the_end) {
    const Endpoint endpoint{{}, 0, own_path("sock")};
    ::unlink(endpoint.unix_path.c_str());
    const auto address = *socket_address_of_path(endpoint.unix_path);
    {
        const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        ASSERT_EQ(::bind(dead.get(), address.get(), address.size), 0);
    }
    ASSERT_TRUE(std::filesystem::exists(endpoint.unix_path));
    auto listener = listen(endpoint);
    struct stat status{};
    ASSERT_EQ(::stat(endpoint.unix_path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    EXPECT_EQ(reactor_->block_on(network_.listen(endpoint)).error().code, ErrorCode::busy);
    EXPECT_TRUE(reactor_->block_on(connect(endpoint)).has_value()) << "the busy one was touched";
    listener.reset();
    EXPECT_FALSE(std::filesystem::exists(endpoint.unix_path));
}

TEST_F(NetworkTest, file_that_is_no_socket_is_left_alone) {
    const std::string path = own_path("file");
    ASSERT_TRUE(world_.files.store(path, "precious").has_value());
    const auto listener = reactor_->block_on(network_.listen({{}, 0, path}));
    ASSERT_FALSE(listener.has_value());
    EXPECT_NE(listener.error().text.find(path), std::string::npos);
    EXPECT_EQ(*world_.files.load(path), "precious");
    ::unlink(path.c_str());
}

TEST_F(NetworkTest, path_that_is_too_long_says_so) {
    const auto listener = reactor_->block_on(network_.listen({{}, 0, std::string(200, 'x')}));
    ASSERT_FALSE(listener.has_value());
    EXPECT_NE(listener.error().text.find("too long"), std::string::npos);
}

TEST_F(NetworkTest, thousand_connections_leave_no_descriptor) {
    const auto listener = listen(any_port());
    const std::size_t before = open_files();
    for (int count = 0; count < 1000; ++count) {
        auto streams = reactor_->block_on(make_pair(*listener));
        ASSERT_TRUE(streams.first != nullptr && streams.second != nullptr);
    }
    EXPECT_EQ(open_files(), before);
}

TEST_F(NetworkTest, accept_waits_when_descriptors_run_out_and_goes_on) {
    const auto listener = listen(any_port());
    const auto address = look_up("127.0.0.1", listener->endpoint().port, true)->front();
    const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(client.get(), address.get(), address.size), 0);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit none{open_files() - 3, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    Result<std::unique_ptr<Stream>> accepted;
    async::Scope scope;
    const async::RunQueue::Enter enter(world_.queue);
    scope.spawn(note_accept(*listener, accepted));
    reactor_->block_on(pause(world_.clock, std::chrono::milliseconds(250)));
    EXPECT_EQ(scope.size(), 1U);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    reactor_->block_on(scope.join());
    EXPECT_TRUE(accepted.has_value());
}

TEST_F(NetworkTest, stream_goes_from_one_reactor_to_another) {
    auto [client, server] = connected();
    std::thread other([stream = std::move(server)]() mutable {
        TestReactor second;
        auto adopted = second->world().network.adopt(std::move(stream));
        const std::string text = second->block_on(receive_text(*adopted));
        CHECK(second->block_on(send_all(*adopted, as_bytes(text + " back"))).has_value());
    });
    ASSERT_TRUE(reactor_->block_on(send_all(*client, as_bytes("there and"))).has_value());
    EXPECT_EQ(reactor_->block_on(receive_text(*client)), "there and back");
    other.join();
}

}  // namespace
}  // namespace dst::io::uring
