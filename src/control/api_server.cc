#include "control/api_server.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>

namespace dst::control {
namespace {

constexpr int kPauseMs = 100;

/// Signals are for the main thread; threads made meanwhile get none.
class SignalsBlocked {
  public:
    SignalsBlocked() {
        sigset_t all;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;
    ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  private:
    sigset_t before_{};
};

bool is_readable(int descriptor, int wait_ms) {
    pollfd wait{descriptor, POLLIN, 0};
    return ::poll(&wait, 1, wait_ms) > 0;
}

/// The next connection; nothing if there is none after all.
std::optional<Descriptor> next_connection(int listening, int stop) {
    std::array<pollfd, 2> waits = {pollfd{listening, POLLIN, 0}, pollfd{stop, POLLIN, 0}};
    ::poll(waits.data(), waits.size(), -1);
    if (waits[1].revents != 0) return std::nullopt;
    Descriptor connection(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.is_open()) return connection;
    // Another thread was faster; else the process is out of descriptors or memory, for a while.
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) is_readable(stop, kPauseMs);
    return std::nullopt;
}

}  // namespace

std::string socket_path(const Config& config) { return config.run_dir + "/dst.sock"; }

Outcome<std::unique_ptr<ApiServer>> ApiServer::start(std::string socket_path,
                                                     Operations& operations, SpawnOnReactor spawn,
                                                     Limits limits) {
    TRY(ListeningSocket socket, ListeningSocket::open(std::move(socket_path)));
    Descriptor stop(::eventfd(0, EFD_CLOEXEC));
    if (!stop.is_open()) {
        return refuse(ErrorCode::no_memory,
                      "can't make an event: too many files are open; raise "
                      "the limit (ulimit -n)");
    }
    std::unique_ptr<ApiServer> server(
        new ApiServer(std::move(socket), std::move(stop), operations, std::move(spawn), limits));
    const SignalsBlocked blocked;
    for (unsigned i = 0; i < limits.threads; ++i) {
        server->threads_.emplace_back([s = server.get()] { s->work(); });
    }
    return server;
}

ApiServer::ApiServer(ListeningSocket socket, Descriptor stop, Operations& operations,
                     SpawnOnReactor spawn, Limits limits)
    : socket_(std::move(socket)),
      stop_(std::move(stop)),
      calls_(std::move(spawn), limits.operation_max),
      routes_{operations, calls_},
      connections_([this](const ApiRequest& request) { return routes_.answer(request); },
                   limits.http) {}

void ApiServer::work() {
    while (!is_readable(stop_.number(), 0)) {
        const auto connection = next_connection(socket_.number(), stop_.number());
        if (connection) connections_.serve(connection->number(), stop_.number());
    }
}

void ApiServer::stop() {
    const std::uint64_t one = 1;
    // An event that is not read stays readable, for all threads; writing 1 to it can't fail.
    [[maybe_unused]] const auto written = ::write(stop_.number(), &one, sizeof one);
    calls_.stop();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
    socket_.close();
}

}  // namespace dst::control
