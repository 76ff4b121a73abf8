// Gathering against clients of several kinds, on a clock of the test's own.
#include "nbd/gathering.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace dst::nbd {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kRequestBytes = 28;

/// A client that has `depth` requests outstanding at most and works `work` on each answer before it
/// sends the next request; and a server that answers what it finds at once. A wake-up of either
/// costs `wake`.
struct Client {
    std::uint64_t depth;
    io::Duration work;
    io::Duration wake = 30us;

    // Moved on by the server.
    io::TimePoint now{1h};
    std::uint64_t to_work_on = 0;  // answers that it has not worked on
    io::TimePoint busy_until{1h};
    std::uint64_t queued = 0;  // requests that the server has not received
    std::uint64_t received = 0;
    std::uint64_t pauses = 0;

    void start() { to_work_on = depth; }
    void pass(io::Duration time) {
        now += time;
        while (to_work_on > 0 && busy_until + work <= now) {
            busy_until += work;
            --to_work_on;
            ++queued;
        }
        if (to_work_on == 0) busy_until = std::max(busy_until, now);
    }
    /// A receive: how long it waited.
    io::Duration receive() {
        const io::TimePoint begun = now;
        while (queued == 0) pass(1us);
        if (now - begun > 5us) pass(wake);
        received += queued;
        // Answered: a client that had nothing to do has to be woken.
        if (to_work_on == 0) busy_until = now + wake;
        to_work_on += queued;
        queued = 0;
        pass(3us);
        return now - begun;
    }
};

void run(Gathering& gathering, Client& client, io::Duration length) {
    const io::TimePoint end = client.now + length;
    while (client.now < end) {
        const Gathering::Pause pause = gathering.next(client.now, client.received);
        if (pause.length > 0us) ++client.pauses;
        if (pause.in_halves) {
            const std::size_t before = client.queued * kRequestBytes;
            client.pass(pause.length / 2);
            const std::size_t half = client.queued * kRequestBytes;
            client.pass(pause.length / 2);
            gathering.looked(before, half, client.queued * kRequestBytes);
            client.receive();
        } else if (pause.length > 0us) {
            client.pass(pause.length);
            client.receive();
        } else {
            gathering.received(client.receive());
        }
    }
}

TEST(GatheringTest, a_deep_client_that_sends_one_by_one_gets_the_longest_pauses) {
    Gathering gathering;
    Client client{.depth = 64, .work = 8us};
    client.start();
    run(gathering, client, 1s);
    EXPECT_EQ(gathering.length(), Gathering::kMost);
    // It is kept busy all the time.
    EXPECT_GT(client.received, 1s / client.work * 95 / 100);
}

TEST(GatheringTest, a_client_that_waits_for_each_answer_never_waits_for_a_pause) {
    for (const io::Duration wake : {0us, 30us}) {
        Gathering gathering;
        Client client{.depth = 1, .work = 8us, .wake = wake};
        client.start();
        run(gathering, client, 1s);
        EXPECT_EQ(gathering.length(), 0us);
        EXPECT_LT(client.pauses * 50, client.received) << "wake-up " << wake.count();
    }
}

TEST(GatheringTest, a_shallow_client_is_slowed_down_by_a_third_at_worst) {
    for (const std::uint64_t depth : {2u, 3u, 4u, 6u, 8u}) {
        Client plain{.depth = depth, .work = 8us};
        plain.start();
        while (plain.now < io::TimePoint(1h + 1s)) plain.receive();

        Gathering gathering;
        Client client{.depth = depth, .work = 8us};
        client.start();
        run(gathering, client, 1s);
        EXPECT_GT(client.received * 3, plain.received * 2) << "depth " << depth;
    }
}

TEST(GatheringTest, pauses_end_when_the_client_changes_its_ways) {
    Gathering gathering;
    Client client{.depth = 64, .work = 8us};
    client.start();
    run(gathering, client, 1s);
    ASSERT_EQ(gathering.length(), Gathering::kMost);
    client = {.depth = 1, .work = 8us, .now = client.now, .received = client.received};
    client.busy_until = client.now;
    client.start();
    run(gathering, client, 10ms);
    EXPECT_EQ(gathering.length(), 0us);
}

TEST(GatheringTest, a_stream_of_data_is_received_as_it_comes) {
    Gathering gathering;
    for (unsigned count = 0; count < 1000; ++count) gathering.received(1us);
    const Gathering::Pause pause = gathering.next(io::TimePoint(1h), 1000);
    ASSERT_EQ(pause.length, Gathering::kFirst);
    ASSERT_TRUE(pause.in_halves);
    gathering.looked(0, Gathering::kStreamBytes, 2 * Gathering::kStreamBytes);
    gathering.looked(0, Gathering::kStreamBytes, 2 * Gathering::kStreamBytes);
    EXPECT_EQ(gathering.length(), 0us);
}

TEST(GatheringTest, a_quiet_client_is_waited_for_without_pauses) {
    Gathering gathering;
    io::TimePoint now(1h);
    for (std::uint64_t count = 0; count < 10'000; ++count) {
        EXPECT_EQ(gathering.next(now, count).length, 0us);
        now += 100us;
        gathering.received(100us);
    }
}

}  // namespace
}  // namespace dst::nbd
