// Reactor: one thread's loop over one io_uring. It owns the run queue, the timers and the helper
// threads, and is the clock of what runs on it.
//
// A turn: run what is ready; hand all requests over and wait in one system call; wake the
// coroutines whose requests were answered; fire the timers that are due. Nothing is resumed from
// within another's code. An idle reactor sleeps in the kernel and is woken by nothing.
#pragma once

#include <array>
#include <atomic>
#include <concepts>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "async/scope.h"
#include "async/task.h"
#include "io/uring/helper_threads.h"
#include "io/uring/operation.h"
#include "io/uring/random.h"
#include "io/uring/ring.h"
#include "io/uring/timer_heap.h"
#include "io/uring/unique_fd.h"
#include "io/world.h"

namespace dst::io::uring {

struct ReactorOptions {
    /// For how long it polls after an answer of the kernel before it sleeps; 0: never. Polls less
    /// when that has not paid lately.
    std::chrono::microseconds spin{0};
    /// How many requests are handed to the kernel at once; a power of two.
    unsigned entries = 1024;
};

/// Belongs to the thread that first runs it; may be made and destroyed by another one. When it dies
/// nothing may be in flight and no timer armed.
class Reactor final : public Clock {
  public:
    static Outcome<std::unique_ptr<Reactor>> create(ReactorOptions options = {});
    ~Reactor() override;
    Reactor(const Reactor&) = delete;
    Reactor& operator=(const Reactor&) = delete;

    /// The seam, made of this reactor.
    [[nodiscard]] World world() { return {*this, random_, *files_, *network_, queue_}; }
    /// What the kernel lacks, for the log; empty if it lacks nothing.
    [[nodiscard]] const std::string& warning() const { return ring_->warning(); }

    /// Runs until `stop()`.
    void run();
    /// `run()` returns at the end of this turn, or of its first one. On the reactor's thread.
    void stop() { is_stopping_ = true; }
    /// Starts `task`, runs until it has ended (whatever `stop()` says), returns its value.
    /// For tests, tools and start-up: not from within a coroutine.
    template <typename T>
    T block_on(async::Task<T> task);

    /// Calls `function` on the reactor's thread, at its next turn. From any thread.
    void post(std::function<void()> function);
    /// Calls `function()`, which may block, on a helper thread and returns its value. Suspends.
    /// It must not be destroyed meanwhile.
    template <std::invocable Function>
    async::Task<std::invoke_result_t<Function&>> offload(Function function);
    /// The same on one of `threads`: for calls that may block for so long that others must not wait
    /// behind them.
    template <std::invocable Function>
    async::Task<std::invoke_result_t<Function&>> offload(HelperThreads& threads, Function function);
    /// Calls `function()` on a helper thread some time, before the reactor has died.
    void offload_detached(std::function<void()> function) { helpers_.add(std::move(function)); }

    /// `co_await reactor.submit([&](io_uring_sqe& entry) { io_uring_prep_...(&entry, ...); })`:
    /// the kernel's result. What the entry points to must stay until then.
    template <typename Prepare>
    class Submission;
    template <typename Prepare>
    [[nodiscard]] Submission<Prepare> submit(Prepare prepare) {
        return Submission<Prepare>(*this, std::move(prepare));
    }
    /// Asks the kernel to give `operation` up: it ends soon, with -ECANCELED if that was in time.
    /// Nothing happens if it is not in flight.
    void cancel(Operation& operation);
    /// The kernel may keep `operation` for longer than this reactor lives: it is waited for no
    /// more, and may die in flight once the ring is closed. What has it goes to `keep`.
    void abandon(Operation& operation);
    /// `kept` is let go after the ring is closed, when nothing is answered any more.
    void keep(std::shared_ptr<void> kept) { kept_.push_back(std::move(kept)); }

    [[nodiscard]] TimePoint now() const override;
    [[nodiscard]] WallTime wall_now() const override;
    [[nodiscard]] TimePoint turn_time() const override { return turn_time_; }

  private:
    class OnThread;

    Reactor(ReactorOptions options, std::unique_ptr<Ring> ring, UniqueFd wake_event);

    void add(Timer& timer) override { timers_.add(timer); }
    void remove(Timer& timer) override { timers_.remove(timer); }

    void run_until(const bool& done);
    void turn(const bool& done);
    void wait();
    bool spin(TimePoint until);
    void note_gap(TimePoint now);
    void reap();
    void run_posted();
    void watch_wake_event();
    io_uring_sqe& next_entry();
    void start(Operation& operation, io_uring_sqe& entry);

    template <typename T>
    static async::Task<void> finish(async::Task<T> task, std::optional<T>& value, bool& done) {
        value.emplace(co_await std::move(task));
        done = true;
    }
    static async::Task<void> finish_void(async::Task<void> task, bool& done) {
        co_await std::move(task);
        done = true;
    }
    void run_task(async::Task<void> task, const bool& done);

    std::vector<std::shared_ptr<void>> kept_;  // first: goes after the ring
    const std::unique_ptr<Ring> ring_;
    async::RunQueue queue_;
    TimerHeap timers_;
    std::size_t in_flight_ = 0;
    bool is_stopping_ = false;
    bool is_running_ = false;
    TimePoint turn_time_;

    // Polling before sleep: the setting, what is worth it at the moment, and what that rests on.
    const Duration spin_max_;
    Duration spin_now_;
    TimePoint last_answer_;

    // From other threads.
    UniqueFd wake_event_;
    std::uint64_t wake_count_ = 0;  // the kernel writes it
    bool is_watched_ = false;
    bool is_woken_ = false;
    std::mutex posted_mutex_;
    std::vector<std::function<void()>> posted_;
    std::vector<std::function<void()>> taken_;

    HelperThreads helpers_;
    SystemRandom random_;
    std::unique_ptr<FileSystem> files_;
    std::unique_ptr<Network> network_;
};

template <typename Prepare>
class Reactor::Submission final : public Operation {
  public:
    Submission(Reactor& reactor, Prepare prepare)
        : reactor_(reactor), prepare_(std::move(prepare)) {}

    void await_suspend(std::coroutine_handle<> handle) {
        suspend(handle);
        io_uring_sqe& entry = reactor_.next_entry();
        prepare_(entry);
        reactor_.start(*this, entry);
    }

  private:
    Reactor& reactor_;
    Prepare prepare_;
};

template <typename T>
T Reactor::block_on(async::Task<T> task) {
    bool done = false;
    if constexpr (std::is_void_v<T>) {
        run_task(finish_void(std::move(task), done), done);
    } else {
        std::optional<T> value;
        run_task(finish(std::move(task), value, done), done);
        return *std::move(value);
    }
}

/// A call on a helper thread, in the frame of the coroutine that waits for it.
template <typename Function>
class Offloaded final : public async::Waiter {
  public:
    using Value = std::invoke_result_t<Function&>;

    /// `threads`: whose; null: the reactor's.
    Offloaded(Reactor& reactor, HelperThreads* threads, Function& function)
        : reactor_(reactor), threads_(threads), function_(function) {}
    Offloaded(const Offloaded&) = delete;
    Offloaded& operator=(const Offloaded&) = delete;
    ~Offloaded() { CHECK(!is_in_flight_); }

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
        suspend(handle);
        is_in_flight_ = true;
        const auto work = [this] {
            value_.emplace(function_());
            reactor_.post([this] {
                is_in_flight_ = false;
                wake();
            });
        };
        if (threads_ != nullptr)
            threads_->add(work);
        else
            reactor_.offload_detached(work);
    }
    Value await_resume() { return *std::move(value_); }

  private:
    Reactor& reactor_;
    HelperThreads* threads_;
    Function& function_;
    std::optional<Value> value_;
    bool is_in_flight_ = false;
};

template <std::invocable Function>
async::Task<std::invoke_result_t<Function&>> Reactor::offload(Function function) {
    Offloaded<Function> call(*this, nullptr, function);
    co_return co_await call;
}

template <std::invocable Function>
async::Task<std::invoke_result_t<Function&>> Reactor::offload(HelperThreads& threads,
                                                              Function function) {
    Offloaded<Function> call(*this, &threads, function);
    co_return co_await call;
}

}  // namespace dst::io::uring
