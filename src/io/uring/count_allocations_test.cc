// The heap, with a counter; and what must not touch it.
#include "io/uring/count_allocations.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <new>

#include "async/scope.h"
#include "io/uring/disk_file.h"
#include "io/uring/socket_stream.h"
#include "io/uring/test_reactor.h"

namespace {
thread_local std::uint64_t allocations = 0;
}

namespace dst {
std::uint64_t allocations_of_this_thread() { return allocations; }
}  // namespace dst

#if DST_COUNTS_ALLOCATIONS

// The other forms of new and delete end in these.
void* operator new(std::size_t size) {
    ++allocations;
    if (void* const block = std::malloc(size == 0 ? 1 : size)) return block;
    throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    ++allocations;
    const auto unit = static_cast<std::size_t>(alignment);
    if (void* const block = std::aligned_alloc(unit, (size + unit - 1) / unit * unit)) return block;
    throw std::bad_alloc();
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete(void* block, std::align_val_t) noexcept { std::free(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { std::free(block); }

#endif

namespace dst::io::uring {
namespace {

using async::Task;

constexpr int kRounds = 1000;

/// Sends back what comes, until the stream ends.
Task<void> echo(Stream& stream) {
    std::array<std::byte, 256> buffer;
    while (true) {
        std::array<Slice, 2> halves{Slice(std::span(buffer).first(128)),
                                    Slice(std::span(buffer).last(128))};
        const auto got = co_await stream.receive(halves);
        if (!got.has_value() || *got == 0) co_return;
        CHECK((co_await send_all(stream, std::span(buffer).first(*got))).has_value());
    }
}

/// One message there and back, beside a timer as every request has one.
Task<void> round_trip(Clock& clock, Stream& stream) {
    Deadline deadline([] {});
    deadline.arm(clock, clock.now() + std::chrono::seconds(10));
    std::array<std::byte, 100> message{};
    CHECK((co_await send_all(stream, message)).has_value());
    for (std::size_t got = 0; got < message.size();) {
        const Slice rest(std::span(message).subspan(got));
        const auto received = co_await stream.receive(std::span(&rest, 1));
        CHECK(received.has_value());
        got += *received;
    }
}

/// Allocations of the second half of the rounds: the first may fill the pools.
Task<std::uint64_t> count_round_trips(Clock& clock, Stream& stream) {
    std::uint64_t before = 0;
    for (int round = 0; round < 2 * kRounds; ++round) {
        if (round == kRounds) before = allocations_of_this_thread();
        co_await round_trip(clock, stream);
    }
    co_return allocations_of_this_thread() - before;
}

TEST(Allocations, the_counter_counts) {
    if (!kCountsAllocations) GTEST_SKIP() << "not under sanitizers";
    const std::uint64_t before = allocations_of_this_thread();
    const auto block = std::make_unique<std::array<char, 100>>();
    EXPECT_NE(block, nullptr);
    EXPECT_EQ(allocations_of_this_thread() - before, 1U);
}

TEST(Allocations, message_there_and_back_makes_none) {
    if (!kCountsAllocations) GTEST_SKIP() << "not under sanitizers";
    TestReactor reactor;
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    SocketStream near(*reactor, UniqueFd(ends[0]), {});
    SocketStream far(*reactor, UniqueFd(ends[1]), {});
    async::Scope scope;
    const async::RunQueue::Enter enter(reactor->world().queue);
    scope.spawn(echo(far));
    EXPECT_EQ(reactor->block_on(count_round_trips(*reactor, near)), 0U);
    near.shutdown();
    reactor->block_on(scope.join());
}

Task<std::uint64_t> count_requests(File& file, std::span<std::byte> buffer) {
    std::uint64_t before = 0;
    for (int round = 0; round < 2 * kRounds; ++round) {
        if (round == kRounds) before = allocations_of_this_thread();
        CHECK((co_await file.write(ByteOffset(), buffer, false)).has_value());
        CHECK((co_await file.read(ByteOffset(), buffer)).has_value());
        if (round % 100 == 0) CHECK((co_await file.sync()).has_value());
    }
    co_return allocations_of_this_thread() - before;
}

TEST(Allocations, request_to_a_file_makes_none) {
    if (!kCountsAllocations) GTEST_SKIP() << "not under sanitizers";
    TestReactor reactor;
    FileInfo info;
    info.size = ByteCount(4096);
    UniqueFd nameless(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_TRUE(nameless.is_open());
    DiskFile file(*reactor, Medium{std::move(nameless), info}, {});
    std::array<std::byte, 4096> buffer{};
    EXPECT_EQ(reactor->block_on(count_requests(file, buffer)), 0U);
}

}  // namespace
}  // namespace dst::io::uring
