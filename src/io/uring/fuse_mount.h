// FuseMount: a folder whose files this process makes up, or a single file. libfuse's session,
// waited for by the reactor instead of by a thread.
//
// The requests of the kernel are decoded by libfuse and handed to the operations that it was given,
// on the reactor's thread; those must not block, and may answer later.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "async/task.h"
#include "async/wait.h"
#include "base/result.h"
#include "io/uring/reactor.h"

struct fuse_lowlevel_ops;
struct fuse_session;
struct fuse_buf;

namespace dst::io::uring {

/// What is mounted, and with which rights.
struct FuseMountOptions {
    bool is_file = false;  // else a folder
    bool read_only = false;
};

class FuseMount {
  public:
    /// Takes one request from the kernel, if there is one: what it returns is that of
    /// `fuse_session_receive_buf`, less than 0: an errno value.
    using Receive = std::function<int(fuse_session*)>;

    /// Makes the folder or file `path` (its parent exists) and mounts there; what a dead process
    /// left mounted is replaced. `operations` and `context` as libfuse has them; the context
    /// outlives the mount. Refuses, in a line, where there is no FUSE. Blocks: for start-up.
    static Outcome<std::unique_ptr<FuseMount>> open(Reactor& reactor, const std::string& path,
                                                    const fuse_lowlevel_ops& operations,
                                                    void* context, FuseMountOptions options = {});
    /// Closed before, and `serve` has returned.
    ~FuseMount();
    FuseMount(const FuseMount&) = delete;
    FuseMount& operator=(const FuseMount&) = delete;

    /// How requests are taken instead of by libfuse. Before `serve`.
    void receive_by(Receive receive) { receive_ = std::move(receive); }
    /// Takes no more until `resume`: the kernel keeps what comes.
    void pause() { is_paused_ = true; }
    void resume();
    [[nodiscard]] const std::string& path() const { return path_; }

    /// Hands out requests until `close`, or until somebody else unmounts it. Suspends.
    async::Task<void> serve();
    /// Hands out nothing more: `serve` returns soon. Idempotent.
    void stop();
    /// Takes it out of the file system. What was asked and not answered ends with ENOTCONN, but
    /// every request that libfuse decoded has been answered before. Not while `serve` runs.
    /// Idempotent.
    void close();

  private:
    FuseMount(Reactor& reactor, std::string path, fuse_session* session, bool is_file);
    [[nodiscard]] bool hand_out();
    [[nodiscard]] int receive_by_libfuse();

    Reactor& reactor_;
    const std::string path_;
    fuse_session* session_;
    const bool is_file_;
    const std::unique_ptr<fuse_buf> buffer_;
    Receive receive_;
    bool is_paused_ = false;
    async::WaitQueue resumed_;
    Operation* waiting_ = nullptr;
    bool is_stopped_ = false;
    bool is_mounted_ = true;
};

}  // namespace dst::io::uring
