// Operation: one request to the kernel, in the frame of the coroutine that waits for it.
//
// Its address is the request's user_data, so it must stay until the kernel has answered: whoever
// destroys it earlier has a bug, which is found here and not as a torn stack later.
#pragma once

#include <cstdint>

#include "async/run_queue.h"
#include "base/check.h"

namespace dst::io::uring {

class Operation : public async::Waiter {
  public:
    Operation() = default;
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    ~Operation() { CHECK(!is_in_flight_ || is_abandoned_); }

    /// From being queued until the kernel's answer was collected.
    [[nodiscard]] bool is_in_flight() const { return is_in_flight_; }
    /// Flags of the completion (IORING_CQE_F_...).
    [[nodiscard]] std::uint32_t flags() const { return flags_; }

    bool await_ready() const noexcept { return false; }
    /// The kernel's result: not negative, or a negated errno.
    int await_resume() const noexcept { return result_; }

  private:
    friend class Reactor;
    int result_ = 0;
    std::uint32_t flags_ = 0;
    bool is_in_flight_ = false;
    bool is_abandoned_ = false;
};

}  // namespace dst::io::uring
