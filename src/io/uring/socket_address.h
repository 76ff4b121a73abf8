// Socket addresses: between the kernel's form and the seam's; and the options of a connection.
#pragma once

#include <sys/socket.h>

#include <optional>
#include <string>
#include <vector>

#include "io/address.h"
#include "io/clock.h"

struct addrinfo;

namespace dst::io::uring {

struct SocketAddress {
    sockaddr_storage storage{};
    socklen_t size = sizeof(sockaddr_storage);

    [[nodiscard]] const sockaddr* get() const {
        return reinterpret_cast<const sockaddr*>(&storage);
    }
    [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
    [[nodiscard]] int family() const { return storage.ss_family; }
};

/// Of a socket in the file system; `invalid` if the kernel can't have so long a path.
[[nodiscard]] Outcome<SocketAddress> socket_address_of_path(const std::string& path);
/// Looks `host` up, if it isn't numeric: blocks then. `numeric_only` never blocks, and gives
/// nothing for a name.
[[nodiscard]] Outcome<std::vector<SocketAddress>> look_up(const std::string& host,
                                                          std::uint16_t port, bool numeric_only);
[[nodiscard]] Address address_of(const SocketAddress& address);
/// Numeric; of a path the path.
[[nodiscard]] Endpoint endpoint_of(const SocketAddress& address);

/// Small messages leave at once. A peer that is gone for `silence` breaks the connection: keepalive
/// probes while it is idle, and with `bounds_unanswered` a limit on what it does not acknowledge.
/// Zero: the kernel's own limits. Nothing on sockets in the file system.
void set_connection_options(int fd, int family, Duration silence, bool bounds_unanswered);

}  // namespace dst::io::uring
