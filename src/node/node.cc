#include "node/node.h"

#include <fmt/format.h>

#include <charconv>
#include <system_error>

namespace dst::node {

std::string to_string(Cookie cookie) { return fmt::format("{:016x}", cookie); }

std::optional<Cookie> parse_cookie(std::string_view text) {
    Cookie cookie = 0;
    if (text.size() != 16) return std::nullopt;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cookie, 16);
    if (error != std::errc() || end != text.data() + text.size() || cookie == 0)
        return std::nullopt;
    return cookie;
}

}  // namespace dst::node
