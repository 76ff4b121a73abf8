// Operation: a request of a simulated process to its kernel, in the frame of the coroutine that
// waits for it.
//
// As with io_uring, what is asked for during a turn begins when the turn is over, and whoever
// destroys a request that is in flight has a bug, unless the process is being killed.
#pragma once

#include "async/run_queue.h"
#include "base/list.h"

namespace dst::sim {

class Process;
struct SubmittedTag {};

class Operation : public async::Waiter, public ListHook<SubmittedTag> {
  public:
    explicit Operation(Process& process) : process_(process) {}
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle);

  protected:
    virtual ~Operation();
    /// The answer is there: the process finds it at its next turn.
    void complete();
    [[nodiscard]] Process& process() const { return process_; }
    [[nodiscard]] bool is_in_flight() const { return is_in_flight_; }

  private:
    friend class Process;
    /// The kernel gets the request.
    virtual void begin() = 0;

    Process& process_;
    bool is_in_flight_ = false;
};

}  // namespace dst::sim
