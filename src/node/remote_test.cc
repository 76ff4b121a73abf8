// A remote node against servers of our kind and plain ones, which lose power, hold answers and lack
// features: what is replayed and in which order, what a flush covers, how much is kept, who waits
// for how long, and that a stop ends in time wherever the link stands.
#include "node/remote.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <list>
#include <memory>
#include <random>
#include <set>

#include "io/uring/test_reactor.h"
#include "nbd/server_session.h"

namespace dst::node {
namespace {

using namespace std::chrono_literals;
using async::Task;
using block::Op;
using block::Request;

constexpr SectorCount kSize{8192};
constexpr std::uint64_t kOverhead = 512;  // of a change in the window

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

RemoteSettings window_of(std::uint64_t bytes) {
    RemoteSettings settings;
    settings.replay_window = ByteCount(bytes);
    return settings;
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

/// What an observer was told, in order: r, l, R (refused), f, g.
struct Notes final : Observer {
    void node_ready() override { told += 'r'; }
    void node_lost() override { told += 'l'; }
    void node_refused() override { told += 'R'; }
    void node_fenced() override { told += 'f'; }
    void node_grew() override { told += 'g'; }
    std::string told;
};

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
