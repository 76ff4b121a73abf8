// One session, from raw bytes to raw bytes: replies of both kinds, long requests in pieces,
// refusals, bounds on slots and memory, and the ways in which a session ends.
#include "nbd/server_session.h"

#include <gtest/gtest.h>

#include <deque>
#include <set>

#include "io/uring/test_reactor.h"
#include "nbd/client_handshake.h"
#include "nbd/scripted_stream.h"

namespace dst::nbd {
namespace {

using async::Task;
using block::Op;
using block::Request;
using test::Bytes;
using test::pattern;
using test::Script;
using test::ScriptedStream;

constexpr std::size_t kSizeBytes = 40 << 20;

/// A disk in memory whose answers can be held, and can be errors.
class GatedDevice final : public block::Device {
  public:
    block::Geometry geometry() const override { return {.size = SectorCount(kSizeBytes / 512)}; }
    std::uint64_t instance() const override { return 1; }
    Task<Result<>> execute(Request& request) override {
        ++started;
        ++running;
        running_most = std::max(running_most, running);
        longest = std::max(longest, request.data.size());
        while (held) co_await gate.wait();
        --running;
        const std::size_t at = to_bytes(request.range.first).value();
        if (request.op != Op::flush && at <= bad_at &&
            bad_at < at + to_bytes(request.range.count).value())
            co_return fail(ErrorCode::no_space, "test");
        const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
        const auto length = static_cast<std::ptrdiff_t>(to_bytes(request.range.count).value());
        if (request.op == Op::read) std::copy(place, place + length, request.data.begin());
        if (request.op == Op::write) std::ranges::copy(request.data, place);
        if (request.op == Op::write_zeroes || request.op == Op::trim)
            std::fill(place, place + length, std::byte{0});
        if (request.op == Op::block_status)
            for (std::uint64_t done = 0; done < request.range.count.value(); done += 8)
                if (!request.extents->add({.count = SectorCount(8), .hole = done % 16 == 0})) break;
        if (request.fua) ++fua;
        co_return Result<>{};
    }
    void release() {
        held = false;
        gate.wake_all();
    }
    Bytes bytes = Bytes(kSizeBytes);
    std::size_t bad_at = ~std::size_t{0};
    std::size_t longest = 0;
    bool held = false;
    std::size_t started = 0;
    std::size_t running = 0;
    std::size_t running_most = 0;
    std::size_t fua = 0;
    async::WaitQueue gate;
};

struct Client {
    bool structured = true;
    bool checksums = false;
    bool is_ours = false;
    bool allocation = true;
    bool session = false;
};

constexpr Reservation kHeld{
    .number = 7,
    .holder = Holder{.head = 0xa1, .incarnation = 2, .takeover = std::chrono::milliseconds(10'000)},
    .gone = std::chrono::milliseconds(1)};

class ServerSessionTest;

struct TestServed final : Served {
    explicit TestServed(ServerSessionTest& in) : test(in) {}
    block::Device& device() override;
    block::Account& account() override;
    ExportInfo info() const override;
    Result<> may_change() const override;
    Reservation reservation() const override { return kHeld; }
    Task<Ruling> claim(Claim claim) override;
    Ruling release(std::uint64_t number) override;
    void has_calmed() override;
    bool is_current() const override;
    ServerSessionTest& test;
};

/// One client and its session.
struct Connection {
    Script script;
    Client kind;
    ServerFacts facts;
    std::unique_ptr<ServerSession> session;
    bool has_ended = false;
};

class ServerSessionTest : public testing::Test, public ExportSource {
  public:
    std::vector<ExportListing> list(const io::Address&) override { return {}; }
    Task<std::expected<std::unique_ptr<Served>, Refusal>> select(std::string,
                                                                 ServerSession&) override {
        co_return std::make_unique<TestServed>(*this);
    }
    Task<std::expected<HelloAnswer, Refusal>> hello(Hello hello, ServerSession&) override {
        co_return HelloAnswer{.checksums = hello.wants_checksums,
                              .instance = 1,
                              .requests_max = ServerSession::kRequestsMax,
                              .reservations = hello.session.has_value(),
                              .digests = true};
    }

    void run_test(const Client& client, Task<void> (*body)(ServerSessionTest&)) {
        reactor->block_on([](ServerSessionTest& t, Client kind,
                             Task<void> (*test)(ServerSessionTest&)) -> Task<void> {
            co_await t.connect(kind);
            co_await test(t);
            t.device.release();
            for (Connection& each : t.connections) each.session->close("the test is over");
            co_await t.scope.join();
        }(*this, client, body));
        connections.clear();
        EXPECT_EQ(payloads.bytes_held(), 0U) << "memory that nobody gave back";
    }
    Task<void> connect(Client kind) {
        Connection& made = connections.emplace_back();
        made.kind = kind;
        made.session = std::make_unique<ServerSession>(
            world, std::make_unique<ScriptedStream>(made.script), *this, receiving);
        scope.spawn(run_session(made));
        Wanted wanted{.export_name = "x",
                      .structured_replies = kind.structured,
                      .base_allocation = kind.allocation};
        if (kind.is_ours)
            wanted.hello =
                Hello{.export_name = "x",
                      .wants_checksums = kind.checksums,
                      .session = kind.session ? std::optional(SessionId{.head = 1}) : std::nullopt};
        ClientHandshake handshake(wanted);
        while (handshake.state() == ClientHandshake::State::reading ||
               !handshake.output().empty()) {
            if (!handshake.output().empty()) {
                made.script.feed(handshake.output());
                handshake.output_sent();
                continue;
            }
            if (!co_await made.script.until_sent(world.clock, 1)) co_return;
            const std::size_t used = handshake.feed(made.script.sent);
            (void)made.script.take(used);
        }
        EXPECT_EQ(handshake.state(), ClientHandshake::State::done);
        made.facts = handshake.result();
        made.script.sends.clear();
    }
    static Task<void> run_session(Connection& of) {
        co_await of.session->run();
        of.has_ended = true;
        of.script.notice();
    }

    Connection& one() { return connections.front(); }
    void ask(Command type, std::uint64_t cookie, std::uint64_t at = 0, std::size_t length = 0,
             std::uint16_t with = 0, std::span<const std::byte> payload = {},
             Connection* to = nullptr) {
        if (to == nullptr) to = &one();
        Bytes bytes(frame_size<RequestHeader>(to->kind.checksums));
        encode_frame(std::span(bytes),
                     RequestHeader{with, type, cookie, at, static_cast<std::uint32_t>(length)},
                     to->kind.checksums, crc32c(payload));
        test::append(bytes, payload);
        to->script.feed(bytes);
    }
    void ask_write(std::uint64_t cookie, std::uint64_t at, std::span<const std::byte> payload) {
        ask(Command::write, cookie, at, payload.size(), 0, payload);
    }
    struct Reply {
        std::uint64_t cookie = 0;
        std::uint32_t error = 0;
        Bytes data;
    };
    Task<Reply> simple(std::size_t data = 0) {
        co_await one().script.until_sent(world.clock, kSimpleReplyHeaderBytes);
        const auto frame = decode_frame<SimpleReplyHeader>(one().script.take(16), false);
        EXPECT_TRUE(frame.has_value());
        Reply reply{frame->header.cookie, frame->header.error, {}};
        if (reply.error == 0 && data > 0) {
            co_await one().script.until_sent(world.clock, data);
            reply.data = one().script.take(data);
        }
        co_return reply;
    }
    struct Chunk {
        ChunkHeader header;
        Bytes payload;
    };
    Task<Chunk> chunk(Connection* from = nullptr) {
        if (from == nullptr) from = &one();
        const bool sums = from->kind.checksums;
        const std::size_t front = frame_size<ChunkHeader>(sums);
        if (!co_await from->script.until_sent(world.clock, front)) co_return Chunk{};
        const auto frame = decode_frame<ChunkHeader>(from->script.take(front), sums);
        EXPECT_TRUE(frame.has_value());
        Chunk got{frame->header, {}};
        EXPECT_TRUE(check_chunk(got.header));
        co_await from->script.until_sent(world.clock, got.header.length);
        got.payload = from->script.take(got.header.length);
        if (sums) EXPECT_TRUE(check_payload(frame->payload_crc, got.payload));
        co_return got;
    }
    /// A whole structured answer; chunks of others must not stand in between.
    struct Answer {
        std::uint64_t cookie = 0;
        std::uint32_t error = 0;
        Bytes data;
        std::size_t holes = 0;
        std::size_t chunks = 0;
    };
    Task<Answer> answer(std::uint64_t at = 0, std::size_t length = 0) {
        Answer all{.data = Bytes(length, std::byte{0xee})};
        std::size_t filled = 0;
        while (true) {
            const Chunk next = co_await chunk();
            if (++all.chunks == 1) all.cookie = next.header.cookie;
            EXPECT_EQ(next.header.cookie, all.cookie);
            if (next.header.type == ChunkType::offset_data) {
                const auto offset = load_be<std::uint64_t>(next.payload.data()) - at;
                const std::size_t size = next.payload.size() - 8;
                EXPECT_LE(offset + size, length);
                if (offset + size > length) co_return all;
                std::copy(next.payload.begin() + 8, next.payload.end(),
                          all.data.begin() + static_cast<std::ptrdiff_t>(offset));
                filled += size;
            } else if (next.header.type == ChunkType::offset_hole) {
                const auto hole = *decode_hole(next.payload);
                EXPECT_LE(hole.offset - at + hole.length, length);
                std::fill_n(all.data.begin() + static_cast<std::ptrdiff_t>(hole.offset - at),
                            hole.length, std::byte{0});
                filled += hole.length;
                ++all.holes;
            } else if (is_error(next.header.type)) {
                all.error = decode_error(next.header.type, next.payload)->error;
            }
            if (next.header.is_last() || ::testing::Test::HasFailure()) break;
        }
        if (all.error == 0 && length > 0) EXPECT_EQ(filled, length);
        co_return all;
    }
    std::span<const std::byte> on_disk(std::size_t at, std::size_t length) const {
        return std::span(device.bytes).subspan(at, length);
    }
    Task<void> settle() const {
        for (int turns = 0; turns < 50; ++turns) co_await async::end_of_turn();
    }
    Task<void> until_ended() {
        co_await one().script.until(world.clock, [this] { return one().has_ended; });
    }

    io::uring::TestReactor reactor;
    io::World world = reactor->world();
    block::BufferPool pool{24 << 20};
    block::Account receiving{pool, 2};
    block::Account payloads{pool, 2};
    GatedDevice device;
    std::uint16_t flags = kFlagHasFlags | kFlagSendFlush | kFlagSendFua | kFlagSendTrim |
                          kFlagSendDf | kFlagSendWriteZeroes | kFlagSendFastZero | kFlagSendCache;
    block::Account* account = &payloads;
    bool may_change = true;
    bool holds_claims = false;
    std::vector<Claim> claims;
    std::size_t calmed = 0;
    async::WaitQueue claims_gate;
    bool is_current = true;
    std::deque<Connection> connections;
    async::Scope scope;
};

block::Device& TestServed::device() { return test.device; }
block::Account& TestServed::account() { return *test.account; }
ExportInfo TestServed::info() const {
    return {.name = "x", .size = ByteCount(kSizeBytes), .flags = test.flags};
}

Result<> TestServed::may_change() const {
    return test.may_change ? Result<>{} : fail(ErrorCode::not_permitted, "reserved");
}
Task<Ruling> TestServed::claim(Claim claim) {
    test.claims.push_back(claim);
    while (test.holds_claims) co_await test.claims_gate.wait();
    if (claim.expected == kHeld.number) co_return Ruling{.now = kHeld};
    co_return Ruling{.done = fail(ErrorCode::not_permitted, "no"), .text = "no", .now = kHeld};
}
Ruling TestServed::release(std::uint64_t number) {
    return {.done = number == kHeld.number ? Result<>{} : fail(ErrorCode::io_error, "disk"),
            .text = number == kHeld.number ? "" : "the disk",
            .now = {.number = number}};
}
void TestServed::has_calmed() { ++test.calmed; }
bool TestServed::is_current() const { return test.is_current; }

constexpr Client kSimple{.structured = false, .allocation = false};
constexpr Client kStructured{};
constexpr Client kOurs{.checksums = true, .is_ours = true};
constexpr Client kHead{.checksums = true, .is_ours = true, .session = true};
constexpr Client kPlainHead{.checksums = false, .is_ours = true, .session = true};

TEST_F(ServerSessionTest, simple_requests_get_simple_replies) {
    run_test(kSimple, [](ServerSessionTest& t) -> Task<void> {
        t.ask_write(7, 4096, pattern(8192));
        EXPECT_EQ((co_await t.simple()).cookie, 7U);
        EXPECT_TRUE(std::ranges::equal(t.on_disk(4096, 8192), pattern(8192)));
        t.ask(Command::read, 8, 4096, 8192);
        const Reply read = co_await t.simple(8192);
        EXPECT_TRUE(read.cookie == 8 && read.error == 0 && read.data == pattern(8192));
        for (const Command command :
             {Command::flush, Command::trim, Command::write_zeroes, Command::cache}) {
            t.ask(command, 9, 0, command == Command::flush ? 0 : 4096);
            const Reply reply = co_await t.simple();
            EXPECT_TRUE(reply.cookie == 9 && reply.error == 0);
        }
        t.ask(Command::write, 10, 0, 512, kCommandFlagFua, pattern(512));
        EXPECT_EQ((co_await t.simple()).error, 0U);
        EXPECT_EQ(t.device.fua, 1U);
    });
}

TEST_F(ServerSessionTest, of_a_device_that_has_lost_changes_only_errors_are_answered) {
    for (const Client& client : {kSimple, kStructured, kOurs})
        run_test(client, [](ServerSessionTest& t) -> Task<void> {
            t.is_current = true;
            t.device.held = true;
            t.device.bad_at = 8192;
            t.ask(Command::read, 1, 0, 4096);
            t.ask(Command::read, 2, 8192, 4096);
            t.ask(Command::write_zeroes, 3, 0, 4096);
            // A long one, where there are such.
            t.ask(Command::read, 4, 1 << 20, t.one().kind.checksums ? 1 << 20 : 2 << 20);
            co_await t.settle();
            EXPECT_EQ(t.device.running, 4U);
            t.is_current = false;
            t.device.release();
            if (t.one().kind.structured)
                EXPECT_TRUE((co_await t.answer()).error == 28);  // ENOSPC
            else
                EXPECT_TRUE((co_await t.simple()).error == 28);
            co_await t.until_ended();
            EXPECT_TRUE(t.one().script.sent.empty()) << "answered although it may be wrong";
            EXPECT_EQ(t.one().session->end_reason(), "the device has lost changes: a flush failed");
            t.device.bad_at = ~std::size_t{0};
        });
}

TEST_F(ServerSessionTest, one_batch_of_requests_is_answered_in_one_send) {
    run_test(kSimple, [](ServerSessionTest& t) -> Task<void> {
        for (std::uint64_t cookie = 0; cookie < 20; ++cookie)
            t.ask(Command::read, cookie, cookie * 4096, 4096);
        for (std::uint64_t i = 0; i < 20; ++i) (void)co_await t.simple(4096);
        EXPECT_EQ(t.one().script.sends.size(), 1U);
    });
}

TEST_F(ServerSessionTest, requests_and_replies_may_be_cut_anywhere) {
    run_test(kOurs, [](ServerSessionTest& t) -> Task<void> {
        const std::uint64_t seed = std::random_device{}();
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 random(seed);
        for (std::uint64_t round = 0; round < 60; ++round) {
            t.one().script.receive_most =
                test::random_cuts(random(), std::size_t{1} << (1 + random() % 16));
            t.one().script.send_most =
                test::random_cuts(random(), std::size_t{1} << (1 + random() % 16));
            const std::size_t length = (1 + random() % 200) * 512;
            const std::size_t at = random() % 1000 * 512;
            t.ask_write(round, at, pattern(length, round));
            EXPECT_EQ((co_await t.answer()).error, 0U);
            t.ask(Command::read, round, at, length);
            EXPECT_TRUE((co_await t.answer(at, length)).data == pattern(length, round));
        }
    });
}

TEST_F(ServerSessionTest, holes_are_found_in_reads) {
    for (const Client& client : {kStructured, kOurs})
        run_test(client, [](ServerSessionTest& t) -> Task<void> {
            constexpr std::size_t kStep = 64 << 10;
            std::ranges::fill(t.device.bytes, std::byte{0});
            for (const std::size_t step : {1U, 2U, 5U})
                std::ranges::copy(
                    pattern(kStep, step),
                    t.device.bytes.begin() + static_cast<std::ptrdiff_t>(step * kStep));
            t.ask(Command::read, 1, 0, 8 * kStep);
            const Answer all = co_await t.answer(0, 8 * kStep);
            EXPECT_TRUE(std::ranges::equal(all.data, t.on_disk(0, 8 * kStep)));
            EXPECT_EQ(all.holes, 3U);
            EXPECT_EQ(all.chunks, 5U);
            t.ask(Command::read, 2, 0, 8 * kStep, kCommandFlagDf);
            const Answer whole = co_await t.answer(0, 8 * kStep);
            EXPECT_TRUE(whole.data == all.data);
            EXPECT_EQ(whole.chunks, 1U);
            t.ask(Command::read, 3, 6 * kStep, 512);
            EXPECT_EQ((co_await t.answer(6 * kStep, 512)).holes, 1U);
            // As many runs as there can be.
            for (std::size_t step = 0; step < 16; ++step)
                std::fill_n(t.device.bytes.begin() + static_cast<std::ptrdiff_t>(step * kStep),
                            kStep, static_cast<std::byte>(step % 2));
            t.ask(Command::read, 4, 0, 16 * kStep);
            const Answer runs = co_await t.answer(0, 16 * kStep);
            EXPECT_TRUE(std::ranges::equal(runs.data, t.on_disk(0, 16 * kStep)));
            EXPECT_EQ(runs.holes, 8U);
        });
}

TEST_F(ServerSessionTest, long_reads_and_writes_go_in_pieces) {
    for (const Client& client : {kSimple, kStructured})
        run_test(client, [](ServerSessionTest& t) -> Task<void> {
            constexpr std::size_t kLength = (5 << 20) + 1536;
            t.device.longest = 0;
            t.ask_write(1, 512, pattern(kLength, 3));
            if (t.one().kind.structured)
                EXPECT_EQ((co_await t.answer()).error, 0U);
            else
                EXPECT_EQ((co_await t.simple()).error, 0U);
            EXPECT_TRUE(std::ranges::equal(t.on_disk(512, kLength), pattern(kLength, 3)));
            t.ask(Command::read, 2, 512, kLength);
            if (t.one().kind.structured)
                EXPECT_TRUE((co_await t.answer(512, kLength)).data == pattern(kLength, 3));
            else
                EXPECT_TRUE((co_await t.simple(kLength)).data == pattern(kLength, 3));
            EXPECT_EQ(t.device.longest, std::size_t{block::kPayloadMaxBytes});
            co_await t.settle();
            EXPECT_TRUE(t.one().script.sent.empty()) << "one answer each";
        });
}

TEST_F(ServerSessionTest, the_longest_request_needs_no_more_than_the_guarantee) {
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        block::Account other(t.pool, 0);
        std::vector<block::Buffer> hog;
        while (block::Buffer taken = other.try_allocate(block::kSlabBytes))
            hog.push_back(std::move(taken));
        t.ask_write(1, 0, pattern(kPayloadBytesMax));
        EXPECT_EQ((co_await t.answer()).error, 0U);
        t.ask(Command::read, 2, 0, kPayloadBytesMax);
        EXPECT_TRUE((co_await t.answer(0, kPayloadBytesMax)).data == pattern(kPayloadBytesMax));
    });
}

TEST_F(ServerSessionTest, an_error_of_one_piece_is_the_answer_to_a_long_write) {
    for (const Client& client : {kSimple, kStructured})
        run_test(client, [](ServerSessionTest& t) -> Task<void> {
            t.device.bad_at = (1 << 20) + 5;
            t.ask_write(1, 0, pattern(4 << 20));
            const std::uint32_t error =
                t.one().kind.structured ? (co_await t.answer()).error : (co_await t.simple()).error;
            EXPECT_EQ(error, kEnospc);
            t.device.bad_at = ~std::size_t{0};
            t.ask_write(2, 0, pattern(512));
            const std::uint64_t next = t.one().kind.structured ? (co_await t.answer()).cookie
                                                               : (co_await t.simple()).cookie;
            EXPECT_EQ(next, 2U);
        });
}

TEST_F(ServerSessionTest, an_error_in_the_midst_of_a_long_read_is_told_where_it_can_be) {
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        t.device.bad_at = 2 << 20;
        std::ranges::fill(t.device.bytes, std::byte{1});
        t.ask(Command::read, 1, 0, 4 << 20);
        const Answer failed = co_await t.answer(0, 4 << 20);
        EXPECT_EQ(failed.error, kEnospc);
        t.ask(Command::read, 2, 0, 512);
        EXPECT_EQ((co_await t.answer(0, 512)).error, 0U) << "the connection goes on";
    });
}

TEST_F(ServerSessionTest, an_error_in_the_midst_of_a_simple_long_read_is_told_if_memory_allows) {
    run_test(kSimple, [](ServerSessionTest& t) -> Task<void> {
        t.device.bad_at = 2 << 20;
        t.ask(Command::read, 1, 0, 4 << 20);
        EXPECT_EQ((co_await t.simple()).error, kEnospc);
        t.ask(Command::flush, 2);
        EXPECT_EQ((co_await t.simple()).cookie, 2U);
    });
}

TEST_F(ServerSessionTest, where_memory_is_short_an_error_amid_a_simple_long_read_ends_it) {
    run_test(kSimple, [](ServerSessionTest& t) -> Task<void> {
        block::Account other(t.pool, 0);
        std::vector<block::Buffer> hog;
        for (int i = 0; i < 19; ++i) {
            hog.push_back(other.try_allocate(block::kSlabBytes));
            if (!hog.back()) break;
        }
        t.device.bad_at = 14 << 20;
        t.ask(Command::read, 1, 0, 20 << 20);
        co_await t.until_ended();
        EXPECT_EQ(t.one().script.sent.size(), 16 + (14U << 20));
    });
}

TEST_F(ServerSessionTest, an_error_at_the_front_of_a_simple_long_read_is_told) {
    run_test(kSimple, [](ServerSessionTest& t) -> Task<void> {
        t.device.bad_at = 0;
        t.ask(Command::read, 1, 0, 4 << 20);
        EXPECT_EQ((co_await t.simple()).error, kEnospc);
        t.ask(Command::flush, 2);
        EXPECT_EQ((co_await t.simple()).cookie, 2U);
    });
}

TEST_F(ServerSessionTest, refused_requests_are_told_why_and_the_next_one_is_served) {
    flags |= kFlagReadOnly;
    flags = static_cast<std::uint16_t>(flags &
                                       ~(kFlagSendTrim | kFlagSendWriteZeroes | kFlagSendFastZero));
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        const auto refused = [](ServerSessionTest& in, Command type, std::uint64_t at,
                                std::size_t length, std::uint16_t with,
                                std::uint32_t error) -> Task<void> {
            const Bytes payload = type == Command::write ? pattern(length) : Bytes{};
            in.ask(type, 5, at, length, with, payload);
            const Answer answer = co_await in.answer();
            EXPECT_EQ(answer.error, error);
            EXPECT_EQ(answer.cookie, 5U);
        };
        co_await refused(t, Command::write, 0, 4096, 0, kEperm);
        co_await refused(t, Command::write, 0, 20 << 20, 0, kEperm);
        co_await refused(t, Command::read, kSizeBytes, 512, 0, kEinval);
        co_await refused(t, Command::read, kSizeBytes - 512, 1024, 0, kEinval);
        co_await refused(t, Command::read, ~std::uint64_t{511}, 1024, 0, kEinval);
        co_await refused(t, Command::read, 100, 512, 0, kEinval);
        co_await refused(t, Command::read, 0, 100, 0, kEinval);
        co_await refused(t, Command::read, 0, 0, 0, kEinval);
        co_await refused(t, Command::read, 0, 33 << 20, 0, kEinval);
        co_await refused(t, Command::read, 0, 512, 1 << 9, kEinval);
        co_await refused(t, Command{99}, 0, 512, 0, kEinval);
        co_await refused(t, Command::dst_ping, 0, 0, 0, kEinval);
        co_await refused(t, Command::flush, 512, 512, 0, kEinval);
        EXPECT_EQ(t.device.started, 0U);
        t.ask(Command::read, 6, 0, 512);
        EXPECT_EQ((co_await t.answer(0, 512)).cookie, 6U);
    });
}

TEST_F(ServerSessionTest, a_write_of_more_than_32_mib_ends_the_connection) {
    run_test(kSimple, [](ServerSessionTest& t) -> Task<void> {
        t.ask(Command::write, 1, 0, (32 << 20) + 512);
        co_await t.until_ended();
        EXPECT_EQ(t.device.started, 0U);
    });
}

TEST_F(ServerSessionTest, a_wrong_checksum_ends_the_connection_and_nothing_is_executed) {
    run_test(kOurs, [](ServerSessionTest& t) -> Task<void> {
        Bytes bytes(frame_size<RequestHeader>(true));
        encode_frame(std::span(bytes), RequestHeader{.type = Command::write, .length = 4096}, true,
                     1);
        test::append(bytes, pattern(4096));
        t.one().script.feed(bytes);
        co_await t.until_ended();
        EXPECT_EQ(t.device.started, 0U);
        EXPECT_TRUE(t.one().script.sent.empty());
    });
}

TEST_F(ServerSessionTest, block_status_is_told_as_one_chunk) {
    run_test(kOurs, [](ServerSessionTest& t) -> Task<void> {
        for (const bool one_only : {false, true}) {
            t.ask(Command::block_status, 1, 0, 40960,
                  one_only ? kCommandFlagReqOne : std::uint16_t{0});
            const Chunk chunk = co_await t.chunk();
            EXPECT_EQ(chunk.header.type, ChunkType::block_status);
            EXPECT_TRUE(chunk.header.is_last());
            const auto status = decode_block_status(chunk.payload);
            EXPECT_TRUE(status.has_value());
            EXPECT_EQ(status->size(), one_only ? 1U : 10U);
            EXPECT_EQ(status->context(), t.one().facts.allocation_context);
            EXPECT_EQ((*status)[0], (BlockDescriptor{4096, kStateHole}));
        }
        t.ask(Command::block_status, 1, 0, kSizeBytes);
        const Chunk chunk = co_await t.chunk();
        EXPECT_GT(decode_block_status(chunk.payload)->size(), 10U);
    });
}

TEST_F(ServerSessionTest, block_status_of_many_clients_does_not_wait_for_itself) {
    // Two clients with all their slots taken, and memory for half of what they ask.
    block::Account small(pool, 1);
    account = &small;
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        std::vector<block::Buffer> rest;
        block::Account greedy(t.pool, 0);
        // Whoever comes late finds only what it was promised.
        while (block::Buffer taken = greedy.try_allocate(block::kSlabBytes))
            rest.push_back(std::move(taken));
        std::deque<block::Account> more;
        for (int i = 0; i < 12; ++i) {
            more.emplace_back(t.pool, 0);
            while (block::Buffer taken = more.back().try_allocate(block::kSlabBytes))
                rest.push_back(std::move(taken));
        }
        co_await t.connect(kStructured);
        t.device.held = true;
        for (Connection& each : t.connections)
            for (std::uint64_t i = 0; i < ServerSession::kRequestsMax; ++i)
                t.ask(Command::block_status, i, 0, 40960, 0, {}, &each);
        co_await t.settle();
        t.device.release();
        const io::TimePoint deadline = t.world.clock.now() + std::chrono::seconds(3);
        const auto bytes_of_all = std::size_t{ServerSession::kRequestsMax} * (20 + 4 + 10 * 8);
        const auto done = [&] {
            return std::ranges::all_of(t.connections, [&](const Connection& each) {
                return each.script.sent.size() >= bytes_of_all;
            });
        };
        while (!done() && t.world.clock.now() < deadline)
            co_await io::sleep_for(t.world.clock, std::chrono::milliseconds(5));
        EXPECT_TRUE(done()) << "answered: " << t.connections[0].script.sent.size() << " and "
                            << t.connections[1].script.sent.size() << " of " << bytes_of_all
                            << " bytes";
        rest.clear();
    });
    account = &payloads;
}

TEST_F(ServerSessionTest, a_digest_is_that_of_what_the_range_holds) {
    for (const Client& client : {kOurs, kPlainHead})
        run_test(client, [](ServerSessionTest& t) -> Task<void> {
            for (const std::size_t length : {512U, 4096U, 1U << 20}) {
                std::ranges::copy(pattern(length, length), t.device.bytes.begin() + 8192);
                t.ask(Command::dst_digest, 5, 8192, length);
                const Chunk told = co_await t.chunk();
                EXPECT_EQ(told.header, (ChunkHeader{.flags = kReplyFlagDone,
                                                    .type = ChunkType::dst_digest,
                                                    .cookie = 5,
                                                    .length = kDigestBytes}));
                EXPECT_TRUE(
                    std::ranges::equal(told.payload, digest_of(t.on_disk(8192, length)).bytes));
            }
            t.device.bad_at = 8192;
            t.ask(Command::dst_digest, 6, 8192, 512);
            EXPECT_EQ((co_await t.answer()).error, kEnospc) << "the error of the disk";
            t.device.bad_at = ~std::size_t{0};
            t.ask(Command::dst_digest, 7, 0, (1 << 20) + 512);
            EXPECT_EQ((co_await t.answer()).error, kEinval);
        });
}

TEST_F(ServerSessionTest, commands_that_were_not_agreed_on_are_refused) {
    run_test(kOurs, [](ServerSessionTest& t) -> Task<void> {
        t.ask(Command::dst_reservation, 1);
        EXPECT_EQ((co_await t.answer()).error, kEinval) << "there is no session";
    });
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        t.ask(Command::dst_digest, 1, 0, 512);
        EXPECT_EQ((co_await t.answer()).error, kEinval) << "there was no hello";
    });
    Client unstructured = kPlainHead;
    unstructured.structured = unstructured.allocation = false;
    run_test(unstructured, [](ServerSessionTest& t) -> Task<void> {
        for (const Command command : {Command::dst_digest, Command::dst_reservation}) {
            t.ask(command, 1, 0, command == Command::dst_digest ? 512 : 0);
            EXPECT_EQ((co_await t.simple()).error, kEinval) << "no chunk can be sent";
        }
    });
}

TEST_F(ServerSessionTest, reservations_are_told_claimed_and_released) {
    for (const Client& client : {kHead, kPlainHead})
        run_test(client, [](ServerSessionTest& t) -> Task<void> {
            t.claims.clear();
            const auto state = [](const Chunk& chunk) {
                EXPECT_EQ(chunk.header.type, ChunkType::dst_reservation);
                return decode_reservation(chunk.payload).value_or(Reservation{});
            };
            t.ask(Command::dst_reservation, 1);
            Chunk told = co_await t.chunk();
            EXPECT_TRUE(told.header.is_last() && told.header.cookie == 1);
            EXPECT_EQ(state(told), kHeld);

            t.ask(Command::dst_claim, 2, 7, 12'345, kCommandFlagDstForce);
            told = co_await t.chunk();
            EXPECT_TRUE(told.header.is_last() && told.header.cookie == 2);
            EXPECT_EQ(state(told), kHeld);
            EXPECT_EQ(t.claims.back().expected, 7U);
            EXPECT_EQ(t.claims.back().takeover.count(), 12'345);
            EXPECT_TRUE(t.claims.back().force);

            // Refused: the state, and behind it why.
            t.ask(Command::dst_claim, 3, 8, 1);
            told = co_await t.chunk();
            EXPECT_FALSE(told.header.is_last());
            EXPECT_EQ(state(told), kHeld);
            told = co_await t.chunk();
            EXPECT_TRUE(told.header.is_last() && told.header.cookie == 3);
            EXPECT_EQ(*decode_error(told.header.type, told.payload), (ErrorBody{kEperm, "no", {}}));
            EXPECT_FALSE(t.claims.back().force);

            t.ask(Command::dst_release, 4, 7);
            EXPECT_EQ(state(co_await t.chunk()), Reservation{.number = 7});
            t.ask(Command::dst_release, 5, 9);
            EXPECT_EQ(state(co_await t.chunk()), Reservation{.number = 9});
            told = co_await t.chunk();
            EXPECT_EQ(*decode_error(told.header.type, told.payload),
                      (ErrorBody{kEio, "the disk", {}}));
        });
}

TEST_F(ServerSessionTest, a_reservation_is_spoken_of_with_all_slots_in_use) {
    run_test(kHead, [](ServerSessionTest& t) -> Task<void> {
        t.device.held = true;
        for (std::uint64_t cookie = 0; cookie < ServerSession::kRequestsMax; ++cookie)
            t.ask(Command::read, cookie, 0, 512);
        t.ask(Command::dst_reservation, 1000);
        EXPECT_EQ((co_await t.chunk()).header.cookie, 1000U);
        // A claim that waits hinders nobody but the next of its kind.
        t.holds_claims = true;
        t.ask(Command::dst_claim, 1001, 7, 1);
        t.ask(Command::dst_ping, 1002);
        EXPECT_EQ((co_await t.chunk()).header.cookie, 1002U);
        t.ask(Command::dst_reservation, 1003);
        co_await t.settle();
        EXPECT_TRUE(t.one().script.sent.empty());
        t.holds_claims = false;
        t.claims_gate.wake_all();
        EXPECT_EQ((co_await t.chunk()).header.cookie, 1001U);
        EXPECT_EQ((co_await t.chunk()).header.cookie, 1003U);
    });
}

TEST_F(ServerSessionTest, changes_of_who_may_not_are_refused_one_by_one_and_reads_go_on) {
    run_test(kOurs, [](ServerSessionTest& t) -> Task<void> {
        t.ask_write(1, 0, pattern(4096));
        EXPECT_EQ((co_await t.answer()).error, 0U);
        t.may_change = false;
        const std::size_t before = t.device.started;
        t.ask_write(2, 0, pattern(4096, 2));
        EXPECT_EQ((co_await t.answer()).error, kEperm);
        for (const Command command : {Command::trim, Command::write_zeroes}) {
            t.ask(command, 3, 0, 4096);
            EXPECT_EQ((co_await t.answer()).error, kEperm);
        }
        EXPECT_EQ(t.device.started, before) << "it reached the device";
        t.ask(Command::read, 4, 0, 4096);
        EXPECT_TRUE((co_await t.answer(0, 4096)).data == pattern(4096));
        t.ask(Command::flush, 5);
        EXPECT_EQ((co_await t.answer()).error, 0U);
        t.may_change = true;
        t.ask_write(6, 0, pattern(4096, 6));
        EXPECT_EQ((co_await t.answer()).error, 0U);
    });
    // Of a long one no piece gets through that comes later.
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        t.may_change = false;
        t.ask_write(1, 0, pattern(3 << 20));
        EXPECT_EQ((co_await t.answer()).error, kEperm);
        t.may_change = true;
    });
}

TEST_F(ServerSessionTest, changes_in_flight_and_the_last_sign_of_life_are_known) {
    run_test(kOurs, [](ServerSessionTest& t) -> Task<void> {
        ServerSession& session = *t.one().session;
        EXPECT_FALSE(session.has_changes_in_flight());
        t.device.held = true;
        t.ask(Command::read, 1, 0, 512);
        t.ask_write(2, 0, pattern(512));
        t.ask_write(3, 4096, pattern(512));
        co_await t.one().script.until(t.world.clock, [&] { return t.device.running == 3; });
        const io::TimePoint heard = session.last_heard();
        EXPECT_TRUE(session.is_connected() && session.has_changes_in_flight());
        const std::size_t calmed = t.calmed;
        co_await io::sleep_for(t.world.clock, std::chrono::milliseconds(2));
        EXPECT_EQ(session.last_heard(), heard);
        t.device.release();
        for (int i = 0; i < 3; ++i) (void)co_await t.chunk();
        EXPECT_FALSE(session.has_changes_in_flight());
        EXPECT_EQ(t.calmed, calmed + 1);
        t.ask(Command::dst_ping, 4);
        (void)co_await t.chunk();
        EXPECT_GT(session.last_heard(), heard);
        t.one().script.end();
        co_await t.until_ended();
        EXPECT_FALSE(session.is_connected());
    });
}

TEST_F(ServerSessionTest, no_more_than_its_slots_are_in_flight_and_a_ping_is_answered_then) {
    run_test(kOurs, [](ServerSessionTest& t) -> Task<void> {
        t.device.held = true;
        for (std::uint64_t i = 0; i < ServerSession::kRequestsMax; ++i)
            t.ask(Command::read, i, 0, 512);
        t.ask(Command::dst_ping, 1000);
        const Chunk pong = co_await t.chunk();
        EXPECT_TRUE(pong.header.cookie == 1000 && pong.header.type == ChunkType::none);
        for (std::uint64_t i = 0; i < 100; ++i) t.ask(Command::read, 500 + i, 0, 512);
        co_await t.settle();
        EXPECT_EQ(t.device.running, ServerSession::kRequestsMax);
        t.device.release();
        std::set<std::uint64_t> cookies;
        for (int i = 0; i < 356; ++i) cookies.insert((co_await t.answer(0, 512)).cookie);
        EXPECT_EQ(cookies.size(), 356U);
        EXPECT_EQ(t.device.running_most, ServerSession::kRequestsMax);
    });
}

TEST_F(ServerSessionTest, every_ping_is_answered_in_order_however_late_the_client_reads) {
    run_test(kOurs, [](ServerSessionTest& t) -> Task<void> {
        t.one().script.holds_sends = true;
        for (std::uint64_t i = 0; i < 250; ++i) t.ask(Command::dst_ping, i);
        co_await t.settle();
        t.one().script.release_sends();
        for (std::uint64_t i = 0; i < 250; ++i) EXPECT_EQ((co_await t.chunk()).header.cookie, i);
    });
}

TEST_F(ServerSessionTest, who_pings_and_does_not_read_is_sent_away) {
    run_test(kOurs, [](ServerSessionTest& t) -> Task<void> {
        t.one().script.holds_sends = true;
        for (std::uint64_t i = 0; i < 10'000; ++i) t.ask(Command::dst_ping, i);
        co_await t.until_ended();
    });
}

TEST_F(ServerSessionTest, a_client_that_does_not_read_holds_no_more_than_its_share) {
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        std::ranges::fill(t.device.bytes, std::byte{1});
        t.one().script.holds_sends = true;
        std::uint64_t cookie = 0;
        for (int i = 0; i < 60; ++i) t.ask(Command::read, cookie++, 0, 1 << 20);
        for (int i = 0; i < 20; ++i) t.ask(Command::read, cookie++, 0, 3 << 20);
        co_await t.settle();
        // Its guarantee of 2, and as much of the 20 that nobody was promised as it leaves.
        EXPECT_LE(t.payloads.bytes_held(), std::size_t{12} << 20);
        EXPECT_LE(t.receiving.bytes_held(), std::size_t{2} << 20);
        EXPECT_GE(t.pool.slabs_free(), 8U);
        t.one().script.release_sends();
        std::size_t got = 0;
        std::set<std::uint64_t> ended;
        while (ended.size() < cookie && !::testing::Test::HasFailure()) {
            const Chunk next = co_await t.chunk();
            got += next.payload.size() - 8;
            if (next.header.is_last()) ended.insert(next.header.cookie);
            EXPECT_LE(t.payloads.bytes_held(), std::size_t{12} << 20);
        }
        EXPECT_EQ(got, (std::size_t{60} + 3 * 20) << 20);
    });
}

TEST_F(ServerSessionTest, what_was_not_dispatched_when_it_was_displaced_is_discarded) {
    run_test(kOurs, [](ServerSessionTest& t) -> Task<void> {
        t.device.held = true;
        for (std::uint64_t i = 0; i < 400; ++i) t.ask_write(i, i * 512, pattern(512));
        co_await t.one().script.until(t.world.clock, [] { return true; });
        co_await t.settle();
        EXPECT_EQ(t.device.started, ServerSession::kRequestsMax);
        t.one().session->close("displaced");
        co_await t.settle();
        EXPECT_FALSE(t.one().has_ended) << "requests are in flight";
        t.device.release();
        co_await t.until_ended();
        EXPECT_EQ(t.device.started, ServerSession::kRequestsMax)
            << "a request of a closed session was begun";
        EXPECT_EQ(t.one().session->end_reason(), "displaced");
        EXPECT_TRUE(t.one().script.sent.empty());
    });
}

TEST_F(ServerSessionTest, a_write_whose_payload_has_not_come_is_not_executed_when_it_is_closed) {
    run_test(kSimple, [](ServerSessionTest& t) -> Task<void> {
        t.ask(Command::write, 1, 0, 4096, 0, pattern(4000));
        co_await t.settle();
        t.one().session->close("test");
        co_await t.until_ended();
        EXPECT_EQ(t.device.started, 0U);
    });
}

TEST_F(ServerSessionTest, finish_answers_what_is_in_flight_and_takes_no_more) {
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        t.device.held = true;
        for (std::uint64_t i = 0; i < 5; ++i) t.ask_write(i, i * 512, pattern(512));
        t.ask(Command::read, 5, 0, 3 << 20);
        co_await t.settle();
        EXPECT_EQ(t.device.started, 6U);
        t.one().session->finish("shutting down");
        t.ask(Command::flush, 9);
        co_await t.settle();
        EXPECT_EQ(t.device.started, 6U);
        EXPECT_FALSE(t.one().has_ended);
        t.device.release();
        std::set<std::uint64_t> cookies;
        while (cookies.size() < 6 && !::testing::Test::HasFailure()) {
            const Chunk next = co_await t.chunk();
            if (next.header.is_last()) cookies.insert(next.header.cookie);
        }
        co_await t.until_ended();
        EXPECT_FALSE(cookies.contains(9));
        EXPECT_TRUE(t.one().script.is_shut_down);
    });
}

TEST_F(ServerSessionTest, finish_of_an_idle_session_ends_it_at_once) {
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        t.one().session->finish("shutting down");
        co_await t.until_ended();
        EXPECT_EQ(t.one().session->end_reason(), "shutting down");
    });
}

TEST_F(ServerSessionTest, a_good_bye_is_obeyed_after_all_answers) {
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        t.device.held = true;
        t.ask_write(1, 0, pattern(512));
        t.ask(Command::disconnect, 2);
        t.ask(Command::flush, 3);
        co_await t.settle();
        t.device.release();
        EXPECT_EQ((co_await t.answer()).cookie, 1U);
        co_await t.until_ended();
        EXPECT_TRUE(t.one().script.sent.empty());
        EXPECT_EQ(t.device.started, 1U);
    });
}

TEST_F(ServerSessionTest, a_client_that_goes_amid_a_long_write_leaves_nothing_behind) {
    run_test(kSimple, [](ServerSessionTest& t) -> Task<void> {
        t.device.held = true;
        t.ask(Command::write, 1, 0, 8 << 20, 0, pattern((2 << 20) + 77));
        co_await t.one().script.until(t.world.clock, [] { return true; });
        co_await t.settle();
        t.one().script.end();
        co_await t.settle();
        t.device.release();
        co_await t.until_ended();
    });
}

TEST_F(ServerSessionTest, a_client_that_breaks_amid_its_answers_leaves_nothing_behind) {
    run_test(kStructured, [](ServerSessionTest& t) -> Task<void> {
        std::ranges::fill(t.device.bytes, std::byte{1});
        t.one().script.sending_fails_after = 1'500'000;
        for (std::uint64_t i = 0; i < 20; ++i)
            t.ask(Command::read, i, 0, i % 2 == 0 ? 4 << 20 : 65536);
        co_await t.until_ended();
    });
}

}  // namespace
}  // namespace dst::nbd
