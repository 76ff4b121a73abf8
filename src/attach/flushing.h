// The flush before a device is taken away.
#pragma once

#include "async/scope.h"
#include "block/device.h"
#include "io/clock.h"

namespace dst::attach {

/// Flushes `device`. Refuses with `timed_out` at `deadline` (what was begun goes on in `tasks`),
/// and otherwise if the flush failed. Suspends.
async::Task<Outcome<>> flush_until(block::Device& device, io::Clock& clock, io::TimePoint deadline,
                                   async::Scope& tasks);

/// The refusal of a detach while `waiting` requests wait for the device.
[[nodiscard]] std::unexpected<Problem> busy(const std::string& path, std::size_t waiting);

}  // namespace dst::attach
