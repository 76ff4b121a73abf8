// FuseMount: a folder whose files this process makes up. libfuse's session, waited for by the
// reactor instead of by a thread.
//
// The requests of the kernel are decoded by libfuse and handed to the operations that it was given,
// on the reactor's thread; those must not block, and may answer later.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "async/task.h"
#include "base/result.h"
#include "io/uring/reactor.h"

struct fuse_lowlevel_ops;
struct fuse_session;
struct fuse_buf;

namespace dst::io::uring {

class FuseMount {
  public:
    /// Makes the folder `path` (its parent exists) and mounts there; what a dead process left
    /// mounted is replaced. `operations` and `context` as libfuse has them; the context outlives
    /// the mount. Refuses, in a line, where there is no FUSE. Blocks: for start-up.
    static Outcome<std::unique_ptr<FuseMount>> open(Reactor& reactor, const std::string& path,
                                                    const fuse_lowlevel_ops& operations,
                                                    void* context);
    /// Closed before, and `serve` has returned.
    ~FuseMount();
    FuseMount(const FuseMount&) = delete;
    FuseMount& operator=(const FuseMount&) = delete;

    /// Hands out requests until `close`, or until somebody else unmounts it. Suspends.
    async::Task<void> serve();
    /// Hands out nothing more: `serve` returns soon. Idempotent.
    void stop();
    /// Takes the folder out of the file system. What was asked and not answered ends with ENOTCONN.
    /// Every request has been answered before. Not while `serve` runs. Idempotent.
    void close();

  private:
    FuseMount(Reactor& reactor, std::string path, fuse_session* session);
    [[nodiscard]] bool hand_out();

    Reactor& reactor_;
    const std::string path_;
    fuse_session* session_;
    const std::unique_ptr<fuse_buf> buffer_;
    Operation* waiting_ = nullptr;
    bool is_stopped_ = false;
    bool is_mounted_ = true;
};

}  // namespace dst::io::uring
