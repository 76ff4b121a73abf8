#include "async/wait.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "async/scope.h"

namespace dst::async {
namespace {

using Order = std::vector<int>;

class WaitTest : public ::testing::Test {
  protected:
    RunQueue queue_;
    RunQueue::Enter enter_{queue_};
};

Task<void> wait_in(WaitQueue& gate, Order& order, int number) {
    co_await gate.wait();
    order.push_back(number);
}
Task<void> wait_for_event(Event& event, Order& order, int number) {
    co_await event.wait();
    order.push_back(number);
}
Task<void> acquire(Semaphore& semaphore, std::uint64_t count, Order& order, int number) {
    co_await semaphore.acquire(count);
    order.push_back(number);
}
Task<void> note_now(Order& order, int number) {
    order.push_back(number);
    co_return;
}
Task<void> yield_then(Order& order, int number) {
    co_await yield();
    order.push_back(number);
}
Task<void> end_turn_then(Order& order, int number) {
    co_await end_of_turn();
    order.push_back(number);
}

TEST_F(WaitTest, queue_wakes_in_order_and_only_when_its_turn_comes) {
    WaitQueue gate;
    Order order;
    Scope scope;
    for (int number = 0; number < 3; ++number) scope.spawn(wait_in(gate, order, number));
    EXPECT_TRUE(gate.wake_one());
    EXPECT_EQ(order, Order{}) << "not on the waker's stack";
    queue_.run();
    EXPECT_EQ(order, (Order{0}));
    gate.wake_all();
    EXPECT_FALSE(gate.wake_one());
    queue_.run();
    EXPECT_EQ(order, (Order{0, 1, 2}));
}

TEST_F(WaitTest, waiter_that_was_woken_may_be_destroyed_before_it_runs) {
    WaitQueue gate;
    Order order;
    {
        Scope scope;
        scope.spawn(wait_in(gate, order, 0));
        gate.wake_all();
    }
    queue_.run();
    EXPECT_EQ(order, Order{});
}

TEST_F(WaitTest, queue_may_die_before_its_waiters) {
    Order order;
    Scope scope;
    auto gate = std::make_unique<WaitQueue>();
    scope.spawn(wait_in(*gate, order, 0));
    gate.reset();
    queue_.run();
    EXPECT_EQ(scope.size(), 1U);
}

TEST_F(WaitTest, set_event_lets_everybody_pass_until_cleared) {
    Event event;
    Order order;
    Scope scope;
    scope.spawn(wait_for_event(event, order, 0));
    scope.spawn(wait_for_event(event, order, 1));
    event.set();
    queue_.run();
    scope.spawn(wait_for_event(event, order, 2));
    EXPECT_EQ(order, (Order{0, 1, 2}));
    event.clear();
    scope.spawn(wait_for_event(event, order, 3));
    queue_.run();
    EXPECT_EQ(order, (Order{0, 1, 2}));
}

TEST_F(WaitTest, semaphore_serves_first_come_first_whatever_each_asks_for) {
    Semaphore semaphore(2);
    Order order;
    Scope scope;
    scope.spawn(acquire(semaphore, 2, order, 0));
    scope.spawn(acquire(semaphore, 3, order, 1));
    scope.spawn(acquire(semaphore, 1, order, 2));
    queue_.run();
    EXPECT_EQ(order, (Order{0}));
    semaphore.release(2);
    queue_.run();
    EXPECT_EQ(order, (Order{0})) << "the small one does not overtake";
    semaphore.release(1);
    queue_.run();
    EXPECT_EQ(order, (Order{0, 1}));
    semaphore.release(3);
    queue_.run();
    EXPECT_EQ(order, (Order{0, 1, 2}));
    EXPECT_EQ(semaphore.available(), 2U);
}

TEST_F(WaitTest, permit_granted_to_a_task_that_is_destroyed_comes_back) {
    Semaphore semaphore(0);
    Order order;
    {
        Scope scope;
        scope.spawn(acquire(semaphore, 1, order, 0));
        semaphore.release(1);
        EXPECT_EQ(semaphore.available(), 0U);
    }
    EXPECT_EQ(semaphore.available(), 1U);
}

TEST_F(WaitTest, end_of_turn_comes_after_all_that_is_ready) {
    Order order;
    Scope scope;
    scope.spawn(end_turn_then(order, 3));
    scope.spawn(yield_then(order, 1));
    scope.spawn(note_now(order, 0));
    scope.spawn(yield_then(order, 2));
    queue_.run();
    EXPECT_EQ(order, (Order{0, 1, 2, 3}));
}

}  // namespace
}  // namespace dst::async
