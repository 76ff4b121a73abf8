// LoopDevice: a block device of the kernel on a file that this process serves; kept by a process of
// its own.
//
// Why a process: closing, flushing and configuring a loop device wait for its file,
// uninterruptibly. In the process that serves the file that is a deadlock once it is killed: its
// descriptor of /dev/fuse stays open until all of its threads have ended, and the one that waits
// never does. The keeper has no such descriptor. It has the device open, and lets go of it when its
// daemon dies; the kernel then clears the device as soon as nobody uses it (autoclear).
//
// Daemon and keeper talk in packets, one question at a time: the keeper's answer is "ok [TEXT]", or
// "no [TEXT]", or "busy [TEXT]".
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "async/task.h"
#include "async/wait.h"
#include "base/result.h"
#include "io/clock.h"
#include "io/uring/reactor.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {

struct LoopOptions {
    std::string file;
    /// Of this device if it is free; empty: any.
    std::string wanted;
    bool read_only = false;
    unsigned block_bytes = 512;
};

class LoopDevice {
  public:
    /// The verb by which this program becomes a keeper.
    static constexpr const char* kVerb = "keep-loop";

    /// Why this host has none; empty: it has.
    [[nodiscard]] static std::string obstacle();
    /// Starts a keeper and makes the device; the file must be served meanwhile. Suspends, until
    /// `deadline` at most.
    static async::Task<Outcome<std::unique_ptr<LoopDevice>>> open(Reactor& reactor,
                                                                  LoopOptions options,
                                                                  TimePoint deadline);
    /// After `drop`.
    ~LoopDevice();
    LoopDevice(const LoopDevice&) = delete;
    LoopDevice& operator=(const LoopDevice&) = delete;

    /// Its keeper has ended, so the device is cleared as soon as nobody uses it.
    [[nodiscard]] bool has_hung_up() const;
    /// "/dev/loop0"
    [[nodiscard]] const std::string& path() const { return path_; }
    /// Takes the file's size over. Suspends.
    async::Task<Outcome<>> resize(TimePoint deadline);
    /// Begins to clear it: flushes, and keeps others from beginning to use it. Refuses (`busy`)
    /// while somebody has it mounted or the like, `timed_out` while it waits for the file; nothing
    /// has changed then. Suspends.
    async::Task<Outcome<>> prepare(TimePoint deadline);
    /// After `prepare`: it is gone when this has succeeded; refuses (`busy`) if somebody has it
    /// open after all. Suspends.
    async::Task<Outcome<>> clear(TimePoint deadline);
    /// After `prepare`: it goes on as before. Suspends.
    async::Task<void> keep(TimePoint deadline);
    /// Ends the keeper. The file must answer, or fail, what it is asked; a keeper that hangs longer
    /// than `deadline` is killed, and left behind. Suspends. Idempotent.
    async::Task<void> drop(TimePoint deadline);

  private:
    LoopDevice(Reactor& reactor, UniqueFd socket, UniqueFd process, pid_t id);
    async::Task<Outcome<std::string>> ask(std::string question, TimePoint deadline);
    async::Task<std::optional<std::string>> receive(TimePoint deadline);
    async::Task<bool> readable(int fd, TimePoint deadline);
    async::Task<bool> has_ended(TimePoint deadline);

    Reactor& reactor_;
    UniqueFd socket_;
    UniqueFd process_;
    const pid_t id_;
    std::string path_;
    async::Semaphore turn_{1};
    /// Answers that nobody waited for any longer.
    unsigned late_answers_ = 0;
};

/// The keeper's life: the socket is its standard input. The program's exit code.
int keep_loop();

}  // namespace dst::io::uring
