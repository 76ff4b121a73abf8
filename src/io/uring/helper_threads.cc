#include "io/uring/helper_threads.h"

#include <system_error>
#include <utility>

#include "base/check.h"

namespace dst::io::uring {

SignalsElsewhere::SignalsElsewhere() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
}

SignalsElsewhere::~SignalsElsewhere() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

HelperThreads::~HelperThreads() {
    {
        const std::lock_guard lock(mutex_);
        is_ending_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void HelperThreads::add(std::function<void()> work) {
    {
        const std::lock_guard lock(mutex_);
        waiting_.push_back(std::move(work));
        if (waiting_.size() > idle_ && threads_.size() < count_max_) start_one();
    }
    changed_.notify_one();
}

void HelperThreads::start_one() {
    const SignalsElsewhere signals;
    try {
        threads_.emplace_back([this] { run(); });
    } catch (const std::system_error&) {
        CHECK(!threads_.empty());  // one does, if there can't be more
    }
}

void HelperThreads::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        ++idle_;
        changed_.wait(lock, [this] { return is_ending_ || !waiting_.empty(); });
        --idle_;
        if (waiting_.empty()) return;
        const std::function<void()> work = std::move(waiting_.front());
        waiting_.pop_front();
        lock.unlock();
        work();
        lock.lock();
    }
}

}  // namespace dst::io::uring
