// From a thread that may wait to the reactor that may not: runs an operation there, waits here.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

#include "control/operations.h"

namespace dst::control {

namespace detail {
template <typename Task>
struct OutcomeOf;
template <typename T>
struct OutcomeOf<async::Task<Outcome<T>>> {
    using Value = T;
};
}  // namespace detail

class ReactorCalls {
  public:
    ReactorCalls(SpawnOnReactor spawn, std::chrono::milliseconds wait_max)
        : spawn_(std::move(spawn)), wait_max_(wait_max) {}
    ReactorCalls(const ReactorCalls&) = delete;
    ReactorCalls& operator=(const ReactorCalls&) = delete;

    /// Runs what `start` makes on the reactor, and returns what it returned. `timed_out` after
    /// `wait_max` (it goes on), `shutting_down` once `stop` was called or the reactor ended.
    /// Blocks: for any thread but the reactor's.
    template <typename Start, typename T = detail::OutcomeOf<std::invoke_result_t<Start>>::Value>
    Outcome<T> run(Start start) {
        auto ticket = std::make_shared<Ticket<T>>(waiters_);
        auto slot = ticket->slot;
        spawn_([start = std::move(start), ticket] { return fill<T>(start, ticket); });
        ticket.reset();  // now the reactor's alone, so that its end is seen
        std::unique_lock lock(waiters_->mutex);
        const bool is_over = waiters_->changed.wait_for(
            lock, wait_max_, [&] { return slot->has_value() || waiters_->stopping; });
        if (slot->has_value()) return **std::move(slot);
        if (is_over) return shutting_down();
        return refuse(
            ErrorCode::timed_out,
            fmt::format("it did not end within {} s and goes on in the daemon; see how it "
                        "ends with 'dst status'",
                        std::chrono::duration<double>(wait_max_).count()));
    }

    /// All who wait are refused from now on. Any thread.
    void stop() {
        const std::lock_guard lock(waiters_->mutex);
        waiters_->stopping = true;
        waiters_->changed.notify_all();
    }

  private:
    struct Waiters {
        std::mutex mutex;
        std::condition_variable changed;
        bool stopping = false;
    };

    /// Held by the call on the reactor. If it dies before it is used, the waiter is told.
    template <typename T>
    struct Ticket {
        using Slot = std::optional<Outcome<T>>;

        explicit Ticket(std::shared_ptr<Waiters> who) : waiters(std::move(who)) {}
        ~Ticket() { put(shutting_down()); }
        void put(Outcome<T> outcome) {
            const std::lock_guard lock(waiters->mutex);
            if (slot->has_value()) return;
            slot->emplace(std::move(outcome));
            waiters->changed.notify_all();
        }
        // Both shared: the waiter may give up before the reactor is done, or the other way round.
        std::shared_ptr<Waiters> waiters;
        std::shared_ptr<Slot> slot = std::make_shared<Slot>();
    };

    static std::unexpected<Problem> shutting_down() {
        return refuse(ErrorCode::shutting_down,
                      "the daemon is ending; ask again when it has been started");
    }

    template <typename T>
    static async::Task<void> fill(std::function<async::Task<Outcome<T>>()> start,
                                  std::shared_ptr<Ticket<T>> ticket) {
        ticket->put(co_await start());
    }

    SpawnOnReactor spawn_;
    std::chrono::milliseconds wait_max_;
    // Shared with the tickets, which may outlive the calls.
    std::shared_ptr<Waiters> waiters_ = std::make_shared<Waiters>();
};

}  // namespace dst::control
