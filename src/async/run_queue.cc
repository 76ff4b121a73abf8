#include "async/run_queue.h"

namespace dst::async {
namespace {
thread_local RunQueue* current_queue = nullptr;
}

void Waiter::suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    queue_ = &RunQueue::current();
}

void Waiter::wake() {
    unlink();
    queue_->post(*this);
}

RunQueue& RunQueue::current() {
    CHECK(current_queue != nullptr);
    return *current_queue;
}

RunQueue::Enter::Enter(RunQueue& queue) : before_(current_queue) { current_queue = &queue; }
RunQueue::Enter::~Enter() { current_queue = before_; }

bool RunQueue::run_one() {
    if (ready_.empty()) {
        if (late_.empty()) return false;
        ready_.append(late_);
    }
    ready_.pop_front()->handle_.resume();
    return true;
}

void RunQueue::run() {
    const Enter enter(*this);
    while (run_one()) {
    }
}

}  // namespace dst::async
