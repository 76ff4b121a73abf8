#include "control/api_server_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>

namespace dst::control {
namespace {

constexpr int kConnectionsWaitingMax = 64;
constexpr int kLockTries = 20;
constexpr int kLockPauseMs = 100;
constexpr int kConnectSeconds = 5;

std::string last_error() { return std::generic_category().message(errno); }

std::optional<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) return std::nullopt;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

std::unexpected<Problem> too_long(const std::string& path) {
    return refuse(
        fmt::format("the socket's path {} is longer than the {} bytes that Linux takes; "
                    "choose a shorter run_dir",
                    path, sizeof(sockaddr_un::sun_path) - 1));
}

int connect(int socket, const sockaddr_un& address) {
    return ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

/// The process that wrote itself into the lock, for the message.
std::string holder(int lock) {
    std::array<char, 32> text{};
    const auto size = ::pread(lock, text.data(), text.size() - 1, 0);
    if (size <= 0) return {};
    return fmt::format(" (process {})", std::atoi(text.data()));
}

Outcome<Descriptor> take_lock(const std::string& path) {
    const std::string lock_path = path + ".lock";
    Descriptor lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock.is_open()) {
        return refuse(ErrorCode::io_error,
                      fmt::format("can't make {}: {}; check run_dir and who may write there",
                                  lock_path, last_error()));
    }
    for (int i = 0; ::flock(lock.number(), LOCK_EX | LOCK_NB) != 0; ++i) {
        if (i == kLockTries) {
            return refuse(ErrorCode::busy,
                          fmt::format("another daemon{} serves {} already; stop that one, or give "
                                      "this one its own run_dir",
                                      holder(lock.number()), path));
        }
        ::poll(nullptr, 0, kLockPauseMs);
    }
    const std::string process = fmt::format("{}\n", ::getpid());
    if (::ftruncate(lock.number(), 0) == 0) {
        // Only for a message; without it the message is shorter.
        [[maybe_unused]] const auto size =
            ::pwrite(lock.number(), process.data(), process.size(), 0);
    }
    return lock;
}

/// Whether somebody who takes no lock answers at `address`.
bool is_alive(const sockaddr_un& address) {
    const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    return probe.is_open() && (connect(probe.number(), address) == 0 || errno == EAGAIN);
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    if (this != &other) {
        close();
        number_ = std::exchange(other.number_, -1);
    }
    return *this;
}

void Descriptor::close() {
    if (number_ >= 0) ::close(std::exchange(number_, -1));
}

Outcome<ListeningSocket> ListeningSocket::open(std::string path) {
    if (!address_of(path)) return too_long(path);
    TRY(Descriptor lock, take_lock(path));
    ListeningSocket listening(std::move(path), std::move(lock));
    TRY_VOID(listening.bind());
    return listening;
}

Outcome<> ListeningSocket::bind() {
    const sockaddr_un address = *address_of(path_);
    const auto failed = [&](std::string_view what) {
        return refuse(ErrorCode::io_error, fmt::format("can't {} {}: {}; check run_dir and who may "
                                                       "write there",
                                                       what, path_, last_error()));
    };
    if (is_alive(address)) {
        return refuse(ErrorCode::busy,
                      fmt::format("another program serves {} already; stop that one, or give this "
                                  "daemon its own run_dir",
                                  path_));
    }
    struct stat status{};
    if (::lstat(path_.c_str(), &status) == 0) {
        if (!S_ISSOCK(status.st_mode)) {
            return refuse(
                ErrorCode::exists,
                fmt::format("{} is no socket, so it is not ours to replace; move it away", path_));
        }
        if (::unlink(path_.c_str()) != 0) return failed("replace");
    }
    Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.is_open()) return failed("make a socket for");
    if (::bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return failed("make");
    }
    // Nobody can connect before listen(), so nobody came in before the mode was right.
    if (::chmod(path_.c_str(), 0600) != 0) return failed("protect");
    if (::listen(socket.number(), kConnectionsWaitingMax) != 0) return failed("listen at");
    socket_ = std::move(socket);
    return {};
}

void ListeningSocket::close() {
    if (socket_.is_open()) ::unlink(path_.c_str());
    socket_.close();
    lock_.close();
}

Outcome<Descriptor> connect_to_daemon(const std::string& path) {
    const auto address = address_of(path);
    if (!address) return too_long(path);
    Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket.is_open()) {
        return refuse(ErrorCode::io_error, fmt::format("can't make a socket: {}", last_error()));
    }
    const timeval limit{.tv_sec = kConnectSeconds, .tv_usec = 0};
    ::setsockopt(socket.number(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(socket.number(), *address) == 0) return socket;
    if (errno == EACCES || errno == EPERM) {
        return refuse(
            ErrorCode::not_permitted,
            fmt::format("the daemon at {} is another user's; run this as its owner", path));
    }
    return refuse(
        ErrorCode::not_found,
        fmt::format("no daemon answers at {}: {}; start it with 'dst daemon', or say which "
                    "one with --socket PATH",
                    path, last_error()));
}

}  // namespace dst::control
