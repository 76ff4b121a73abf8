// The seam, part one: time, waiting for time, and randomness.
#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "async/task.h"
#include "async/wait.h"

namespace dst::io {

using Duration = std::chrono::nanoseconds;

/// Monotonic time, of no known origin.
struct MonotonicClock {
    using rep = Duration::rep;
    using period = Duration::period;
    using duration = Duration;
    using time_point = std::chrono::time_point<MonotonicClock, Duration>;
    static constexpr bool is_steady = true;
};
using TimePoint = MonotonicClock::time_point;
/// Time of day, for people: shown, never computed with.
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

class Clock;

/// Something that happens at a point of time, once. Disarmed when it dies.
class Timer {
  public:
    Timer() = default;
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    virtual ~Timer() { disarm(); }

    /// Fires at `when`, or at the next turn if that has passed. Replaces an earlier `when`.
    void arm(Clock& clock, TimePoint when);
    void disarm();
    [[nodiscard]] bool is_armed() const { return clock_ != nullptr; }
    [[nodiscard]] TimePoint when() const { return when_; }

    /// For clocks: the timer's place in the clock's order.
    std::size_t place = 0;
    /// For clocks: takes the timer off and lets it happen.
    void fire() {
        clock_ = nullptr;
        on_timer();
    }

  protected:
    /// Runs on the clock's thread, between coroutines. May arm the timer again.
    virtual void on_timer() = 0;

  private:
    Clock* clock_ = nullptr;
    TimePoint when_;
};

class Clock {
  public:
    virtual ~Clock() = default;
    [[nodiscard]] virtual TimePoint now() const = 0;
    [[nodiscard]] virtual WallTime wall_now() const = 0;
    /// When this turn of the thread began, or not much later: for statistics, which shall cost
    /// nothing.
    [[nodiscard]] virtual TimePoint turn_time() const { return now(); }

  private:
    friend class Timer;
    virtual void add(Timer& timer) = 0;
    virtual void remove(Timer& timer) = 0;
};

inline void Timer::disarm() {
    if (clock_ != nullptr) std::exchange(clock_, nullptr)->remove(*this);
}
inline void Timer::arm(Clock& clock, TimePoint when) {
    disarm();
    when_ = when;
    clock_ = &clock;
    clock.add(*this);
}

/// A timer that calls `action()`. The action must not destroy the timer.
template <typename Action>
class Deadline final : public Timer {
  public:
    explicit Deadline(Action action) : action_(std::move(action)) {}
    ~Deadline() override { disarm(); }

  private:
    void on_timer() override { action_(); }
    Action action_;
};

/// `co_await sleep_until(clock, when)`.
class SleepAwaiter final : public Timer, public async::Waiter {
  public:
    SleepAwaiter(Clock& clock, TimePoint when) : clock_(clock), until_(when) {}
    bool await_ready() const { return until_ <= clock_.now(); }
    void await_suspend(std::coroutine_handle<> handle) {
        suspend(handle);
        arm(clock_, until_);
    }
    void await_resume() const noexcept {}

  private:
    void on_timer() override { wake(); }
    Clock& clock_;
    TimePoint until_;
};
[[nodiscard]] inline SleepAwaiter sleep_until(Clock& clock, TimePoint when) {
    return {clock, when};
}
[[nodiscard]] inline SleepAwaiter sleep_for(Clock& clock, Duration duration) {
    return {clock, clock.now() + duration};
}

/// `co_await wait_until(clock, queue, when)`: true if woken, false if the time came first.
class TimedWaitAwaiter final : public Timer, public async::Waiter {
  public:
    TimedWaitAwaiter(Clock& clock, async::WaitQueue& queue, TimePoint when)
        : clock_(clock), waits_in_(queue), until_(when) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
        suspend(handle);
        waits_in_.add(*this);
        arm(clock_, until_);
    }
    bool await_resume() {
        disarm();
        return !timed_out_;
    }

  private:
    void on_timer() override {
        if (timed_out_) return;
        timed_out_ = true;
        wake();
    }
    Clock& clock_;
    async::WaitQueue& waits_in_;
    TimePoint until_;
    bool timed_out_ = false;
};
[[nodiscard]] inline TimedWaitAwaiter wait_until(Clock& clock, async::WaitQueue& queue,
                                                 TimePoint when) {
    return {clock, queue, when};
}
[[nodiscard]] inline TimedWaitAwaiter wait_for(Clock& clock, async::WaitQueue& queue,
                                               Duration duration) {
    return {clock, queue, clock.now() + duration};
}

/// Random numbers: ids, jitter.
class Random {
  public:
    virtual ~Random() = default;
    [[nodiscard]] virtual std::uint64_t next() = 0;
    /// Uniform in [0, bound); `bound` is not 0. (Multiplication instead of modulo; the bias is
    /// below 2^-32 for bounds below 2^32.)
    [[nodiscard]] std::uint64_t below(std::uint64_t bound) {
        return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
    }
};

}  // namespace dst::io
