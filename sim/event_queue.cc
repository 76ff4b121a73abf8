#include "sim/event_queue.h"

#include <memory>

#include "base/check.h"

namespace dst::sim {

/// Owns itself until it has happened, or the queue dies.
class EventQueue::Call final : public Event, public ListHook<> {
  public:
    explicit Call(std::function<void()> action) : action_(std::move(action)) {}

  private:
    void happen() override {
        const std::unique_ptr<Call> self(this);
        const auto action = std::move(action_);
        action();
    }
    std::function<void()> action_;
};

EventQueue::~EventQueue() {
    while (Call* const call = calls_.pop_front()) std::unique_ptr<Call>(call).reset();
    CHECK(events_.empty());
}

void EventQueue::call_at(io::TimePoint when, std::function<void()> action) {
    auto call = std::make_unique<Call>(std::move(action));
    call->arm(*this, when);
    calls_.push_back(*call.release());
}

bool EventQueue::step() {
    if (events_.empty()) return false;
    const io::TimePoint when = events_.first_time();
    Event& event = events_.take_first();
    event.queue_ = nullptr;
    now_ = when;
    ++count_;
    event.happen();
    return true;
}

void EventQueue::move_to(io::TimePoint when) {
    CHECK(when <= events_.first_time());
    if (when > now_) now_ = when;
}

}  // namespace dst::sim
