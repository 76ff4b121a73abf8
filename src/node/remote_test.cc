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
    std::uint64_t instance = 1;
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
                    .size = to_bytes(kSize),
                    .flags = of.flags,
                    .block_min = of.block_min,
                    .payload_max = of.payload_max};
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
        co_return nbd::HelloAnswer{.checksums = true, .instance = instance, .requests_max = 256};
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
        remote->start(nullptr);
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
                           bool fua = false, bool fast = false) {
        block::Buffer buffer;
        Request request{.op = op,
                        .fua = fua,
                        .fast_zero = fast,
                        .range = {SectorIndex(at), SectorCount(count)}};
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
        EXPECT_EQ(t.remote->status().reason,
                  "what was there before can't be made durable: a flush failed");
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
