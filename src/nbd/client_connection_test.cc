// A client's connection to servers that misbehave: what they send is judged, nothing is believed,
// and whatever happens every call is either answered once or still there.
#include "nbd/client_connection.h"

#include <gtest/gtest.h>

#include <deque>

#include "io/uring/test_reactor.h"
#include "nbd/scripted_stream.h"
#include "nbd/server_handshake.h"

namespace dst::nbd {
namespace {

using async::Task;
using block::Op;
using test::Bytes;
using test::pattern;
using test::Script;
using test::ScriptedStream;

struct TestCall final : Call {
    std::vector<Result<>> answers;
    Script* script = nullptr;
    OwnCommand command;
    Bytes memory;
    std::vector<block::Extent> room;
    std::optional<block::ExtentList> extents;

  private:
    void on_answer(Result<> answer) override {
        answers.push_back(answer);
        script->notice();
    }
};

struct Server {
    bool structured = true;
    bool checksums = false;
    bool is_ours = false;
    std::uint32_t requests_max = 256;
};

class ClientConnectionTest : public testing::Test {
  public:
    static constexpr std::uint64_t kSizeBytes = 1 << 30;

    ~ClientConnectionTest() override {
        if (connection) {
            connection->shutdown("the test is over");
            run([](ClientConnectionTest& t) -> Task<void> { co_await t.scope.join(); }(*this));
        }
        for (TestCall& call : calls) static_cast<ListHook<CallTag>&>(call).unlink();
    }
    void run(Task<void> task) { reactor->block_on(std::move(task)); }
    void run_test(const Server& server, Task<void> (*body)(ClientConnectionTest&)) {
        run([](ClientConnectionTest& t, Server as,
               Task<void> (*test)(ClientConnectionTest&)) -> Task<void> {
            co_await t.connect(as);
            co_await test(t);
        }(*this, server, body));
    }

    /// Shakes hands with a server of that kind, and lets the connection run.
    Task<void> connect(const Server& server) {
        kind = server;
        connection = std::make_unique<ClientConnection>(
            world, std::make_unique<ScriptedStream>(script), account);
        scope.spawn(shake(*this));
        ServerHandshake handshake;
        Bytes rest;
        while (handshake.state() != ServerHandshake::State::done || !handshake.output().empty()) {
            if (!handshake.output().empty()) {
                script.feed(handshake.output());
                handshake.output_sent();
            } else if (handshake.state() == ServerHandshake::State::asks) {
                answer(handshake);
            } else {
                const std::size_t used = handshake.feed(script.sent);
                if (used == 0) co_await script.until_sent(world.clock, script.sent.size() + 1);
                (void)script.take(used);
            }
        }
        context = handshake.result().base_allocation_id;
        co_await script.until(world.clock, [this] { return agreed; });
        scope.spawn(run_connection(*this));
        script.sends.clear();
    }
    void answer(ServerHandshake& handshake) const {
        if (std::holds_alternative<Hello>(handshake.question())) {
            if (kind.is_ours)
                handshake.answer(HelloAnswer{
                    .checksums = kind.checksums, .instance = 1, .requests_max = kind.requests_max});
            else
                handshake.answer(Refusal{ReplyType::error_unsupported, {}});
        } else {
            handshake.answer(ExportInfo{.name = "x",
                                        .size = ByteCount(kSizeBytes),
                                        .flags = kFlagHasFlags | kFlagSendFlush | kFlagSendFua |
                                                 kFlagSendTrim | kFlagSendWriteZeroes});
        }
    }
    static Task<void> shake(ClientConnectionTest& t) {
        Wanted wanted{.export_name = "x", .structured_replies = t.kind.structured};
        if (t.kind.is_ours)
            wanted.hello = Hello{.export_name = "x", .wants_checksums = t.kind.checksums};
        const auto done = co_await t.connection->handshake(wanted);
        EXPECT_TRUE(done.has_value()) << done.error().text;
        t.agreed = done.has_value();
        t.script.notice();
    }
    static Task<void> run_connection(ClientConnectionTest& t) {
        t.ended = co_await t.connection->run();
        t.script.notice();
    }

    TestCall& submit(Op op, std::uint64_t at = 0, std::uint64_t count = 0, bool ping = false) {
        TestCall& call = calls.emplace_back();
        call.script = &script;
        if (ping) call.own = &call.command;
        call.request = {.op = op, .range = {SectorIndex(at), SectorCount(count)}};
        if (op == Op::read || op == Op::write) {
            call.memory = op == Op::write ? pattern(count * kSectorBytes, calls.size())
                                          : Bytes(count * kSectorBytes, std::byte{0xee});
            call.request.data = call.memory;
        }
        if (op == Op::block_status) {
            call.room.resize(5000);
            call.extents.emplace(call.room);
            call.request.extents = &*call.extents;
        }
        connection->submit(call);
        return call;
    }
    /// The next request that came to the server; its payload is taken off.
    Task<RequestHeader> request() {
        const std::size_t front = frame_size<RequestHeader>(kind.checksums);
        co_await script.until_sent(world.clock, front);
        const auto frame = decode_frame<RequestHeader>(script.take(front), kind.checksums);
        EXPECT_TRUE(frame.has_value());
        if (!frame) co_return RequestHeader{};
        if (frame->header.type == Command::write) {
            co_await script.until_sent(world.clock, frame->header.length);
            last_payload = script.take(frame->header.length);
        }
        co_return frame->header;
    }
    void simple(std::uint64_t cookie, std::uint32_t error = 0,
                std::span<const std::byte> data = {}) {
        Bytes bytes(kSimpleReplyHeaderBytes);
        encode_frame(std::span(bytes), SimpleReplyHeader{error, cookie}, false);
        test::append(bytes, data);
        script.feed(bytes);
    }
    void chunk(std::uint64_t cookie, ChunkType type, std::span<const std::byte> payload,
               bool last = true, std::optional<std::uint32_t> length = {},
               std::uint32_t spoil_payload = 0) {
        Bytes bytes(frame_size<ChunkHeader>(kind.checksums));
        encode_frame(
            std::span(bytes),
            ChunkHeader{.flags = last ? kReplyFlagDone : std::uint16_t{0},
                        .type = type,
                        .cookie = cookie,
                        .length = length.value_or(static_cast<std::uint32_t>(payload.size()))},
            kind.checksums, crc32c(payload) ^ spoil_payload);
        test::append(bytes, payload);
        script.feed(bytes);
    }
    void done(std::uint64_t cookie) { chunk(cookie, ChunkType::none, {}); }
    static Bytes data_payload(std::uint64_t offset, std::span<const std::byte> data) {
        Bytes payload(8);
        store_be(payload.data(), offset);
        test::append(payload, data);
        return payload;
    }
    static Bytes hole_payload(std::uint64_t offset, std::uint32_t length) {
        Bytes payload(12);
        store_be(payload.data(), offset);
        store_be(payload.data() + 8, length);
        return payload;
    }
    static Bytes status_payload(std::uint32_t id, const std::vector<BlockDescriptor>& all) {
        Bytes payload(block_status_size(all.size()));
        encode_block_status(payload, id, all);
        return payload;
    }
    static Bytes error_payload(std::uint32_t error) {
        Bytes payload(error_size({.error = error}));
        encode_error(payload, {.error = error});
        return payload;
    }
    Task<bool> answered(TestCall& call) {
        co_return co_await script.until(world.clock, [&call] { return !call.answers.empty(); });
    }
    /// Waits for the connection to end; then checks that `call` was not answered.
    Task<void> ended_without(TestCall& call) {
        co_await script.until(world.clock, [this] { return ended.has_value(); });
        EXPECT_TRUE(call.answers.empty()) << "it is to be sent again, not answered";
        EXPECT_FALSE(call.is_submitted());
        EXPECT_TRUE(static_cast<ListHook<CallTag>&>(call).is_linked());
    }
    /// Lets everything happen that can.
    Task<void> settle() const {
        for (int turns = 0; turns < 20; ++turns) co_await async::end_of_turn();
    }

    io::uring::TestReactor reactor;
    io::World world = reactor->world();
    block::BufferPool pool{8 << 20};
    block::Account account{pool, 4};
    Script script;
    Server kind;
    bool agreed = false;
    std::uint32_t context = 0;
    Bytes last_payload;
    std::deque<TestCall> calls;
    std::unique_ptr<ClientConnection> connection;
    std::optional<std::string> ended;
    async::Scope scope;
};

constexpr Server kSimple{.structured = false};
constexpr Server kStructured{};
constexpr Server kOurs{.checksums = true, .is_ours = true};

TEST_F(ClientConnectionTest, answers_in_any_order_reach_their_calls) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& read = t.submit(Op::read, 8, 8);
        TestCall& write = t.submit(Op::write, 16, 8);
        TestCall& flush = t.submit(Op::flush);
        const auto first = co_await t.request();
        const auto second = co_await t.request();
        const auto third = co_await t.request();
        EXPECT_TRUE(first.type == Command::read && first.offset == 4096 && first.length == 4096);
        EXPECT_TRUE(second.type == Command::write && second.offset == 8192);
        EXPECT_TRUE(t.last_payload == write.memory);
        EXPECT_TRUE(third.type == Command::flush && third.offset == 0 && third.length == 0);
        EXPECT_EQ(t.script.sends.size(), 1U) << "one turn, one send";
        t.done(third.cookie);
        t.simple(second.cookie);  // allowed for all but reads
        // Data, out of order, and a hole.
        t.chunk(first.cookie, ChunkType::offset_data, data_payload(4096 + 3072, pattern(1024)),
                false);
        t.chunk(first.cookie, ChunkType::offset_hole, hole_payload(4096, 3072));
        co_await t.answered(read);
        Bytes expected(3072);
        test::append(expected, pattern(1024));
        EXPECT_TRUE(read.memory == expected);
        for (TestCall* call : {&read, &write, &flush}) {
            EXPECT_EQ(call->answers.size(), 1U);
            EXPECT_TRUE(call->answers[0].has_value());
        }
        EXPECT_TRUE(t.connection->idle());
    });
}

TEST_F(ClientConnectionTest, an_answer_to_nothing_that_was_asked_ends_it) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::flush);
        const auto header = co_await t.request();
        t.done(header.cookie ^ (std::uint64_t{1} << 32));
        co_await t.ended_without(call);
    });
}

TEST_F(ClientConnectionTest, a_cookie_beyond_the_table_ends_it) {
    run_test(kSimple, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::flush);
        (void)co_await t.request();
        t.simple(0xffffffff);
        co_await t.ended_without(call);
    });
}

TEST_F(ClientConnectionTest, the_second_answer_to_one_call_ends_it_and_the_first_stands) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& first = t.submit(Op::flush);
        const auto header = co_await t.request();
        t.done(header.cookie);
        co_await t.answered(first);
        TestCall& second = t.submit(Op::flush);
        (void)co_await t.request();  // has the first one's place
        t.done(header.cookie);
        co_await t.ended_without(second);
        EXPECT_EQ(first.answers.size(), 1U);
    });
}

TEST_F(ClientConnectionTest, data_outside_of_the_request_ends_it_and_is_not_stored) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::read, 8, 8);
        const auto header = co_await t.request();
        t.chunk(header.cookie, ChunkType::offset_data, data_payload(4096 + 4000, pattern(200)));
        co_await t.ended_without(call);
        EXPECT_TRUE(call.memory == Bytes(4096, std::byte{0xee}));
    });
}

TEST_F(ClientConnectionTest, a_hole_outside_of_the_request_ends_it) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::read, 8, 8);
        const auto header = co_await t.request();
        t.chunk(header.cookie, ChunkType::offset_hole, hole_payload(0, 4097));
        co_await t.ended_without(call);
        EXPECT_TRUE(call.memory == Bytes(4096, std::byte{0xee}));
    });
}

TEST_F(ClientConnectionTest, data_for_what_is_no_read_ends_it) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::write, 8, 8);
        const auto header = co_await t.request();
        t.chunk(header.cookie, ChunkType::offset_data, data_payload(4096, pattern(512)));
        co_await t.ended_without(call);
    });
}

TEST_F(ClientConnectionTest, an_answer_with_gaps_is_an_error_of_that_call_alone) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::read, 8, 8);
        const auto header = co_await t.request();
        t.chunk(header.cookie, ChunkType::offset_data, data_payload(4096, pattern(4000)));
        co_await t.answered(call);
        EXPECT_FALSE(call.answers.at(0).has_value());
        TestCall& next = t.submit(Op::read, 0, 1);
        const auto again = co_await t.request();
        t.done(again.cookie);
        co_await t.answered(next);
        EXPECT_FALSE(next.answers.at(0).has_value()) << "nothing at all is a gap, too";
        EXPECT_FALSE(t.ended.has_value());
    });
}

TEST_F(ClientConnectionTest, one_half_sent_twice_does_not_pass_for_the_whole) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::read, 8, 8);
        const auto header = co_await t.request();
        t.chunk(header.cookie, ChunkType::offset_data, data_payload(4096, pattern(2048)), false);
        t.chunk(header.cookie, ChunkType::offset_data, data_payload(4096, pattern(2048)));
        co_await t.script.until(t.world.clock,
                                [&] { return t.ended.has_value() || !call.answers.empty(); });
        const bool passed = !call.answers.empty() && call.answers[0].has_value();
        EXPECT_FALSE(passed) << "the second half is what was in memory before";
    });
}

struct BadChunk {
    ChunkType type;
    std::uint32_t length;
};
class BadChunkTest : public ClientConnectionTest, public testing::WithParamInterface<BadChunk> {
  public:
    static Task<void> body(ClientConnectionTest& t) {
        TestCall& call = t.submit(Op::read, 8, 8);
        const auto header = co_await t.request();
        Bytes payload = data_payload(4096, pattern(8192));
        payload.resize(std::min<std::size_t>(payload.size(), GetParam().length));
        t.chunk(header.cookie, GetParam().type, payload, false, GetParam().length);
        co_await t.ended_without(call);
        EXPECT_TRUE(call.memory == Bytes(4096, std::byte{0xee}));
    }
};

TEST_P(BadChunkTest, chunks_of_a_wrong_length_or_type_end_it) { run_test({}, body); }

INSTANTIATE_TEST_SUITE_P(
    All, BadChunkTest,
    testing::Values(BadChunk{ChunkType::offset_data, 8 + 4097},
                    BadChunk{ChunkType::offset_data, 33U << 20},
                    BadChunk{ChunkType::offset_data, 8}, BadChunk{ChunkType::none, 4},
                    BadChunk{ChunkType::offset_hole, 13}, BadChunk{ChunkType::error, 1U << 20},
                    BadChunk{ChunkType::error, 5}, BadChunk{ChunkType::block_status, 11},
                    BadChunk{ChunkType::block_status, 12}, BadChunk{ChunkType{77}, 4}));

TEST_F(ClientConnectionTest, an_error_is_the_answer_to_its_call_with_its_code) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        for (const auto& [wire, code] : {std::pair{kEnospc, ErrorCode::no_space},
                                         {kEperm, ErrorCode::not_permitted},
                                         {kEio, ErrorCode::io_error},
                                         {12345U, ErrorCode::invalid}}) {
            for (const bool simply : {false, true}) {
                TestCall& call = t.submit(Op::write, 8, 8);
                const auto header = co_await t.request();
                if (simply)
                    t.simple(header.cookie, wire);
                else
                    t.chunk(header.cookie, ChunkType::error, error_payload(wire));
                co_await t.answered(call);
                EXPECT_EQ(call.answers.at(0).error().code, code);
            }
        }
        // An error in the midst of a read's data.
        TestCall& read = t.submit(Op::read, 8, 8);
        const auto header = co_await t.request();
        t.chunk(header.cookie, ChunkType::offset_data, data_payload(4096, pattern(4096)), false);
        t.chunk(header.cookie, ChunkType::error, error_payload(kEio), false);
        t.done(header.cookie);
        co_await t.answered(read);
        EXPECT_EQ(read.answers.at(0).error().code, ErrorCode::io_error);
    });
}

TEST_F(ClientConnectionTest, a_wrong_checksum_of_a_header_ends_it) {
    run_test(kOurs, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::flush);
        const auto header = co_await t.request();
        Bytes frame(frame_size<ChunkHeader>(true));
        encode_frame(std::span(frame),
                     ChunkHeader{.flags = kReplyFlagDone, .cookie = header.cookie}, true);
        frame[10] ^= std::byte{1};
        t.script.feed(frame);
        co_await t.ended_without(call);
    });
}

TEST_F(ClientConnectionTest, a_wrong_checksum_of_data_ends_it) {
    run_test(kOurs, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::read, 8, 8);
        const auto header = co_await t.request();
        t.chunk(header.cookie, ChunkType::offset_data, data_payload(4096, pattern(4096)), true, {},
                4);
        co_await t.ended_without(call);
    });
}

TEST_F(ClientConnectionTest, a_wrong_checksum_of_an_error_ends_it) {
    run_test(kOurs, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::write, 8, 8);
        const auto header = co_await t.request();
        t.chunk(header.cookie, ChunkType::error, error_payload(kEio), true, {}, 4);
        co_await t.ended_without(call);
    });
}

TEST_F(ClientConnectionTest, checksummed_answers_are_taken_however_they_are_cut) {
    run_test(kOurs, [](ClientConnectionTest& t) -> Task<void> {
        const std::uint64_t seed = std::random_device{}();
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 random(seed);
        for (int round = 0; round < 100; ++round) {
            t.script.receive_most =
                test::random_cuts(random(), std::size_t{1} << (1 + random() % 14));
            TestCall& read = t.submit(Op::read, 8, 64);
            TestCall& write = t.submit(Op::write, 8, 64);
            const auto first = co_await t.request();
            const auto second = co_await t.request();
            const Bytes data = pattern(32768, random());
            const std::size_t cut = 1 + random() % 32000;
            t.chunk(first.cookie, ChunkType::offset_data,
                    data_payload(4096 + cut, std::span(data).subspan(cut)), false);
            t.done(second.cookie);
            t.chunk(first.cookie, ChunkType::offset_data,
                    data_payload(4096, std::span(data).first(cut)));
            co_await t.answered(read);
            EXPECT_TRUE(read.memory == data);
            EXPECT_EQ(write.answers.size(), 1U);
            t.calls.clear();
        }
    });
}

TEST_F(ClientConnectionTest, a_call_is_not_answered_before_the_kernel_has_all_of_its_bytes) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        t.script.holds_sends = true;
        TestCall& call = t.submit(Op::write, 8, 8);
        co_await t.settle();
        t.done(0);  // guessed: place 0, first generation
        co_await t.settle();
        EXPECT_TRUE(call.answers.empty()) << "its memory is still being read";
        EXPECT_FALSE(t.ended.has_value());
        t.script.release_sends();
        co_await t.answered(call);
        EXPECT_EQ(call.answers.size(), 1U);
        EXPECT_TRUE(t.connection->idle());
    });
}

TEST_F(ClientConnectionTest,
       a_call_answered_before_it_was_sent_is_unanswered_if_the_connection_ends) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        t.script.holds_sends = true;
        TestCall& call = t.submit(Op::write, 8, 8);
        co_await t.settle();
        t.done(0);
        co_await t.settle();
        t.connection->shutdown("test");
        co_await t.ended_without(call);
        EXPECT_EQ(*t.ended, "test");
    });
}

TEST_F(ClientConnectionTest, shutting_down_counts_as_loss_and_leaves_the_call_unanswered) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& first = t.submit(Op::write, 8, 8);
        TestCall& second = t.submit(Op::write, 16, 8);
        const auto header = co_await t.request();
        (void)co_await t.request();
        t.chunk(header.cookie, ChunkType::error, error_payload(kEshutdown));
        co_await t.ended_without(first);
        EXPECT_TRUE(second.answers.empty());
        EXPECT_EQ(t.connection->unanswered().front(), &first);
    });
}

TEST_F(ClientConnectionTest, shutting_down_in_a_simple_reply_counts_as_loss_too) {
    run_test(kSimple, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::flush);
        const auto header = co_await t.request();
        t.simple(header.cookie, kEshutdown);
        co_await t.ended_without(call);
    });
}

TEST_F(ClientConnectionTest, unanswered_calls_stay_in_order) {
    run_test({.is_ours = true, .requests_max = 8}, [](ClientConnectionTest& t) -> Task<void> {
        std::vector<std::uint64_t> cookies;
        for (std::uint64_t i = 0; i < 20; ++i) t.submit(Op::write, i * 8, 8);
        for (int i = 0; i < 8; ++i) cookies.push_back((co_await t.request()).cookie);
        for (const std::size_t at : {6U, 1U, 3U}) t.done(cookies[at]);
        co_await t.answered(t.calls[3]);
        co_await t.settle();
        t.script.end();
        co_await t.script.until(t.world.clock, [&] { return t.ended.has_value(); });
        std::vector<std::uint64_t> left;
        for (Call* at = t.connection->unanswered().front(); at != nullptr;
             at = t.connection->unanswered().next(*at)) {
            left.push_back(at->request.range.first.value() / 8);
            EXPECT_FALSE(at->is_submitted());
        }
        EXPECT_EQ(left, (std::vector<std::uint64_t>{0, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
                                                    17, 18, 19}));
    });
}

TEST_F(ClientConnectionTest, no_more_are_in_flight_than_the_server_takes_and_a_ping_fits_still) {
    run_test({.is_ours = true, .requests_max = 4}, [](ClientConnectionTest& t) -> Task<void> {
        for (std::uint64_t i = 0; i < 10; ++i) t.submit(Op::flush);
        std::deque<std::uint64_t> cookies;
        for (int i = 0; i < 4; ++i) cookies.push_back((co_await t.request()).cookie);
        co_await t.settle();
        EXPECT_TRUE(t.script.sent.empty());
        TestCall& ping = t.submit(Op::read, 0, 0, true);
        const auto asked = co_await t.request();
        EXPECT_EQ(asked.type, Command::dst_ping);
        t.done(asked.cookie);
        co_await t.answered(ping);
        EXPECT_TRUE(ping.answers.at(0).has_value());
        for (std::size_t i = 0; i < 10; ++i) {
            t.done(cookies.front());
            cookies.pop_front();
            co_await t.answered(t.calls[i]);
            if (i < 6) cookies.push_back((co_await t.request()).cookie);
            co_await t.settle();
            EXPECT_TRUE(t.script.sent.empty());
        }
    });
}

TEST_F(ClientConnectionTest, a_plain_server_gets_1024_in_flight_at_most) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        for (std::uint64_t i = 0; i < 1500; ++i) t.submit(Op::flush);
        co_await t.script.until_sent(t.world.clock, std::size_t{1024} * 28);
        co_await t.settle();
        EXPECT_EQ(t.script.sent.size(), std::size_t{1024} * 28);
    });
}

TEST_F(ClientConnectionTest, a_structured_reply_that_was_not_negotiated_ends_it) {
    run_test(kSimple, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::flush);
        const auto header = co_await t.request();
        t.done(header.cookie);
        co_await t.ended_without(call);
    });
}

TEST_F(ClientConnectionTest, a_simple_reply_to_a_read_in_spite_of_structured_ones_ends_it) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::read, 8, 8);
        const auto header = co_await t.request();
        t.simple(header.cookie, 0, pattern(4096));
        co_await t.ended_without(call);
    });
}

TEST_F(ClientConnectionTest, bytes_that_are_no_reply_end_it) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::flush);
        (void)co_await t.request();
        t.script.feed(pattern(64));
        co_await t.ended_without(call);
    });
}

TEST_F(ClientConnectionTest, simple_replies_carry_the_data_of_reads) {
    run_test(kSimple, [](ClientConnectionTest& t) -> Task<void> {
        t.script.receive_most = test::random_cuts(1, 700);
        TestCall& first = t.submit(Op::read, 8, 8);
        TestCall& second = t.submit(Op::read, 16, 8);
        const auto one = co_await t.request();
        const auto two = co_await t.request();
        t.simple(two.cookie, 0, pattern(4096, 2));
        t.simple(one.cookie, 0, pattern(4096, 1));
        co_await t.answered(first);
        EXPECT_TRUE(first.memory == pattern(4096, 1));
        EXPECT_TRUE(second.memory == pattern(4096, 2));
    });
}

TEST_F(ClientConnectionTest, block_status_is_taken_and_other_contexts_are_not) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::block_status, 0, 1000);
        const auto header = co_await t.request();
        t.chunk(header.cookie, ChunkType::block_status,
                status_payload(t.context + 1, {{1024, kStateHole}}), false);
        t.chunk(header.cookie, ChunkType::block_status,
                status_payload(t.context, {{512 * 100, 0}, {512 * 900, kStateHole | kStateZero}}));
        co_await t.answered(call);
        EXPECT_EQ(call.extents->extents().size(), 2U);
        EXPECT_EQ(call.extents->described(), SectorCount(1000));
        EXPECT_TRUE(call.extents->extents()[1].hole && call.extents->extents()[1].zero);
    });
}

TEST_F(ClientConnectionTest, block_status_that_says_nothing_is_no_success) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        for (int how = 0; how < 3; ++how) {
            TestCall& call = t.submit(Op::block_status, 0, 1000);
            const auto header = co_await t.request();
            if (how == 0)
                t.done(header.cookie);
            else if (how == 1)
                t.simple(header.cookie);
            else
                t.chunk(header.cookie, ChunkType::block_status,
                        status_payload(t.context + 1, {{1024, 0}}));
            co_await t.script.until(t.world.clock,
                                    [&] { return t.ended.has_value() || !call.answers.empty(); });
            if (t.ended.has_value()) break;
            EXPECT_FALSE(call.answers.at(0).has_value() && call.extents->extents().empty())
                << "way " << how << ": whoever asked counts on at least one extent";
        }
    });
}

TEST_F(ClientConnectionTest, a_sector_with_several_edges_in_it_is_told_once) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::block_status, 0, 2);
        const auto header = co_await t.request();
        t.chunk(header.cookie, ChunkType::block_status,
                status_payload(t.context, {{100, 3}, {100, 0}, {100, 3}, {724, 3}}));
        co_await t.answered(call);
        EXPECT_EQ(call.extents->described(), SectorCount(2));
        EXPECT_EQ(call.extents->extents().size(), 2U);
    });
}

TEST_F(ClientConnectionTest, block_status_of_many_extents_as_qemu_and_nbdkit_send_it_is_taken) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        TestCall& call = t.submit(Op::block_status, 0, 8 * 4000);
        const auto header = co_await t.request();
        std::vector<BlockDescriptor> all;
        for (std::uint32_t i = 0; i < 4000; ++i) all.push_back({4096, i % 2 == 0 ? 0U : 3U});
        t.chunk(header.cookie, ChunkType::block_status, status_payload(t.context, all));
        co_await t.script.until(t.world.clock,
                                [&] { return t.ended.has_value() || !call.answers.empty(); });
        EXPECT_FALSE(t.ended.has_value()) << *t.ended;
        EXPECT_FALSE(call.extents->extents().empty());
    });
}

TEST_F(ClientConnectionTest, a_good_bye_is_sent_before_the_end) {
    run_test(kOurs, [](ClientConnectionTest& t) -> Task<void> {
        t.connection->disconnect();
        EXPECT_EQ((co_await t.request()).type, Command::disconnect);
        co_await t.script.until(t.world.clock, [&] { return t.ended.has_value(); });
        EXPECT_EQ(*t.ended, "disconnected");
    });
}

TEST_F(ClientConnectionTest, when_sending_fails_all_calls_are_still_there) {
    run_test(kStructured, [](ClientConnectionTest& t) -> Task<void> {
        t.script.sending_fails_after = 1000;
        TestCall& call = t.submit(Op::write, 0, 8);
        t.submit(Op::flush);
        co_await t.ended_without(call);
        EXPECT_FALSE(t.calls[1].is_submitted());
        EXPECT_EQ(t.connection->unanswered().back(), &t.calls[1]);
    });
}

}  // namespace
}  // namespace dst::nbd
