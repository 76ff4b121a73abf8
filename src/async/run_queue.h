// The queue of coroutines that may go on: one for each thread of control.
//
// Everything that wakes a coroutine puts it here instead of resuming it on the spot: the waker's
// state is settled before anybody else looks at it, stacks stay flat, and the order is first in,
// first out. What waits in the queue may be destroyed there (its hook unlinks itself).
#pragma once

#include <coroutine>

#include "base/list.h"

namespace dst::async {

class RunQueue;

/// A suspended coroutine. Lives in the awaiter, so in the frame of the coroutine that it stands
/// for; linked either where it waits or in its run queue.
class Waiter : public ListHook<> {
  public:
    Waiter() = default;

  protected:
    friend class RunQueue;
    std::coroutine_handle<> handle_;
    RunQueue* queue_ = nullptr;

  public:
    /// Notes who is to be resumed, and where. Called from `await_suspend`.
    void suspend(std::coroutine_handle<> handle);
    /// Leaves wherever it waits and gets ready to run.
    void wake();
};

class RunQueue {
  public:
    RunQueue() = default;

    void post(Waiter& waiter) { ready_.push_back(waiter); }
    /// Runs when nothing is ready any more: the end of the turn (design §3, batching).
    void post_late(Waiter& waiter) { late_.push_back(waiter); }
    [[nodiscard]] bool empty() { return ready_.empty() && late_.empty(); }

    /// Runs until nothing is ready and nothing is late. Makes itself the current queue meanwhile.
    void run();
    /// Resumes one coroutine; false if there was none.
    bool run_one();

    /// The queue that runs on this thread; there must be one.
    static RunQueue& current();

    /// Makes `queue` the current one while it lives: for what is started outside of `run`.
    class Enter {
      public:
        explicit Enter(RunQueue& queue);
        ~Enter();
        Enter(const Enter&) = delete;
        Enter& operator=(const Enter&) = delete;

      private:
        RunQueue* before_;
    };

  private:
    List<Waiter> ready_;
    List<Waiter> late_;
};

/// `co_await end_of_turn()`: goes on when all that is ready now has run.
class EndOfTurn : public Waiter {
  public:
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
        suspend(handle);
        queue_->post_late(*this);
    }
    void await_resume() const noexcept {}
};
[[nodiscard]] inline EndOfTurn end_of_turn() { return {}; }

/// `co_await yield()`: goes on behind all that is ready now.
class Yield : public Waiter {
  public:
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
        suspend(handle);
        queue_->post(*this);
    }
    void await_resume() const noexcept {}
};
[[nodiscard]] inline Yield yield() { return {}; }

}  // namespace dst::async
