// Network addresses: as an administrator writes them (Endpoint) and as a peer has them (Address).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dst::io {

/// `HOST:PORT`, `[V6]:PORT`, or `unix:PATH`.
struct Endpoint {
    std::string host;
    std::uint16_t port = 0;
    /// Set instead of host and port for a socket in the file system.
    std::string unix_path;

    friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

/// `default_port` 0: a port must be given. Refuses with a text that says what is wrong.
[[nodiscard]] Outcome<Endpoint> parse_endpoint(std::string_view text, std::uint16_t default_port);
[[nodiscard]] std::string to_string(const Endpoint& endpoint);

/// An IP address, IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2).
struct Address {
    std::array<std::uint8_t, 16> bytes{};
    std::uint16_t port = 0;
    /// A socket in the file system: counts as loopback.
    bool is_unix = false;

    friend bool operator==(const Address&, const Address&) = default;
};

/// An IPv4 or IPv6 address without port.
[[nodiscard]] std::optional<Address> parse_address(std::string_view text);
[[nodiscard]] std::string to_string(const Address& address);

/// A network as `10.0.0.0/8`, `fd00::/8`, or one address.
struct Subnet {
    Address base;
    unsigned prefix_bits = 128;  // of the mapped form

    [[nodiscard]] bool contains(const Address& address) const;
};
[[nodiscard]] Outcome<Subnet> parse_subnet(std::string_view text);

}  // namespace dst::io
