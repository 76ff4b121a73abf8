#include "attach/way.h"

#include <fmt/format.h>

#include <charconv>

namespace dst::attach {

std::string_view to_string(Kind kind) {
    switch (kind) {
        case Kind::ublk:
            return "ublk";
        case Kind::nbd:
            return "nbd";
        case Kind::fuse:
            return "fuse";
    }
    return "";
}

Outcome<Kind> parse_kind(std::string_view text) {
    for (const Kind kind : kKinds)
        if (to_string(kind) == text) return kind;
    return refuse(fmt::format("'{}' is no way to attach: choose ublk, nbd or fuse", text));
}

std::optional<std::uint32_t> number_of(std::string_view device, std::string_view prefix) {
    if (!device.starts_with(prefix)) return std::nullopt;
    const std::string_view digits = device.substr(prefix.size());
    std::uint32_t number = 0;
    const auto [rest, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || rest != digits.data() + digits.size()) return std::nullopt;
    return number;
}

/// Most leave nothing.
async::Task<Outcome<>> Way::discard(const Spec&, bool) { co_return Outcome<>{}; }

}  // namespace dst::attach
