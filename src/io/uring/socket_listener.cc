#include "io/uring/socket_listener.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/check.h"
#include "io/uring/errors.h"
#include "io/uring/socket_stream.h"

namespace dst::io::uring {
namespace {

constexpr int kBacklog = 4096;
constexpr mode_t kOwnersSocket = 0600;
/// Until a descriptor may be free again.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);
/// A client whose machine has vanished is noticed after this time.
constexpr Duration kClientSilence = std::chrono::seconds(60);

std::unexpected<Problem> cannot_listen(const SocketAddress& address, int error) {
    const bool on_path = address.family() == AF_UNIX;
    std::string_view advice = "correct the address";
    if (error == EADDRINUSE)
        advice = on_path ? "end the program that answers there, or choose another path"
                         : "end the program that listens there, or choose another port";
    else if (error == EACCES || error == EPERM)
        advice = on_path ? "give this user access, or choose another path"
                         : "choose a port from 1024 on, or give this user the right to lower ones";
    else if (error == EADDRNOTAVAIL)
        advice = "use an address of this machine";
    return refuse(socket_error(error, "").code,
                  fmt::format("cannot listen on {}: {}; {}", to_string(endpoint_of(address)),
                              text_of(error), advice));
}

/// Asks whether somebody listens on a path; 0, or why not.
int knock(const SocketAddress& address) {
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.is_open()) return errno;
    if (::connect(fd.get(), address.get(), address.size) == 0) return 0;
    return errno == EAGAIN ? 0 : errno;  // a full backlog is an answer
}

/// Removes the socket that a dead process left; 0, or why it can't be removed.
int remove_dead_socket(const SocketAddress& address, const std::string& path) {
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0) return errno == ENOENT ? 0 : errno;
    if (!S_ISSOCK(status.st_mode)) return EEXIST;
    if (knock(address) != ECONNREFUSED) return EADDRINUSE;
    return ::unlink(path.c_str()) == 0 || errno == ENOENT ? 0 : errno;
}

/// 0, or why not.
int bind_and_listen(int fd, const SocketAddress& address) {
    if (::bind(fd, address.get(), address.size) != 0) return errno;
    return ::listen(fd, kBacklog) == 0 ? 0 : errno;
}

void set_listener_options(int fd, int family) {
    const int on = 1;
    if (family == AF_UNIX) {
        ::fchmod(fd, kOwnersSocket);  // of the path, once it is bound
        return;
    }
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    // [::] and 0.0.0.0 are two addresses: each is listened on when it is asked for.
    if (family == AF_INET6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
}

/// Errors that speak of the one connection that was to be accepted, not of the listener.
bool is_of_the_connection(int error) {
    return error == ECONNABORTED || error == EINTR || error == EAGAIN || error == EPROTO ||
           error == EPERM || error == ENETDOWN || error == ENETUNREACH || error == EHOSTDOWN ||
           error == EHOSTUNREACH || error == ENOPROTOOPT || error == ENONET;
}

}  // namespace

Outcome<std::unique_ptr<Listener>> SocketListener::open(Reactor& reactor,
                                                        const SocketAddress& address) {
    UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.is_open()) return cannot_listen(address, errno);
    set_listener_options(fd.get(), address.family());
    const std::string path = endpoint_of(address).unix_path;
    int error = bind_and_listen(fd.get(), address);
    if (error == EADDRINUSE && !path.empty()) {
        error = remove_dead_socket(address, path);
        if (error == 0) error = bind_and_listen(fd.get(), address);
    }
    if (error != 0) return cannot_listen(address, error);
    struct stat status{};
    if (!path.empty() && ::stat(path.c_str(), &status) != 0) return cannot_listen(address, errno);
    SocketAddress own;
    CHECK(::getsockname(fd.get(), own.get(), &own.size) == 0);
    return std::make_unique<SocketListener>(reactor, std::move(fd), endpoint_of(own),
                                            status.st_ino);
}

SocketListener::~SocketListener() {
    CHECK(calls_ == 0);
    close();
}

async::Task<Result<std::unique_ptr<Stream>>> SocketListener::accept() {
    CHECK(calls_ == 0);
    ++calls_;
    SocketAddress peer;
    UniqueFd accepted;
    while (!is_closed_ && !accepted.is_open()) {
        const int result = co_await accept_one(peer);
        if (result >= 0) {
            accepted.reset(result);
        } else if (!is_closed_ && !is_of_the_connection(-result)) {
            // Out of descriptors or memory, most likely: others will give some back.
            CHECK(result != -EBADF && result != -ENOTSOCK);
            co_await wait_for(reactor_, pausing_, kAcceptPause);
        }
    }
    --calls_;
    if (is_closed_) {
        fd_.reset();
        co_return fail(ErrorCode::cancelled, "accepting on a listener that is closed");
    }
    set_connection_options(accepted.get(), peer.family(), kClientSilence, false);
    co_return std::make_unique<SocketStream>(reactor_, std::move(accepted), address_of(peer));
}

async::Task<int> SocketListener::accept_one(SocketAddress& peer) {
    peer.size = sizeof peer.storage;
    auto operation = reactor_.submit([&](io_uring_sqe& entry) {
        io_uring_prep_accept(&entry, fd_.get(), peer.get(), &peer.size, SOCK_CLOEXEC);
    });
    accepting_ = &operation;
    const int result = co_await operation;
    accepting_ = nullptr;
    co_return result;
}

void SocketListener::close() {
    if (is_closed_) return;
    is_closed_ = true;
    remove_path();
    if (accepting_ != nullptr) reactor_.cancel(*accepting_);
    pausing_.wake_all();
    if (calls_ == 0) fd_.reset();  // else the accept does it when it returns
}

/// Leaves alone what another process has put there since.
void SocketListener::remove_path() {
    if (endpoint_.unix_path.empty()) return;
    struct stat status{};
    if (::lstat(endpoint_.unix_path.c_str(), &status) == 0 && status.st_ino == path_inode_)
        ::unlink(endpoint_.unix_path.c_str());
}

}  // namespace dst::io::uring
