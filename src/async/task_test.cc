#include "async/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "async/run_queue.h"
#include "async/scope.h"
#include "base/result.h"

namespace dst::async {
namespace {

Task<int> one() { co_return 1; }

Task<int> sum(int count) {
    int total = 0;
    for (int number = 0; number < count; ++number) total += co_await one();
    co_return total;
}

Task<void> note(std::vector<std::string>& log, std::string text) {
    log.push_back(std::move(text));
    co_return;
}

Task<void> store(Task<int> task, int& result) { result = co_await std::move(task); }

/// Counts how many of its kind live.
struct Counted {
    explicit Counted(int& count) : alive(count) { ++alive; }
    Counted(const Counted& other) : alive(other.alive) { ++alive; }
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --alive; }
    int& alive;
};

TEST(Task, runs_on_the_callers_stack_if_it_never_waits) {
    Scope scope;
    int result = 0;
    scope.spawn(store(sum(100'000), result));
    EXPECT_EQ(result, 100'000);
    EXPECT_TRUE(scope.empty());
}

TEST(Task, is_lazy) {
    std::vector<std::string> log;
    Task<void> task = note(log, "ran");
    EXPECT_TRUE(log.empty());
    Scope scope;
    scope.spawn(std::move(task));
    EXPECT_EQ(log, std::vector<std::string>{"ran"});
}

Task<void> hold(Counted counted, Task<void> inner) {
    const Counted local(counted.alive);
    co_await std::move(inner);
}

Task<void> wait_for_ever(Counted) {
    WaitQueue queue;
    co_await queue.wait();
}

TEST(Task, that_was_never_started_destroys_its_arguments) {
    int alive = 0;
    {
        const Task<void> task = hold(Counted(alive), wait_for_ever(Counted(alive)));
    }
    EXPECT_EQ(alive, 0);
}

TEST(Task, destroys_the_whole_chain_that_it_stands_in) {
    RunQueue queue;
    const RunQueue::Enter enter(queue);
    int alive = 0;
    {
        Scope scope;
        scope.spawn(hold(Counted(alive), hold(Counted(alive), wait_for_ever(Counted(alive)))));
        EXPECT_EQ(alive, 5);
    }
    EXPECT_EQ(alive, 0);
}

TEST(Task, is_moved_not_copied) {
    static_assert(!std::is_copy_constructible_v<Task<int>>);
    Task<int> first = sum(3);
    Task<int> second = sum(5);
    first = std::move(second);
    Scope scope;
    int result = 0;
    scope.spawn(store(std::move(first), result));
    EXPECT_EQ(result, 5);
}

Task<std::unique_ptr<int>> boxed() { co_return std::make_unique<int>(7); }
Task<void> unbox(int& result) {
    const std::unique_ptr<int> box = co_await boxed();
    result = *box;
}

TEST(Task, gives_back_values_that_only_move) {
    Scope scope;
    int result = 0;
    scope.spawn(unbox(result));
    EXPECT_EQ(result, 7);
}

Task<Result<int>> half(int number) {
    if (number % 2 != 0) co_return fail(ErrorCode::invalid, "odd");
    co_return number / 2;
}
Task<Result<int>> quarter(int number) {
    CO_TRY(const int halved, co_await half(number));
    CO_TRY(const int quartered, co_await half(halved));
    co_return quartered;
}
Task<void> store_result(int number, Result<int>& result) { result = co_await quarter(number); }

TEST(Task, error_ends_the_chain_where_it_is_tried) {
    Scope scope;
    Result<int> result;
    scope.spawn(store_result(12, result));
    EXPECT_EQ(result, 3);
    scope.spawn(store_result(6, result));
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, ErrorCode::invalid);
}

struct Request {
    std::string name;
    std::vector<int> numbers;
};
Task<std::size_t> take(Request request) {
    co_await yield();
    co_return request.numbers.size() + request.name.size();
}
Task<void> give(std::size_t& result) {
    result = co_await take(Request{std::string(50, 'n'), {1, 2, 3}});
}

TEST(Task, aggregate_given_to_an_awaited_call_lives_once) {
    // g++ 12 destroys such an argument twice.
    RunQueue queue;
    const RunQueue::Enter enter(queue);
    Scope scope;
    std::size_t result = 0;
    scope.spawn(give(result));
    queue.run();
    EXPECT_EQ(result, 53U);
}

}  // namespace
}  // namespace dst::async
