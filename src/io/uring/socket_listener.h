// SocketListener: accepts connections on a port or on a path.
#pragma once

#include <sys/types.h>

#include "async/wait.h"
#include "io/net.h"
#include "io/uring/reactor.h"
#include "io/uring/socket_address.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {

class SocketListener final : public Listener {
  public:
    /// Listens on `address`. `busy` if somebody else does. Blocks for no longer than it takes to
    /// ask a socket in the file system whether somebody listens there.
    static Outcome<std::unique_ptr<Listener>> open(Reactor& reactor, const SocketAddress& address);

    /// `fd` listens. `path_inode`: of the socket in the file system, to be removed at the end.
    SocketListener(Reactor& reactor, UniqueFd fd, Endpoint endpoint, ino_t path_inode)
        : reactor_(reactor),
          fd_(std::move(fd)),
          endpoint_(std::move(endpoint)),
          path_inode_(path_inode) {}
    ~SocketListener() override;

    /// Out of descriptors or memory it waits and goes on.
    async::Task<Result<std::unique_ptr<Stream>>> accept() override;
    void close() override;
    [[nodiscard]] Endpoint endpoint() const override { return endpoint_; }

  private:
    async::Task<int> accept_one(SocketAddress& peer);
    void remove_path();

    Reactor& reactor_;
    UniqueFd fd_;
    const Endpoint endpoint_;
    const ino_t path_inode_;
    Operation* accepting_ = nullptr;
    async::WaitQueue pausing_;
    std::size_t calls_ = 0;
    bool is_closed_ = false;
};

}  // namespace dst::io::uring
