// Helper threads: for calls that block and that io_uring can't do. Started when first needed.
#pragma once

#include <condition_variable>
#include <csignal>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace dst::io::uring {

/// A thread started while it lives takes no signals: those are for whoever knows what to do.
class SignalsElsewhere {
  public:
    SignalsElsewhere();
    SignalsElsewhere(const SignalsElsewhere&) = delete;
    SignalsElsewhere& operator=(const SignalsElsewhere&) = delete;
    ~SignalsElsewhere();

  private:
    sigset_t before_;
};

class HelperThreads {
  public:
    explicit HelperThreads(std::size_t count_max) : count_max_(count_max) {}
    /// Waits until all that was given is done.
    ~HelperThreads();
    HelperThreads(const HelperThreads&) = delete;
    HelperThreads& operator=(const HelperThreads&) = delete;

    /// `work` runs on a helper thread, in order of giving if there is but one.
    void add(std::function<void()> work);

  private:
    void start_one();
    void run();

    const std::size_t count_max_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> waiting_;
    std::size_t idle_ = 0;
    bool is_ending_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace dst::io::uring
