// Parts: the requests that one request was cut into, all in flight at once.
//
// It lives in the frame of the coroutine that cuts, and everything in flight dies with it. It
// allocates nothing but the parts' frames, which come from free lists.
#pragma once

#include <cstddef>
#include <limits>

#include "async/scope.h"
#include "async/task.h"
#include "base/result.h"
#include "block/device.h"
#include "block/request.h"

namespace dst::algorithm {

class Parts {
  public:
    Parts() = default;
    Parts(const Parts&) = delete;
    Parts& operator=(const Parts&) = delete;

    /// Starts `part` on `device`, which outlives this, up to where it first waits. Its data stays
    /// with the caller.
    void start(block::Device& device, const block::Request& part);
    /// Takes the place of a part that can't be started.
    void fail(Error error);
    /// Suspends until all have ended. The error of the one that was started first among those that
    /// failed: start them in the order of their addresses.
    [[nodiscard]] async::Task<Result<>> finish();

  private:
    static async::Task<void> run(Parts& parts, block::Device& device, block::Request part,
                                 std::size_t place);
    void note(std::size_t place, Error error);

    std::size_t started_ = 0;
    std::size_t failed_place_ = std::numeric_limits<std::size_t>::max();
    Error error_;
    async::Scope running_;  // last: what it holds refers to the rest
};

}  // namespace dst::algorithm
