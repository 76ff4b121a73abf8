// Sockets: the network of the seam, over TCP and sockets in the file system.
#pragma once

#include "io/net.h"
#include "io/uring/reactor.h"
#include "io/uring/resolver.h"
#include "io/uring/socket_address.h"

namespace dst::io::uring {

class Sockets final : public Network {
  public:
    explicit Sockets(Reactor& reactor) : reactor_(reactor), resolver_(reactor) {}

    async::Task<Outcome<std::unique_ptr<Stream>>> connect(Endpoint endpoint, TimePoint deadline,
                                                          Duration silence) override;
    /// The addresses of a name are tried in turn, each with its share of the time that is left.
    async::Task<Outcome<std::unique_ptr<Stream>>> connect_unless(Endpoint endpoint,
                                                                 TimePoint deadline,
                                                                 Duration silence,
                                                                 Interrupt& interrupt) override;
    /// A name stands for its first IPv4 address, if it has one. A socket in the file system is for
    /// its owner alone; one that a dead process left is replaced.
    async::Task<Outcome<std::unique_ptr<Listener>>> listen(Endpoint endpoint) override;
    [[nodiscard]] std::unique_ptr<Stream> adopt(std::unique_ptr<Stream> stream) override;

  private:
    class Attempt;

    async::Task<Result<std::unique_ptr<Stream>>> connect_one(const SocketAddress& address,
                                                             TimePoint limit, Duration silence,
                                                             Interrupt& interrupt);

    Reactor& reactor_;
    Resolver resolver_;
};

}  // namespace dst::io::uring
