#include "sim/event_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "sim/random.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

TEST(EventQueueTest, events_happen_in_the_order_of_their_times_and_of_being_armed) {
    EventQueue queue;
    std::vector<int> order;
    queue.call_after(2ms, [&] { order.push_back(3); });
    queue.call_after(1ms, [&] { order.push_back(1); });
    queue.call_after(1ms, [&] { order.push_back(2); });
    while (queue.step()) {
    }
    EXPECT_EQ(order, (std::vector{1, 2, 3}));
    EXPECT_EQ(queue.now(), EventQueue::kBegin + 2ms);
}

TEST(EventQueueTest, an_event_that_dies_or_is_cancelled_does_not_happen) {
    EventQueue queue;
    int happened = 0;
    const auto count = [&] { ++happened; };
    ActionEvent cancelled(count);
    auto dying = std::make_unique<ActionEvent<decltype(count)>>(count);
    ActionEvent moved(count);
    cancelled.arm(queue, queue.now() + 1ms);
    dying->arm(queue, queue.now() + 2ms);
    moved.arm(queue, queue.now() + 1ms);
    moved.arm(queue, queue.now() + 5ms);
    cancelled.cancel();
    dying.reset();
    EXPECT_TRUE(queue.step());
    EXPECT_FALSE(queue.step());
    EXPECT_EQ(happened, 1);
    EXPECT_EQ(queue.now(), EventQueue::kBegin + 5ms);
}

TEST(EventQueueTest, a_heap_gives_back_what_a_sorted_list_would) {
    Random random(5);
    EventQueue queue;
    std::vector<io::TimePoint> times;
    for (int at = 0; at < 2000; ++at)
        queue.call_after(random.up_to(1ms), [&] { times.push_back(queue.now()); });
    while (queue.step()) {
    }
    EXPECT_EQ(times.size(), 2000u);
    EXPECT_TRUE(std::ranges::is_sorted(times));
}

TEST(SimulatedRandomTest, a_seed_means_the_same_on_every_machine) {
    Random random(42);
    EXPECT_EQ(random.next(), 1546998764402558742u);
    EXPECT_EQ(random.next(), 6990951692964543102u);
    Random other(43);
    EXPECT_NE(other.next(), 1546998764402558742u);
}

TEST(SimulatedRandomTest, rates_are_kept) {
    Random random(7);
    int happened = 0;
    for (int at = 0; at < 100'000; ++at) happened += random.happens(percent(10)) ? 1 : 0;
    EXPECT_NEAR(happened, 10'000, 500);
    EXPECT_FALSE(random.happens({}));
    EXPECT_TRUE(random.happens(percent(100)));
}

}  // namespace
}  // namespace dst::sim
