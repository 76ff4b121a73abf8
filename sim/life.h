// Life: what a process has while it runs. Private to the implementations of the seam.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "async/scope.h"
#include "async/wait.h"
#include "io/world.h"
#include "sim/disk.h"
#include "sim/files.h"
#include "sim/operation.h"
#include "sim/process.h"
#include "sim/sockets.h"
#include "sim/timed_heap.h"

namespace dst::sim {

/// The clock of one life. Timers are the process's; the time is the world's, the wall time its
/// host's.
class LifeClock final : public io::Clock {
  public:
    explicit LifeClock(Process& process) : process_(process) {}
    [[nodiscard]] io::TimePoint now() const override;
    [[nodiscard]] io::WallTime wall_now() const override;

    [[nodiscard]] bool empty() const { return timers_.empty(); }
    [[nodiscard]] io::TimePoint next() const { return timers_.first_time(); }
    /// Fires what is due, but not what is armed meanwhile. In a turn.
    void fire();

  private:
    void add(io::Timer& timer) override;
    void remove(io::Timer& timer) override { timers_.remove(timer); }

    Process& process_;
    TimedHeap<io::Timer> timers_;
    io::TimePoint fired_until_;
};

/// What a killed process leaves to the kernel, until that has cleaned up.
struct Remains {
    std::vector<Socket*> sockets;
    std::vector<Port*> ports;
    std::vector<std::unique_ptr<DiskLock>> locks;
};

struct Life {
    explicit Life(Process& process);

    async::RunQueue queue;
    LifeClock clock;
    Files files;
    Sockets sockets;
    List<Operation, SubmittedTag> submitted;
    List<DiskRequest, InFlightTag> disk_requests;
    Remains remains;
    std::size_t handles = 0;  // open files, streams and listeners
    enum class End : std::uint8_t { none, stopped, gave_up };
    End end = End::none;
    bool is_serving = false;
    bool is_stopping = false;
    async::Event started;
    std::unique_ptr<Program> program;
    std::optional<async::Scope> scope;  // last: its tasks use all of the above
};

}  // namespace dst::sim
