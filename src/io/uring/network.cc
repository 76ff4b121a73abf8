#include "io/uring/network.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "io/uring/errors.h"
#include "io/uring/socket_listener.h"
#include "io/uring/socket_stream.h"

namespace dst::io::uring {
namespace {

/// For how long a port in use is tried again: the kernel releases a killed process's late.
constexpr Duration kPortPatience = std::chrono::seconds(2);
constexpr Duration kPortPause = std::chrono::milliseconds(50);
/// Until a full backlog (of a socket in the file system) may have room again.
constexpr Duration kBacklogPause = std::chrono::milliseconds(10);

/// What a person is to read; the address has been left out by `Error`.
std::unexpected<Problem> cannot_connect(const Endpoint& endpoint, const Error& error) {
    std::string_view advice = "check the network and the address";
    if (error.code == ErrorCode::refused || error.code == ErrorCode::not_found)
        advice = "start the server there, or correct the address";
    return refuse(error.code, fmt::format("cannot connect to {}: {}; {}", to_string(endpoint),
                                          error.what, advice));
}

/// The literal text of an errno value: `Error` carries no other.
const char* literal_of(int error) {
    switch (error) {
        case ECONNREFUSED:
            return "connection refused";
        case ETIMEDOUT:
            return "no answer in time";
        case EHOSTUNREACH:
            return "no route to the host";
        case ENETUNREACH:
            return "no route to its network";
        case ECONNRESET:
            return "connection reset";
        case ENOENT:
            return "there is no such socket";
        case EACCES:
        case EPERM:
            return "permission denied";
        case EADDRNOTAVAIL:
            return "the address can't be used, or all local ports are";
        case EMFILE:
        case ENFILE:
            return "too many open files";
        case ECANCELED:
            return "cancelled";
        default:
            break;
    }
    const char* const known = strerrordesc_np(error);
    return known == nullptr ? "unknown error" : known;
}

std::unexpected<Error> connect_error(int error) {
    return std::unexpected(socket_error(error, literal_of(error)));
}

bool is_ipv4(const SocketAddress& address) { return address.family() == AF_INET; }

}  // namespace

/// A request that is given up at a time, or when the caller says so.
class Sockets::Attempt final : public Timer, public Interrupt::Hook {
  public:
    Attempt(Reactor& reactor, Operation& operation, TimePoint limit, Interrupt& interrupt)
        : reactor_(reactor), operation_(operation) {
        arm(reactor, limit);
        interrupt.add(*this);
    }
    ~Attempt() override { disarm(); }
    [[nodiscard]] bool is_late() const { return is_late_; }

  private:
    void on_timer() override {
        is_late_ = true;
        reactor_.cancel(operation_);
    }
    void on_interrupt() override { reactor_.cancel(operation_); }

    Reactor& reactor_;
    Operation& operation_;
    bool is_late_ = false;
};

async::Task<Outcome<std::unique_ptr<Stream>>> Sockets::connect(Endpoint endpoint,
                                                               TimePoint deadline,
                                                               Duration silence) {
    Interrupt never;
    co_return co_await connect_unless(std::move(endpoint), deadline, silence, never);
}

async::Task<Outcome<std::unique_ptr<Stream>>> Sockets::connect_unless(Endpoint endpoint,
                                                                      TimePoint deadline,
                                                                      Duration silence,
                                                                      Interrupt& interrupt) {
    CO_TRY(const auto addresses, co_await resolver_.resolve(endpoint, deadline, interrupt));
    CHECK(!addresses.empty());
    Error last{ErrorCode::timed_out, "no answer in time"};
    for (std::size_t at = 0; at < addresses.size(); ++at) {
        if (interrupt.is_raised()) co_return refuse(ErrorCode::cancelled, "cancelled");
        const TimePoint start = reactor_.now();
        if (start >= deadline) break;
        const auto share = (deadline - start) / static_cast<std::int64_t>(addresses.size() - at);
        auto stream = co_await connect_one(addresses[at], start + share, silence, interrupt);
        if (stream.has_value()) co_return *std::move(stream);
        last = stream.error();
    }
    if (interrupt.is_raised()) co_return refuse(ErrorCode::cancelled, "cancelled");
    co_return cannot_connect(endpoint, last);
}

async::Task<Result<std::unique_ptr<Stream>>> Sockets::connect_one(const SocketAddress& address,
                                                                  TimePoint limit, Duration silence,
                                                                  Interrupt& interrupt) {
    UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.is_open()) co_return connect_error(errno);
    set_connection_options(fd.get(), address.family(), silence, true);
    while (true) {
        auto operation = reactor_.submit([&](io_uring_sqe& entry) {
            io_uring_prep_connect(&entry, fd.get(), address.get(), address.size);
        });
        const Attempt attempt(reactor_, operation, limit, interrupt);
        const int result = co_await operation;
        if (result == 0)
            co_return std::make_unique<SocketStream>(reactor_, std::move(fd), address_of(address));
        if (attempt.is_late()) co_return connect_error(ETIMEDOUT);
        if (interrupt.is_raised()) co_return connect_error(ECANCELED);
        if (result != -EAGAIN && result != -EINTR) co_return connect_error(-result);
        co_await sleep_for(reactor_, kBacklogPause);
        if (interrupt.is_raised()) co_return connect_error(ECANCELED);
        if (reactor_.now() >= limit) co_return connect_error(ETIMEDOUT);
    }
}

async::Task<Outcome<std::unique_ptr<Listener>>> Sockets::listen(Endpoint endpoint) {
    const TimePoint give_up = reactor_.now() + kPortPatience;
    Interrupt never;
    CO_TRY(const auto addresses, co_await resolver_.resolve(endpoint, TimePoint::max(), never));
    const auto ipv4 = std::ranges::find_if(addresses, is_ipv4);
    const SocketAddress address = ipv4 == addresses.end() ? addresses.front() : *ipv4;
    while (true) {
        auto listener = SocketListener::open(reactor_, address);
        if (listener.has_value() || listener.error().code != ErrorCode::busy ||
            reactor_.now() >= give_up)
            co_return listener;
        co_await sleep_for(reactor_, kPortPause);
    }
}

std::unique_ptr<Stream> Sockets::adopt(std::unique_ptr<Stream> stream) {
    auto& from = dynamic_cast<SocketStream&>(*stream);
    const Address peer = from.peer();
    return std::make_unique<SocketStream>(reactor_, from.release(), peer);
}

}  // namespace dst::io::uring
