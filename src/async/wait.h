// Waiting: a queue of waiters, and what is made of it: Event, Semaphore.
//
// Who is woken goes to its run queue; after waking the world may have changed again, so waiters
// look at their condition in a loop.
#pragma once

#include <coroutine>
#include <cstdint>

#include "async/run_queue.h"

namespace dst::async {

class WaitQueue {
  public:
    class Awaiter : public Waiter {
      public:
        explicit Awaiter(WaitQueue& queue) : waits_in_(queue) {}
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> handle) {
            suspend(handle);
            waits_in_.waiters_.push_back(*this);
        }
        void await_resume() const noexcept {}

      private:
        WaitQueue& waits_in_;
    };

    /// Suspends until woken.
    [[nodiscard]] Awaiter wait() { return Awaiter(*this); }
    void add(Waiter& waiter) { waiters_.push_back(waiter); }
    bool wake_one() {
        Waiter* const first = waiters_.front();
        if (first != nullptr) first->wake();
        return first != nullptr;
    }
    void wake_all() {
        while (wake_one()) {
        }
    }
    [[nodiscard]] bool empty() { return waiters_.empty(); }

  private:
    List<Waiter> waiters_;
};

/// Stays set until cleared; any number may wait.
class Event {
  public:
    void set() {
        is_set_ = true;
        waiters_.wake_all();
    }
    void clear() { is_set_ = false; }
    [[nodiscard]] bool is_set() const { return is_set_; }

    class Awaiter : public WaitQueue::Awaiter {
      public:
        explicit Awaiter(Event& event) : WaitQueue::Awaiter(event.waiters_), event_(event) {}
        bool await_ready() const noexcept { return event_.is_set_; }

      private:
        Event& event_;
    };
    /// Suspends unless set.
    [[nodiscard]] Awaiter wait() { return Awaiter(*this); }
    [[nodiscard]] WaitQueue& waiters() { return waiters_; }

  private:
    bool is_set_ = false;
    WaitQueue waiters_;
};

/// Counts permits; first come, first served, whatever each asks for.
class Semaphore {
  public:
    explicit Semaphore(std::uint64_t permits) : permits_(permits) {}

    class Awaiter : public Waiter {
      public:
        Awaiter(Semaphore& semaphore, std::uint64_t count) : semaphore_(semaphore), count_(count) {}
        Awaiter(const Awaiter&) = delete;
        Awaiter& operator=(const Awaiter&) = delete;
        ~Awaiter() {
            // Destroyed between being granted and being resumed: give it back.
            if (state_ == State::granted) semaphore_.release(count_);
        }
        bool await_ready() {
            if (!semaphore_.waiters_.empty() || semaphore_.permits_ < count_) return false;
            semaphore_.permits_ -= count_;
            return true;
        }
        void await_suspend(std::coroutine_handle<> handle) {
            suspend(handle);
            semaphore_.waiters_.push_back(*this);
        }
        void await_resume() { state_ = State::taken; }

      private:
        friend class Semaphore;
        enum class State : std::uint8_t { waiting, granted, taken };
        Semaphore& semaphore_;
        std::uint64_t count_;
        State state_ = State::waiting;
    };

    /// Suspends until `count` permits are there, and takes them.
    [[nodiscard]] Awaiter acquire(std::uint64_t count = 1) { return Awaiter(*this, count); }
    void release(std::uint64_t count = 1) {
        permits_ += count;
        while (Awaiter* const first = waiters_.front()) {
            if (permits_ < first->count_) break;
            permits_ -= first->count_;
            first->state_ = Awaiter::State::granted;
            first->wake();
        }
    }
    [[nodiscard]] std::uint64_t available() const { return permits_; }

  private:
    std::uint64_t permits_;
    List<Awaiter> waiters_;
};

}  // namespace dst::async
