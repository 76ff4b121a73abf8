#include "io/uring/socket_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

#include "io/uring/errors.h"

namespace dst::io::uring {
namespace {

struct FreeAddresses {
    void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

/// The storage, seen as the address of its family.
template <typename Form>
Form form_of(const SocketAddress& address) {
    Form form{};
    std::memcpy(&form, &address.storage, sizeof form);
    return form;
}

void set_option(int fd, int level, int name, int value) {
    // Fails only if the kernel is without the option: then it is done without it.
    static_cast<void>(::setsockopt(fd, level, name, &value, sizeof value));
}

}  // namespace

Outcome<SocketAddress> socket_address_of_path(const std::string& path) {
    sockaddr_un form{};
    if (path.size() >= sizeof form.sun_path)
        return refuse(
            fmt::format("the path of socket {} is too long: {} bytes, at most {}; choose "
                        "a shorter one",
                        path, path.size(), sizeof form.sun_path - 1));
    form.sun_family = AF_UNIX;
    std::memcpy(form.sun_path, path.data(), path.size());
    SocketAddress address;
    std::memcpy(&address.storage, &form, sizeof form);
    address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
    return address;
}

Outcome<std::vector<SocketAddress>> look_up(const std::string& host, std::uint16_t port,
                                            bool numeric_only) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | (numeric_only ? AI_NUMERICHOST : AI_ADDRCONFIG);
    addrinfo* found = nullptr;
    const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
    const std::unique_ptr<addrinfo, FreeAddresses> list(found);
    if (error != 0)
        return refuse(
            ErrorCode::not_found,
            fmt::format("host {} can't be found: {}; correct the name or use an address", host,
                        error == EAI_SYSTEM ? text_of(errno) : std::string(gai_strerror(error))));
    std::vector<SocketAddress> addresses;
    for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
        SocketAddress& address = addresses.emplace_back();
        std::memcpy(&address.storage, at->ai_addr, at->ai_addrlen);
        address.size = at->ai_addrlen;
    }
    return addresses;
}

Address address_of(const SocketAddress& address) {
    Address result;
    if (address.family() == AF_INET6) {
        const auto form = form_of<sockaddr_in6>(address);
        std::memcpy(result.bytes.data(), &form.sin6_addr, result.bytes.size());
        result.port = ntohs(form.sin6_port);
    } else if (address.family() == AF_INET) {
        const auto form = form_of<sockaddr_in>(address);
        result.bytes[10] = result.bytes[11] = 0xff;
        std::memcpy(result.bytes.data() + 12, &form.sin_addr, sizeof form.sin_addr);
        result.port = ntohs(form.sin_port);
    } else {
        result.is_unix = true;
    }
    return result;
}

Endpoint endpoint_of(const SocketAddress& address) {
    if (address.family() == AF_UNIX) return {{}, 0, form_of<sockaddr_un>(address).sun_path};
    std::array<char, NI_MAXHOST> host{};
    const Address plain = address_of(address);
    // Keeps the zone of a link-local address, which `Address` does not have.
    if (getnameinfo(address.get(), address.size, host.data(), host.size(), nullptr, 0,
                    NI_NUMERICHOST) == 0)
        return {host.data(), plain.port, {}};
    return {to_string(Address{plain.bytes, 0, false}), plain.port, {}};
}

void set_connection_options(int fd, int family, Duration silence, bool bounds_unanswered) {
    if (family == AF_UNIX) return;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (silence <= Duration::zero()) return;
    constexpr int kProbes = 3;
    constexpr std::int64_t kDay = 24 * 3600;
    using std::chrono::duration_cast;
    const std::int64_t seconds =
        std::clamp<std::int64_t>(duration_cast<std::chrono::seconds>(silence).count(), 1, kDay);
    const int pause = static_cast<int>(std::max<std::int64_t>(1, seconds / (kProbes + 1)));
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, pause);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, pause);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
    if (!bounds_unanswered) return;
    const std::int64_t milliseconds = std::clamp<std::int64_t>(
        duration_cast<std::chrono::milliseconds>(silence).count(), 1, kDay * 1000);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(milliseconds));
}

}  // namespace dst::io::uring
