// The receive buffer over a scripted stream: contents right for every cut, errors, ends, growth.
#include "nbd/receive_buffer.h"

#include <gtest/gtest.h>

#include "async/scope.h"
#include "nbd/scripted_stream.h"

namespace dst::nbd {
namespace {

using async::Task;
using test::Bytes;
using test::pattern;
using test::Script;
using test::ScriptedStream;

class ReceiveBufferTest : public testing::Test {
  protected:
    async::RunQueue queue_;
    async::RunQueue::Enter enter_{queue_};
    block::BufferPool pool_{8 << 20};
    block::Account account_{pool_, 4};
    Script script_;
    ScriptedStream stream_{script_};
    ReceiveBuffer buffer_{account_};

    /// Runs `task` to its end; nothing if it still waits.
    template <typename T>
    std::optional<T> run(Task<T> task) {
        std::optional<T> result;
        async::Scope scope;
        scope.spawn([](Task<T> inner, std::optional<T>& out) -> Task<void> {
            out.emplace(co_await std::move(inner));
        }(std::move(task), result));
        queue_.run();
        return result;
    }
    Bytes readable() const { return {buffer_.readable().begin(), buffer_.readable().end()}; }
};

/// A header of four bytes that says how much follows, then that; `skipped` payloads are dropped.
struct Unit {
    Bytes payload;
    bool skipped = false;
};
Task<Result<>> read_units(ReceiveBuffer& buffer, io::Stream& stream, const std::vector<Unit>& units,
                          bool with_fill) {
    for (const Unit& unit : units) {
        CO_TRY_VOID(co_await buffer.fill(stream, 4));
        EXPECT_GE(buffer.size(), 4U);
        EXPECT_EQ(load_be<std::uint32_t>(buffer.readable().data()), unit.payload.size());
        buffer.consume(4);
        if (unit.skipped) {
            CO_TRY_VOID(co_await buffer.skip(stream, unit.payload.size()));
        } else if (with_fill && unit.payload.size() <= ReceiveBuffer::kQuietBytes) {
            CO_TRY_VOID(co_await buffer.fill(stream, unit.payload.size()));
            const auto front = buffer.readable().first(unit.payload.size());
            EXPECT_TRUE(std::ranges::equal(front, unit.payload));
            buffer.consume(unit.payload.size());
        } else {
            Bytes payload(unit.payload.size());
            CO_TRY_VOID(co_await buffer.take(stream, payload));
            EXPECT_TRUE(payload == unit.payload);
        }
    }
    co_return Result<>{};
}
Bytes wire_of(const std::vector<Unit>& units) {
    Bytes wire;
    for (const Unit& unit : units) {
        std::byte header[4];
        store_be(header, static_cast<std::uint32_t>(unit.payload.size()));
        test::append(wire, header);
        test::append(wire, unit.payload);
    }
    return wire;
}

TEST_F(ReceiveBufferTest, contents_are_right_for_each_single_cut_and_for_single_bytes) {
    const std::vector<Unit> units{
        {pattern(5)}, {{}}, {pattern(9), true}, {pattern(31)}, {{}, true}};
    const Bytes wire = wire_of(units);
    for (const bool with_fill : {false, true})
        for (const auto& cuts : test::all_cuts(wire.size())) {
            std::size_t piece = 0;
            std::size_t at = 0;
            script_.receive_most = [&]() -> std::size_t {
                while (piece + 1 < cuts.size() && cuts[piece] <= at) ++piece;
                const std::size_t size = std::max<std::size_t>(1, cuts[piece] - at);
                at += size;
                return size;
            };
            script_.feed(wire);
            const auto read = run(read_units(buffer_, stream_, units, with_fill));
            ASSERT_TRUE(read.has_value() && read->has_value());
            ASSERT_EQ(buffer_.size(), 0U);
        }
}

TEST_F(ReceiveBufferTest, contents_are_right_for_random_cuts_of_short_and_long_payloads) {
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    for (int round = 0; round < 40; ++round) {
        std::vector<Unit> units;
        for (int i = 0; i < 40; ++i) {
            const std::size_t size = random() % 8 == 0 ? random() % 400'000 : random() % 3000;
            units.push_back({pattern(size, random()), random() % 4 == 0});
        }
        const std::size_t most = std::size_t{1} << (2 + random() % 18);
        script_.receive_most = test::random_cuts(random(), most);
        script_.feed(wire_of(units));
        const auto read = run(read_units(buffer_, stream_, units, round % 2 == 0));
        ASSERT_TRUE(read.has_value() && read->has_value()) << "round " << round;
        ASSERT_EQ(buffer_.size(), 0U);
    }
}

TEST_F(ReceiveBufferTest, all_that_is_there_is_received_at_once) {
    script_.feed(pattern(10'000));
    ASSERT_TRUE(run(buffer_.fill(stream_, 1))->has_value());
    EXPECT_EQ(readable(), pattern(10'000));
    EXPECT_EQ(script_.rooms.size(), 1U);
    ASSERT_TRUE(run(buffer_.fill(stream_, 10'000))->has_value());
    EXPECT_EQ(script_.rooms.size(), 1U) << "what is there needs no call";
}

TEST_F(ReceiveBufferTest, what_follows_a_long_payload_comes_along) {
    Bytes wire = pattern(300'000);
    test::append(wire, pattern(77, 2));
    script_.feed(wire);
    Bytes payload(300'000);
    ASSERT_TRUE(run(buffer_.take(stream_, payload))->has_value());
    EXPECT_TRUE(payload == pattern(300'000));
    EXPECT_EQ(readable(), pattern(77, 2));
    EXPECT_EQ(script_.rooms.size(), 1U);
}

TEST_F(ReceiveBufferTest, it_waits_for_the_rest) {
    script_.feed(pattern(3));
    EXPECT_FALSE(run(buffer_.fill(stream_, 4)).has_value());
}

TEST_F(ReceiveBufferTest, an_end_between_frames_is_no_loss_and_one_within_is) {
    script_.end();
    EXPECT_EQ(run(buffer_.fill(stream_, 4))->error().code, ErrorCode::cancelled);
    script_.feed(pattern(3));
    EXPECT_EQ(run(buffer_.fill(stream_, 4))->error().code, ErrorCode::node_lost);
    EXPECT_EQ(readable(), pattern(3)) << "what came stays";
    Bytes payload(4);
    EXPECT_EQ(run(buffer_.take(stream_, payload))->error().code, ErrorCode::node_lost);
    EXPECT_FALSE(run(buffer_.skip(stream_, 1))->has_value());
}

TEST_F(ReceiveBufferTest, an_error_of_the_stream_is_passed_on) {
    script_.feed(pattern(3));
    script_.fail_receiving();
    EXPECT_EQ(run(buffer_.fill(stream_, 4))->error().code, ErrorCode::node_lost);
    Bytes payload(10);
    EXPECT_EQ(run(buffer_.take(stream_, payload))->error().code, ErrorCode::node_lost);
    EXPECT_EQ(run(buffer_.skip(stream_, 10))->error().code, ErrorCode::node_lost);
}

TEST_F(ReceiveBufferTest, take_readable_takes_what_is_there_and_no_more) {
    script_.feed(pattern(10));
    ASSERT_TRUE(run(buffer_.fill(stream_, 10))->has_value());
    Bytes front(4);
    EXPECT_EQ(buffer_.take_readable(front), 4U);
    Bytes rest(100);
    EXPECT_EQ(buffer_.take_readable(rest), 6U);
    EXPECT_EQ(buffer_.take_readable(rest), 0U);
    rest.resize(6);
    test::append(front, rest);
    EXPECT_EQ(front, pattern(10));
}

TEST_F(ReceiveBufferTest, it_grows_when_it_was_filled_and_shrinks_when_it_is_quiet) {
    const Bytes flood = pattern(ReceiveBuffer::kQuietBytes + ReceiveBuffer::kBusyBytes);
    script_.feed(flood);
    ASSERT_TRUE(run(buffer_.fill(stream_, 1))->has_value());
    EXPECT_EQ(script_.rooms.back().front(), ReceiveBuffer::kQuietBytes);
    EXPECT_EQ(buffer_.size(), ReceiveBuffer::kQuietBytes);
    buffer_.consume(ReceiveBuffer::kQuietBytes - 5);
    ASSERT_TRUE(run(buffer_.fill(stream_, 6))->has_value());
    EXPECT_EQ(script_.rooms.back().front(), ReceiveBuffer::kBusyBytes - 5);
    EXPECT_TRUE(std::ranges::equal(
        buffer_.readable(),
        std::span(flood).subspan(ReceiveBuffer::kQuietBytes - 5, ReceiveBuffer::kBusyBytes)));
    buffer_.consume(buffer_.size());
    ASSERT_TRUE(run(buffer_.fill(stream_, 1))->has_value());
    buffer_.consume(buffer_.size());
    for (int i = 0; i < 200; ++i) {
        script_.feed(pattern(100, static_cast<std::uint64_t>(i)));
        ASSERT_TRUE(run(buffer_.fill(stream_, 100))->has_value());
        EXPECT_EQ(readable(), pattern(100, static_cast<std::uint64_t>(i)));
        buffer_.consume(100);
    }
    EXPECT_EQ(script_.rooms.back().front(), ReceiveBuffer::kQuietBytes);
}

TEST_F(ReceiveBufferTest, without_memory_to_grow_it_goes_on_small) {
    ASSERT_TRUE((script_.feed(pattern(10)), run(buffer_.fill(stream_, 10))->has_value()));
    buffer_.consume(10);
    std::vector<block::Buffer> hog;
    while (block::Buffer taken = account_.try_allocate(block::kSlabBytes))
        hog.push_back(std::move(taken));
    script_.feed(pattern(500'000));
    Bytes got;
    while (got.size() < 500'000) {
        ASSERT_TRUE(run(buffer_.fill(stream_, 1))->has_value());
        EXPECT_LE(script_.rooms.back().front(), ReceiveBuffer::kQuietBytes);
        test::append(got, buffer_.readable());
        buffer_.consume(buffer_.size());
    }
    EXPECT_TRUE(got == pattern(500'000));
}

TEST_F(ReceiveBufferTest, a_quiet_connection_holds_no_memory_before_its_first_byte_is_wanted) {
    EXPECT_EQ(account_.bytes_held(), 0U);
    script_.feed(pattern(10));
    ASSERT_TRUE(run(buffer_.fill(stream_, 10))->has_value());
    EXPECT_EQ(account_.bytes_held(), block::kSlabBytes);
}

}  // namespace
}  // namespace dst::nbd
