// Load: where requests come from. A process has some; what they find there, and how they end.
#pragma once

#include <functional>
#include <memory>

#include "async/task.h"
#include "block/buffer.h"
#include "block/device.h"
#include "io/world.h"

namespace dst::sim {

/// Where a load sends its requests. What it refers to outlives the load.
struct Site {
    io::World& world;
    block::Device& device;
    block::Account& payloads;
    /// Suspends until a request would be sent at once. None: always.
    std::function<async::Task<void>()> connected{};
};

/// Sends requests. An object of the process: gone when that is killed. What it knows of answers
/// that must not be forgotten it tells to somebody outside, at once.
class Load {
  public:
    virtual ~Load() = default;
    /// Returns after `end()`, when everything that was sent is answered. Suspends.
    virtual async::Task<void> run(Site site) = 0;
    /// Sends nothing new from now on.
    virtual void end() = 0;
};
using MakeLoad = std::function<std::unique_ptr<Load>()>;

}  // namespace dst::sim
