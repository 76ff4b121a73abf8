#include "io/address.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <span>
#include <vector>

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
    return refuse(
        fmt::format("address '{}' is not understood: {}; write HOST:PORT, "
                    "[IPV6]:PORT or unix:/PATH",
                    text, why));
}

template <typename Number>
std::optional<Number> parse_number(std::string_view text, int base = 10) {
    const std::string digits(text);
    Number number{};
    const char* const end = digits.data() + digits.size();
    const auto [stopped, error] = std::from_chars(digits.data(), end, number, base);
    if (error != std::errc{} || stopped != end) return std::nullopt;
    return number;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    while (true) {
        const std::size_t at = text.find(separator);
        parts.push_back(text.substr(0, at));
        if (at == std::string_view::npos) return parts;
        text.remove_prefix(at + 1);
    }
}

/// Four numbers without leading zeroes: some would read those as octal.
bool parse_ipv4(std::string_view text, std::span<std::uint8_t, 4> into) {
    const auto parts = split(text, '.');
    if (parts.size() != into.size()) return false;
    for (std::size_t at = 0; at < parts.size(); ++at) {
        const auto number = parse_number<std::uint8_t>(parts[at]);
        if (!number.has_value() || (parts[at].size() > 1 && parts[at].front() == '0')) return false;
        into[at] = *number;
    }
    return true;
}

/// The groups of one side of a "::", appended as bytes.
bool parse_groups(std::string_view text, bool may_end_in_ipv4, std::vector<std::uint8_t>& bytes) {
    if (text.empty()) return true;
    const auto parts = split(text, ':');
    for (const std::string_view& part : parts) {
        std::array<std::uint8_t, 4> ipv4{};
        if (may_end_in_ipv4 && &part == &parts.back() && parse_ipv4(part, ipv4)) {
            bytes.insert(bytes.end(), ipv4.begin(), ipv4.end());
            continue;
        }
        const auto group = parse_number<std::uint16_t>(part, 16);
        if (!group.has_value() || part.size() > 4) return false;
        bytes.push_back(static_cast<std::uint8_t>(*group >> 8));
        bytes.push_back(static_cast<std::uint8_t>(*group & 0xff));
    }
    return true;
}

/// RFC 4291, 2.2.
bool parse_ipv6(std::string_view text, std::array<std::uint8_t, 16>& into) {
    std::vector<std::uint8_t> front;
    std::vector<std::uint8_t> back;
    const std::size_t gap = text.find("::");
    const bool has_gap = gap != std::string_view::npos;
    if (text.empty() || !parse_groups(text.substr(0, gap), !has_gap, front)) return false;
    if (has_gap && !parse_groups(text.substr(gap + 2), true, back)) return false;
    const std::size_t size = front.size() + back.size();
    // A gap stands for one group at least.
    if (has_gap ? size > into.size() - 2 : size != into.size()) return false;
    into.fill(0);
    std::ranges::copy(front, into.begin());
    std::ranges::copy(back, into.end() - static_cast<std::ptrdiff_t>(back.size()));
    return true;
}

/// RFC 5952, 4: lower case, no leading zeroes, the first of the longest runs of zeroes as "::".
std::string write_ipv6(const std::array<std::uint8_t, 16>& bytes) {
    constexpr std::size_t kGroups = 8;
    const auto group = [&](std::size_t at) { return bytes[2 * at] << 8 | bytes[2 * at + 1]; };
    std::size_t gap = kGroups;
    std::size_t gap_size = 1;  // a single zero is written out
    for (std::size_t first = 0; first < kGroups; ++first) {
        std::size_t end = first;
        while (end < kGroups && group(end) == 0) ++end;
        if (end - first <= gap_size) continue;
        gap = first;
        gap_size = end - first;
    }
    std::string text;
    for (std::size_t at = 0; at < kGroups; ++at) {
        if (at == gap) {
            text += "::";
            at += gap_size - 1;
            continue;
        }
        if (!text.empty() && text.back() != ':') text += ':';
        text += fmt::format("{:x}", group(at));
    }
    return text;
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
    if (rest.front() != ':') return bad_endpoint(text, fmt::format("'{}' follows the ']'", rest));
    return assemble(text, host, rest.substr(1), default_port);
}

std::string numeric(const Address& address) {
    if (!is_mapped(address)) return write_ipv6(address.bytes);
    return fmt::format("{}", fmt::join(std::span(address.bytes).last<4>(), "."));
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
    Address address;
    if (parse_ipv6(text, address.bytes)) return address;
    std::ranges::copy(kMappedPrefix, address.bytes.begin());
    if (parse_ipv4(text, std::span(address.bytes).last<4>())) return address;
    return std::nullopt;
}

std::string to_string(const Address& address) {
    if (address.is_unix) return "unix";
    if (address.port == 0) return numeric(address);
    return to_string(Endpoint{numeric(address), address.port, {}});
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
        return refuse(
            fmt::format("network '{}' is not understood: {}; write it as 10.0.0.0/8, "
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
