#include "io/uring/socket_pair.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "io/uring/errors.h"

namespace dst::io::uring {

Outcome<SocketPair> SocketPair::open(Reactor& reactor) {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0)
        return refuse(ErrorCode::no_memory, fmt::format("no sockets can be made: {}; raise the "
                                                        "limit on open files",
                                                        text_of(errno)));
    const Address here{.bytes = {}, .port = 0, .is_unix = true};
    return SocketPair{std::make_unique<SocketStream>(reactor, UniqueFd(fds[0]), here),
                      std::make_unique<SocketStream>(reactor, UniqueFd(fds[1]), here)};
}

}  // namespace dst::io::uring
