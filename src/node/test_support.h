// What the tests of a remote node need: a far disk that loses power, holds answers and lacks
// features, servers of our kind and plain ones in front of it, and networks that go wrong.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "io/uring/test_reactor.h"
#include "nbd/server_session.h"
#include "node/remote.h"

namespace dst::node {

using namespace std::chrono_literals;
using async::Task;
using block::Op;
using block::Request;

inline constexpr SectorCount kSize{8192};
inline constexpr std::uint64_t kOverhead = 512;  // of a change in the window

/// A disk with a volatile cache, which can hold what it is asked, and remembers it.
class FarDisk final : public block::Device {
  public:
    struct Seen {
        Op op;
        std::uint64_t first;
        std::uint64_t count;
        bool fua;
    };
    block::Geometry geometry() const override { return {.size = kSize}; }
    std::uint64_t instance() const override { return 1; }
    Task<Result<>> execute(Request& request) override {
        const std::uint64_t first = request.range.first.value();
        const std::uint64_t count = request.range.count.value();
        seen.push_back({request.op, first, count, request.fua});
        std::list<SectorRange>::iterator mine;
        if (block::is_change(request.op)) {
            for (const SectorRange& other : in_flight)
                EXPECT_FALSE(other.overlaps(request.range))
                    << "overlapping changes in flight at once";
            mine = in_flight.insert(in_flight.end(), request.range);
        }
        for (int turns = static_cast<int>(random() % 4); turns > 0; --turns)
            co_await async::yield();
        ++arrived;
        while (held.contains(request.op) && !dropped) co_await gate.wait();
        if (block::is_change(request.op)) in_flight.erase(mine);
        if (dropped) co_return fail(ErrorCode::io_error, "dropped");
        if (failing.contains(request.op)) co_return fail(ErrorCode::no_space, "test");
        const auto at = current.begin() + static_cast<std::ptrdiff_t>(first);
        const auto length = static_cast<std::ptrdiff_t>(count);
        switch (request.op) {
            case Op::read:
                for (std::uint64_t i = 0; i < count; ++i)
                    request.data[i * kSectorBytes] = static_cast<std::byte>(current[first + i]);
                break;
            case Op::write:
                for (std::uint64_t i = 0; i < count; ++i)
                    current[first + i] = static_cast<char>(request.data[i * kSectorBytes]);
                break;
            case Op::trim:
            case Op::write_zeroes:
                std::fill(at, at + length, '\0');
                break;
            case Op::flush:
                durable = current;
                break;
            case Op::block_status:
                request.extents->add({.count = request.range.count});
                break;
        }
        if (request.fua) durable = current;
        co_return Result<>{};
    }
    std::size_t count(Op op) const {
        return static_cast<std::size_t>(
            std::ranges::count_if(seen, [op](const Seen& one) { return one.op == op; }));
    }
    void release() {
        held.clear();
        gate.wake_all();
    }

    std::vector<char> current = std::vector<char>(kSize.value());
    std::vector<char> durable = current;
    std::vector<Seen> seen;
    std::set<Op> held;
    std::set<Op> failing;
    bool dropped = false;
    std::size_t arrived = 0;
    std::list<SectorRange> in_flight;
    async::WaitQueue gate;
    std::minstd_rand random;
};

/// A server of one disk: of our kind, or any other.
class Server final : public nbd::ExportSource {
  public:
    Server(io::World& world, block::BufferPool& pool)
        : world_(world), receiving_(pool, 1), payloads_(pool, 8) {}

    std::uint16_t flags = nbd::kFlagHasFlags | nbd::kFlagSendFlush | nbd::kFlagSendFua |
                          nbd::kFlagSendTrim | nbd::kFlagSendWriteZeroes | nbd::kFlagSendFastZero;
    std::uint32_t payload_max = nbd::kPayloadBytesMax;
    std::uint32_t block_min = 512;
    bool is_ours = true;
    bool has_digests = true;
    std::uint64_t instance = 1;
    SectorCount size = kSize;
    nbd::Reservation reservation{.number = 3};
    /// Answers to hello wait.
    bool holds_hello = false;
    async::WaitQueue hello_gate;
    std::uint16_t port = 0;
    FarDisk disk;

    Task<void> start() {
        disk.dropped = false;
        auto listening =
            co_await world_.network.listen({.host = "127.0.0.1", .port = port, .unix_path = {}});
        EXPECT_TRUE(listening.has_value()) << listening.error().text;
        listener_ = std::move(*listening);
        port = listener_->endpoint().port;
        scope_.spawn(accept_all());
    }
    /// Goes, with what was not answered.
    Task<void> kill() {
        disk.dropped = true;
        disk.gate.wake_all();
        if (listener_) listener_->close();
        for (nbd::ServerSession* session : std::vector(sessions_)) session->close("killed");
        co_await scope_.join();
        listener_.reset();
    }
    Task<void> lose_power() {
        co_await kill();
        disk.current = disk.durable;
        ++instance;
    }
    void cut_connections() {
        for (nbd::ServerSession* session : std::vector(sessions_)) session->close("cut");
    }

  private:
    struct Shown final : nbd::Served {
        explicit Shown(Server& server) : of(server) {}
        block::Device& device() override { return of.disk; }
        block::Account& account() override { return of.payloads_; }
        nbd::ExportInfo info() const override {
            return {.name = "disk",
                    .size = to_bytes(of.size),
                    .flags = of.flags,
                    .block_min = of.block_min,
                    .payload_max = of.payload_max};
        }
        nbd::Reservation reservation() const override { return of.reservation; }
        Task<nbd::Ruling> claim(nbd::Claim claim) override {
            of.reservation = {
                .number = claim.expected + 1,
                .holder = nbd::Holder{.head = 5, .incarnation = 1, .takeover = claim.takeover},
                .is_open = true};
            co_return nbd::Ruling{.now = of.reservation};
        }
        nbd::Ruling release(std::uint64_t number) override {
            if (number != of.reservation.number)
                return {.done = fail(ErrorCode::not_permitted, "test"),
                        .text = "another number",
                        .now = of.reservation};
            of.reservation = {.number = number};
            return {.now = of.reservation};
        }
        Server& of;
    };
    std::vector<nbd::ExportListing> list(const io::Address&) override { return {}; }
    Task<std::expected<std::unique_ptr<nbd::Served>, nbd::Refusal>> select(
        std::string, nbd::ServerSession&) override {
        co_return std::make_unique<Shown>(*this);
    }
    Task<std::expected<nbd::HelloAnswer, nbd::Refusal>> hello(nbd::Hello,
                                                              nbd::ServerSession&) override {
        if (!is_ours)
            co_return std::unexpected(nbd::Refusal{nbd::ReplyType::error_unsupported, {}});
        while (holds_hello) co_await hello_gate.wait();
        co_return nbd::HelloAnswer{.checksums = true,
                                   .instance = instance,
                                   .requests_max = 256,
                                   .reservations = true,
                                   .digests = has_digests};
    }
    Task<void> accept_all() {
        while (auto stream = co_await listener_->accept()) scope_.spawn(serve(std::move(*stream)));
    }
    Task<void> serve(std::unique_ptr<io::Stream> stream) {
        nbd::ServerSession session(world_, std::move(stream), *this, receiving_);
        sessions_.push_back(&session);
        co_await session.run();
        std::erase(sessions_, &session);
    }

    io::World& world_;
    block::Account receiving_;
    block::Account payloads_;
    std::unique_ptr<io::Listener> listener_;
    std::vector<nbd::ServerSession*> sessions_;
    async::Scope scope_;
};

/// A network in which nobody answers.
class SilentNetwork final : public io::Network {
  public:
    explicit SilentNetwork(io::Clock& clock) : clock_(clock) {}
    Task<Outcome<std::unique_ptr<io::Stream>>> connect(io::Endpoint, io::TimePoint deadline,
                                                       io::Duration) override {
        co_await io::sleep_until(clock_, deadline);
        co_return refuse(ErrorCode::timed_out, "no answer");
    }
    Task<Outcome<std::unique_ptr<io::Stream>>> connect_unless(io::Endpoint, io::TimePoint deadline,
                                                              io::Duration,
                                                              io::Interrupt& interrupt) override {
        struct Hook final : io::Interrupt::Hook {
            async::WaitQueue raised;
            void on_interrupt() override { raised.wake_all(); }
        } hook;
        interrupt.add(hook);
        co_await io::wait_until(clock_, hook.raised, deadline);
        co_return refuse(ErrorCode::timed_out, "no answer");
    }
    Task<Outcome<std::unique_ptr<io::Listener>>> listen(io::Endpoint) override {
        co_return refuse("no");
    }

  private:
    io::Clock& clock_;
};

/// A network whose streams hear nothing while they are muted.
class MutableNetwork final : public io::Network {
  public:
    explicit MutableNetwork(io::Network& below) : below_(below) {}
    void mute(bool muted) {
        muted_ = muted;
        heard_.wake_all();
    }
    Task<Outcome<std::unique_ptr<io::Stream>>> connect(io::Endpoint endpoint,
                                                       io::TimePoint deadline,
                                                       io::Duration silence) override {
        auto made = co_await below_.connect(endpoint, deadline, silence);
        if (!made) co_return std::unexpected(made.error());
        co_return std::make_unique<Stream>(*this, std::move(*made));
    }
    Task<Outcome<std::unique_ptr<io::Listener>>> listen(io::Endpoint endpoint) override {
        return below_.listen(endpoint);
    }

  private:
    class Stream final : public io::Stream {
      public:
        Stream(MutableNetwork& network, std::unique_ptr<io::Stream> below)
            : network_(network), below_(std::move(below)) {}
        Task<Result<std::size_t>> receive(std::span<const io::Slice> into) override {
            const auto received = co_await below_->receive(into);
            while (network_.muted_ && !is_down_) co_await network_.heard_.wait();
            co_return received;
        }
        Task<Result<std::size_t>> send(std::span<const io::Slice> from) override {
            return below_->send(from);
        }
        void shutdown() override {
            is_down_ = true;
            below_->shutdown();
            network_.heard_.wake_all();
        }
        const io::Address& peer() const override { return below_->peer(); }

      private:
        MutableNetwork& network_;
        std::unique_ptr<io::Stream> below_;
        bool is_down_ = false;
    };

    io::Network& below_;
    bool muted_ = false;
    async::WaitQueue heard_;
};

/// One request and what became of it.
struct Asked {
    std::optional<Result<>> answer;
    io::TimePoint when;
};

class RemoteTest : public testing::Test {
  public:
    void run_test(Task<void> (*body)(RemoteTest&)) {
        reactor->block_on([](RemoteTest& t, Task<void> (*test)(RemoteTest&)) -> Task<void> {
            co_await test(t);
            t.server.disk.release();
            if (t.remote) co_await t.remote->stop(t.now() + 1s);
            co_await t.scope.join();
            t.remote.reset();
            co_await t.server.kill();
        }(*this, body));
    }
    io::TimePoint now() const { return world.clock.now(); }
    void make(RemoteSettings settings = {}, io::World* in = nullptr) {
        settings.endpoint = {.host = "127.0.0.1", .port = server.port, .unix_path = {}};
        settings.export_name = "disk";
        remote = std::make_unique<Remote>(in == nullptr ? world : *in, pool, receiving,
                                          HeadIdentity{.id = 5, .incarnation = 1}, 9, settings);
        remote->start(observer);
    }
    /// A request that is not to wait for a link.
    Task<Result<>> if_connected(Op op, std::uint64_t count = 8) {
        return execute(op, 0, op == Op::flush ? 0 : count, 'i', false, false, true);
    }
    Task<void> start(RemoteSettings settings = {}) {
        co_await server.start();
        make(settings);
        co_await ready();
        // But for the flush that every node begins with.
        server.disk.seen.clear();
        server.disk.arrived = 0;
    }
    /// Waits until `holds()`, for a limited time.
    template <typename Condition>
    Task<bool> until(Condition holds, io::Duration limit = 5s) {
        const io::TimePoint deadline = now() + limit;
        while (!holds() && now() < deadline) co_await io::sleep_for(world.clock, 1ms);
        EXPECT_TRUE(holds()) << "not in time; " << remote->status().reason;
        co_return holds();
    }
    Task<void> ready() {
        co_await until([this] { return remote->is_ready(); });
    }
    /// Starts the server again, and waits until the node has noticed.
    Task<void> restart() {
        const std::uint64_t before = remote->status().reconnects;
        co_await server.start();
        co_await until([this, before] { return remote->status().reconnects > before; });
    }
    Task<Result<>> execute(Op op, std::uint64_t at = 0, std::uint64_t count = 0, char fill = 0,
                           bool fua = false, bool fast = false, bool if_connected = false) {
        block::Buffer buffer;
        Request request{.op = op,
                        .fua = fua,
                        .fast_zero = fast,
                        .if_connected = if_connected,
                        .range = {SectorIndex(at), SectorCount(count)}};
        block::Extent room[8];
        block::ExtentList extents(room);
        if (op == Op::block_status) request.extents = &extents;
        if (op == Op::write || op == Op::read) {
            buffer = co_await payloads.allocate(count * kSectorBytes);
            request.data = buffer.bytes().first(count * kSectorBytes);
            if (op == Op::write) {
                std::ranges::fill(request.data, static_cast<std::byte>(fill));
                request.buffer = &buffer;
            }
        }
        const Result<> done = co_await remote->execute(request);
        last_read.clear();
        if (op == Op::read)
            for (std::uint64_t i = 0; i < count; ++i)
                last_read += static_cast<char>(request.data[i * kSectorBytes]);
        co_return done;
    }
    Task<Result<>> write(std::uint64_t at, std::uint64_t count, char fill) {
        return execute(Op::write, at, count, fill);
    }
    /// A write is answered, a flush fails, and the disk takes neither from then on.
    Task<void> fail_to_write_again() {
        co_await start();
        EXPECT_TRUE((co_await write(0, 8, 'a')).has_value());
        server.disk.failing = {Op::flush, Op::write};
        EXPECT_FALSE((co_await execute(Op::flush)).has_value());
        co_await ready();
    }
    static Task<void> note(RemoteTest& t, Task<Result<>> task, Asked& asked) {
        asked.answer = co_await std::move(task);
        asked.when = t.now();
    }
    /// Begins a request; it may wait.
    Asked& begin(Task<Result<>> task) {
        Asked& made = asked.emplace_back();
        scope.spawn(note(*this, std::move(task), made));
        return made;
    }
    std::size_t answered() const {
        return static_cast<std::size_t>(
            std::ranges::count_if(asked, [](const Asked& one) { return one.answer.has_value(); }));
    }
    std::uint64_t window() const { return remote->status().window_bytes; }
    /// For tests with what the node must not outlive.
    Task<void> stop() {
        co_await remote->stop(now() + 1s);
        remote.reset();
    }
    /// A stop until 200 ms from now must end soon after, and everyone who waits is told.
    Task<void> stop_in_time() {
        const io::TimePoint deadline = now() + 200ms;
        co_await remote->stop(deadline);
        EXPECT_LT(now(), deadline + 900ms);
        EXPECT_EQ(remote->status().link, LinkState::stopped);
        co_await until([this] { return answered() == asked.size(); }, 1s);
        EXPECT_EQ(window(), 0U);
        const auto late = co_await write(0, 8, 'l');
        EXPECT_EQ(late.error().code, ErrorCode::cancelled);
        remote.reset();
    }

    io::uring::TestReactor reactor;
    io::World world = reactor->world();
    block::BufferPool pool{64 << 20};
    block::Account receiving{pool, 2};
    block::Account payloads{pool, 8};
    Server server{world, pool};
    Observer* observer = nullptr;
    std::unique_ptr<Remote> remote;
    std::deque<Asked> asked;
    std::string last_read;
    async::Scope scope;
};

inline RemoteSettings window_of(std::uint64_t bytes) {
    RemoteSettings settings;
    settings.replay_window = ByteCount(bytes);
    return settings;
}

/// What an observer was told, in order: r, l, R (refused), f, g.
struct Notes final : Observer {
    void node_ready() override { told += 'r'; }
    void node_lost() override { told += 'l'; }
    void node_refused() override { told += 'R'; }
    void node_fenced() override { told += 'f'; }
    void node_grew() override { told += 'g'; }
    std::string told;
};

}  // namespace dst::node
