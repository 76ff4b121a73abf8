#include "async/scope.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "async/range_lock.h"
#include "async/run_queue.h"
#include "async/wait.h"

namespace dst::async {
namespace {

class ScopeTest : public ::testing::Test {
  protected:
    RunQueue queue_;
    RunQueue::Enter enter_{queue_};
};

Task<void> wait_then_count(WaitQueue& gate, int& count) {
    co_await gate.wait();
    ++count;
}

Task<void> join_then_count(Scope& scope, int& count) {
    co_await scope.join();
    ++count;
}

TEST_F(ScopeTest, join_waits_for_all_tasks) {
    Scope outer;
    Scope scope;
    WaitQueue gate;
    int done = 0;
    int joined = 0;
    for (int task = 0; task < 3; ++task) scope.spawn(wait_then_count(gate, done));
    outer.spawn(join_then_count(scope, joined));
    for (std::size_t left = 3; left > 0; --left) {
        EXPECT_EQ(scope.size(), left);
        EXPECT_EQ(joined, 0);
        gate.wake_one();
        queue_.run();
    }
    EXPECT_EQ(done, 3);
    EXPECT_EQ(joined, 1);
}

TEST_F(ScopeTest, join_of_an_empty_scope_does_not_wait) {
    Scope outer;
    Scope scope;
    int joined = 0;
    outer.spawn(join_then_count(scope, joined));
    EXPECT_EQ(joined, 1);
}

Task<void> spawn_more(Scope& scope, int depth, int& count) {
    co_await yield();
    ++count;
    if (depth == 0) co_return;
    scope.spawn(spawn_more(scope, depth - 1, count));
    scope.spawn(spawn_more(scope, depth - 1, count));
}

TEST_F(ScopeTest, task_may_spawn_into_its_own_scope_while_it_is_joined) {
    Scope outer;
    Scope scope;
    int count = 0;
    int joined = 0;
    scope.spawn(spawn_more(scope, 5, count));
    outer.spawn(join_then_count(scope, joined));
    queue_.run();
    EXPECT_EQ(count, 63);
    EXPECT_EQ(joined, 1);
}

/// All that a task may wait for, and a count of the frames that live.
struct Everything {
    int alive = 0;
    WaitQueue gate;
    Event event;
    Semaphore semaphore{3};
    RangeLock lock;
    Scope inner;
};

struct Alive {
    explicit Alive(Everything& everything) : world(everything) { ++world.alive; }
    ~Alive() { --world.alive; }
    Alive(const Alive&) = delete;
    Alive& operator=(const Alive&) = delete;
    Everything& world;
};

Task<void> use_semaphore(Everything& world) {
    const Alive alive(world);
    co_await world.semaphore.acquire(2);
    co_await yield();
    world.semaphore.release(2);
}

Task<void> use_lock(Everything& world, std::uint64_t first) {
    const Alive alive(world);
    RangeLock::Hold hold(world.lock, {SectorIndex(first), SectorCount(700)},
                         RangeLock::Mode::exclusive);
    co_await hold.granted();
    co_await end_of_turn();
}

Task<void> wander(Everything& world, std::uint64_t seed) {
    const Alive alive(world);
    std::mt19937_64 random(seed);
    while (true) {
        switch (random() % 8) {
            case 0:
                co_await world.gate.wait();
                break;
            case 1:
                co_await world.event.wait();
                break;
            case 2:
                co_await use_semaphore(world);
                break;
            case 3:
                co_await use_lock(world, random() % 2000);
                break;
            case 4:
                co_await yield();
                break;
            case 5:
                co_await end_of_turn();
                break;
            case 6:
                world.inner.spawn(use_lock(world, random() % 2000));
                break;
            default:
                co_await world.inner.join();
                break;
        }
        if (random() % 4 == 0) world.gate.wake_all();
        world.event.set();
        if (random() % 2 == 0) world.event.clear();
    }
}

TEST_F(ScopeTest, dying_destroys_tasks_wherever_they_stand) {
    const auto seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    for (int round = 0; round < 200; ++round) {
        Everything world;
        auto scope = std::make_unique<Scope>();
        for (int task = 0; task < 20; ++task) scope->spawn(wander(world, random()));
        for (std::uint64_t step = random() % 500; step > 0; --step) queue_.run_one();
        scope.reset();
        // What they left goes on: nothing of theirs is in a queue, a lock or the run queue. (A
        // permit that a destroyed task held is its own business, as with any resource.)
        world.gate.wake_all();
        world.event.set();
        queue_.run();
        EXPECT_EQ(world.alive, 0);
        EXPECT_EQ(world.lock.size(), 0U);
        EXPECT_TRUE(world.inner.empty());
        EXPECT_TRUE(world.gate.empty());
        EXPECT_TRUE(queue_.empty());
    }
}

Task<void> own_scope(int& alive) {
    struct Count {
        explicit Count(int& count) : value(count) { ++value; }
        ~Count() { --value; }
        int& value;
    } const count(alive);
    Scope scope;
    WaitQueue gate;
    int ignored = 0;
    scope.spawn(wait_then_count(gate, ignored));
    co_await scope.join();
}

TEST_F(ScopeTest, scopes_within_tasks_die_with_them) {
    int alive = 0;
    {
        Scope scope;
        for (int task = 0; task < 5; ++task) scope.spawn(own_scope(alive));
        EXPECT_EQ(alive, 5);
    }
    EXPECT_EQ(alive, 0);
}

}  // namespace
}  // namespace dst::async
