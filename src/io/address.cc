#include "io/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace dst::io {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::size_t kHostSizeMax = 253;  // RFC 1035, 2.3.4
constexpr std::array<std::uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr unsigned kMappedPrefixBits = 96;

bool is_mapped(const Address& address) {
    return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), address.bytes.begin());
}

std::unexpected<Problem> bad_endpoint(std::string_view text, std::string_view why) {
    return refuse(fmt::format("address '{}' is not understood: {}; write HOST:PORT, "
                              "[IPV6]:PORT or unix:/PATH",
                              text, why));
}

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
    Number number{};
    const char* const end = text.data() + text.size();
    const auto [stopped, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc{} || stopped != end || text.empty()) return std::nullopt;
    return number;
}

bool is_host_name(std::string_view text) {
    const auto is_fine = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '-' || c == '_';
    };
    return !text.empty() && text.size() <= kHostSizeMax && std::ranges::all_of(text, is_fine);
}

/// Text is `HOST`, and `port_text` what stood behind its colon, if there was one.
Outcome<Endpoint> assemble(std::string_view text, std::string_view host,
                           std::optional<std::string_view> port_text, std::uint16_t default_port) {
    if (!port_text.has_value()) {
        if (default_port == 0) return bad_endpoint(text, "the port is missing");
        return Endpoint{std::string(host), default_port, {}};
    }
    const auto port = parse_number<std::uint16_t>(*port_text);
    if (!port.has_value())
        return bad_endpoint(text, fmt::format("'{}' is no port (0 to 65535)", *port_text));
    return Endpoint{std::string(host), *port, {}};
}

Outcome<Endpoint> parse_bracketed(std::string_view text, std::uint16_t default_port) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return bad_endpoint(text, "']' is missing");
    const std::string_view host = text.substr(1, close - 1);
    // A zone (fe80::1%eth0) names an interface of this machine; it is looked up when used.
    if (host.find(':') == std::string_view::npos || !parse_address(host.substr(0, host.find('%'))))
        return bad_endpoint(text, fmt::format("'{}' is no IPv6 address", host));
    const std::string_view rest = text.substr(close + 1);
    if (rest.empty()) return assemble(text, host, std::nullopt, default_port);
    if (rest.front() != ':')
        return bad_endpoint(text, fmt::format("'{}' follows the ']'", rest));
    return assemble(text, host, rest.substr(1), default_port);
}

std::string numeric(const Address& address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    const bool mapped = is_mapped(address);
    inet_ntop(mapped ? AF_INET : AF_INET6,
              address.bytes.data() + (mapped ? kMappedPrefix.size() : 0), text.data(), text.size());
    return text.data();
}

}  // namespace

Outcome<Endpoint> parse_endpoint(std::string_view text, std::uint16_t default_port) {
    if (text.empty()) return bad_endpoint(text, "it is empty");
    if (text.find('\0') != std::string_view::npos) return bad_endpoint("...", "it has a zero byte");
    if (text.starts_with(kUnixPrefix)) {
        const std::string_view path = text.substr(kUnixPrefix.size());
        if (path.empty()) return bad_endpoint(text, "the path is missing");
        return Endpoint{{}, 0, std::string(path)};
    }
    if (text.front() == '[') return parse_bracketed(text, default_port);
    const std::size_t colon = text.find(':');
    if (colon != text.rfind(':')) return bad_endpoint(text, "an IPv6 address needs brackets");
    const std::string_view host = text.substr(0, colon);
    if (host.empty())
        return bad_endpoint(text, "the host is missing (0.0.0.0 or [::] stand for every address)");
    if (!is_host_name(host)) return bad_endpoint(text, fmt::format("'{}' is no host name", host));
    if (colon == std::string_view::npos) return assemble(text, host, std::nullopt, default_port);
    return assemble(text, host, text.substr(colon + 1), default_port);
}

std::string to_string(const Endpoint& endpoint) {
    if (!endpoint.unix_path.empty()) return fmt::format("{}{}", kUnixPrefix, endpoint.unix_path);
    if (endpoint.host.find(':') != std::string::npos)
        return fmt::format("[{}]:{}", endpoint.host, endpoint.port);
    return fmt::format("{}:{}", endpoint.host, endpoint.port);
}

std::optional<Address> parse_address(std::string_view text) {
    // inet_pton wants a terminated string.
    std::array<char, INET6_ADDRSTRLEN + 1> terminated{};
    if (text.size() >= terminated.size() || text.find('\0') != std::string_view::npos)
        return std::nullopt;
    std::memcpy(terminated.data(), text.data(), text.size());
    Address address;
    if (inet_pton(AF_INET6, terminated.data(), address.bytes.data()) == 1) return address;
    std::ranges::copy(kMappedPrefix, address.bytes.begin());
    if (inet_pton(AF_INET, terminated.data(), address.bytes.data() + kMappedPrefix.size()) == 1)
        return address;
    return std::nullopt;
}

std::string to_string(const Address& address) {
    if (address.is_unix) return "unix";
    const std::string host = numeric(address);
    if (address.port == 0) return host;
    return to_string(Endpoint{host, address.port, {}});
}

bool Subnet::contains(const Address& address) const {
    if (address.is_unix) {
        return contains(*parse_address("127.0.0.1")) || contains(*parse_address("::1"));
    }
    for (unsigned bit = 0; bit < prefix_bits; bit += 8) {
        const unsigned left = std::min(prefix_bits - bit, 8U);
        const unsigned differing = base.bytes[bit / 8] ^ address.bytes[bit / 8];
        if ((differing >> (8U - left)) != 0) return false;
    }
    return true;
}

Outcome<Subnet> parse_subnet(std::string_view text) {
    const auto bad = [&](std::string_view why) {
        return refuse(fmt::format("network '{}' is not understood: {}; write it as 10.0.0.0/8, "
                                  "fd00::/8, or one address",
                                  text, why));
    };
    const std::size_t slash = text.find('/');
    const std::string_view base = text.substr(0, slash);
    const auto address = parse_address(base);
    if (!address.has_value()) return bad(fmt::format("'{}' is no IP address", base));
    if (slash == std::string_view::npos) return Subnet{*address, 128};
    const std::string_view bits_text = text.substr(slash + 1);
    const unsigned before = base.find(':') == std::string_view::npos ? kMappedPrefixBits : 0;
    const auto bits = parse_number<unsigned>(bits_text);
    if (!bits.has_value() || *bits > 128 - before)
        return bad(fmt::format("'{}' is no prefix length (0 to {})", bits_text, 128 - before));
    return Subnet{*address, *bits + before};
}

}  // namespace dst::io
