// Sockets: the network of the seam, for one life of a process.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "io/net.h"
#include "sim/connection.h"
#include "sim/operation.h"

namespace dst::sim {

class Process;
class AcceptOperation;

/// A port (or a path) where a host's kernel takes connections. Belongs to the host.
class Port {
  public:
    Port(Host& host, io::Endpoint endpoint) : host_(host), endpoint_(std::move(endpoint)) {}
    ~Port();
    Port(const Port&) = delete;
    Port& operator=(const Port&) = delete;

    [[nodiscard]] const io::Endpoint& endpoint() const { return endpoint_; }
    /// A connection that is established, whether anybody will accept it or not.
    void push(Socket& socket);
    /// Null if there is none.
    Socket* pop();
    [[nodiscard]] bool is_full() const { return backlog_.size() >= kBacklogMax; }

    AcceptOperation* accepting = nullptr;

  private:
    static constexpr std::size_t kBacklogMax = 4096;
    Host& host_;
    const io::Endpoint endpoint_;
    std::deque<Socket*> backlog_;
};

class SocketStream final : public io::Stream {
  public:
    SocketStream(Process& process, Socket& socket, io::Address peer);
    ~SocketStream() override;

    async::Task<Result<std::size_t>> receive(std::span<const io::Slice> into) override;
    async::Task<Result<std::size_t>> send(std::span<const io::Slice> from) override;
    void shutdown() override;
    [[nodiscard]] const io::Address& peer() const override { return peer_; }

  private:
    class Receive;
    class Send;

    Process& process_;
    Socket& socket_;
    const io::Address peer_;
    bool is_receiving_ = false;
    bool is_sending_ = false;
    bool is_shut_down_ = false;
};

class SocketListener final : public io::Listener {
  public:
    SocketListener(Process& process, Port& port);
    ~SocketListener() override;

    async::Task<Result<std::unique_ptr<io::Stream>>> accept() override;
    void close() override;
    [[nodiscard]] io::Endpoint endpoint() const override { return endpoint_; }

  private:
    Process& process_;
    Port* port_;  // null once it is closed
    const io::Endpoint endpoint_;
    AcceptOperation* accepting_ = nullptr;
    std::size_t calls_ = 0;
};

class Sockets final : public io::Network {
  public:
    explicit Sockets(Process& process) : process_(process) {}

    async::Task<Outcome<std::unique_ptr<io::Stream>>> connect(io::Endpoint endpoint,
                                                              io::TimePoint deadline,
                                                              io::Duration silence) override;
    async::Task<Outcome<std::unique_ptr<io::Stream>>> connect_unless(
        io::Endpoint endpoint, io::TimePoint deadline, io::Duration silence,
        io::Interrupt& interrupt) override;
    async::Task<Outcome<std::unique_ptr<io::Listener>>> listen(io::Endpoint endpoint) override;

  private:
    class Connect;
    Process& process_;
};

}  // namespace dst::sim
