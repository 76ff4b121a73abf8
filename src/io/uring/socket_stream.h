// SocketStream: a connected socket.
#pragma once

#include "io/net.h"
#include "io/uring/reactor.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {

class SocketStream final : public Stream {
  public:
    SocketStream(Reactor& reactor, UniqueFd fd, Address peer)
        : reactor_(reactor), fd_(std::move(fd)), peer_(peer) {}
    /// Closes; does not wait for what is still to be sent.
    ~SocketStream() override;

    async::Task<Result<std::size_t>> receive(std::span<const Slice> into) override;
    [[nodiscard]] std::size_t readable() const override;
    async::Task<Result<std::size_t>> send(std::span<const Slice> from) override;
    void shutdown() override;
    [[nodiscard]] const Address& peer() const override { return peer_; }

    /// Gives the socket away, to be wrapped by another reactor's network. No call is in flight.
    [[nodiscard]] UniqueFd release();

  private:
    [[nodiscard]] Result<std::size_t> receive_result(int result);
    [[nodiscard]] Result<std::size_t> send_result(int result);
    [[nodiscard]] std::unexpected<Error> lost(int result, const char* what);

    Reactor& reactor_;
    UniqueFd fd_;
    Address peer_;
    bool is_receiving_ = false;
    bool is_sending_ = false;
    bool is_shut_down_ = false;
    /// The kernel tells only one call that the connection broke.
    bool is_broken_ = false;
    /// The last receive emptied the socket: the next one waits for data before it looks.
    bool is_drained_ = false;
};

}  // namespace dst::io::uring
