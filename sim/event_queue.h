// EventQueue: the virtual clock, and everything that is going to happen, one thing after another.
//
// Time stands still while something happens and jumps to the next event afterwards; of two events
// of one time the one that was armed first comes first. There is nothing else that moves a world,
// so the same events in the same order are the same run.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "base/list.h"
#include "io/clock.h"
#include "sim/timed_heap.h"

namespace dst::sim {

class EventQueue;

/// Something that happens at a point of time, once. Cancelled when it dies.
class Event {
  public:
    Event() = default;
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    virtual ~Event() { cancel(); }

    /// Replaces an earlier time. A time that has passed counts as now.
    void arm(EventQueue& queue, io::TimePoint when);
    void cancel();
    [[nodiscard]] bool is_armed() const { return queue_ != nullptr; }

    /// The queue's.
    std::size_t place = 0;

  private:
    friend class EventQueue;
    /// Must not destroy the event's queue; may destroy the event, or arm it again.
    virtual void happen() = 0;

    EventQueue* queue_ = nullptr;
};

/// An event that calls `action()`.
template <typename Action>
class ActionEvent final : public Event {
  public:
    explicit ActionEvent(Action action) : action_(std::move(action)) {}

  private:
    void happen() override { action_(); }
    Action action_;
};

class EventQueue {
  public:
    /// Not zero, so that no time that code computes backwards is negative.
    static constexpr io::TimePoint kBegin{std::chrono::hours(1)};

    EventQueue() = default;
    EventQueue(const EventQueue&) = delete;
    EventQueue& operator=(const EventQueue&) = delete;
    ~EventQueue();

    [[nodiscard]] io::TimePoint now() const { return now_; }
    /// How many events have happened.
    [[nodiscard]] std::uint64_t count() const { return count_; }
    [[nodiscard]] io::TimePoint next_time() const { return events_.first_time(); }

    /// Calls `action` once. For the rare things: it allocates.
    void call_at(io::TimePoint when, std::function<void()> action);
    void call_after(io::Duration duration, std::function<void()> action) {
        call_at(now_ + duration, std::move(action));
    }

    /// Lets the first event happen; false if there is none.
    bool step();
    /// Nothing happens until then: for a run that is to end at a time.
    void move_to(io::TimePoint when);

  private:
    friend class Event;
    class Call;

    TimedHeap<Event> events_;
    List<Call> calls_;
    io::TimePoint now_ = kBegin;
    std::uint64_t count_ = 0;
};

inline void Event::arm(EventQueue& queue, io::TimePoint when) {
    cancel();
    queue_ = &queue;
    queue.events_.add(*this, when < queue.now_ ? queue.now_ : when);
}
inline void Event::cancel() {
    if (queue_ != nullptr) std::exchange(queue_, nullptr)->events_.remove(*this);
}

}  // namespace dst::sim
