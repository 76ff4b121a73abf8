#include "cli/bench_uri.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

namespace dst::cli {
namespace {

std::optional<std::string> decode(std::string_view text) {
    std::string decoded;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (text[at] != '%') {
            decoded += text[at];
            continue;
        }
        unsigned char value = 0;
        if (at + 2 >= text.size()) return std::nullopt;
        const auto [end, error] = std::from_chars(&text[at + 1], &text[at + 1] + 2, value, 16);
        if (error != std::errc() || end != &text[at + 1] + 2) return std::nullopt;
        decoded += static_cast<char>(value);
        at += 2;
    }
    return decoded;
}

Outcome<NbdUri> parse_unix(std::string_view uri, std::string_view rest) {
    const std::size_t query = rest.find("?socket=");
    if (query == std::string_view::npos || !rest.starts_with('/'))
        return refuse(
            fmt::format("{}: names no socket: write nbd+unix:///EXPORT?socket=PATH", uri));
    const auto name = decode(rest.substr(1, query - 1));
    const auto path = decode(rest.substr(query + 8));
    if (!name || !path || path->empty())
        return refuse(
            fmt::format("{}: is not well formed: write nbd+unix:///EXPORT?socket=PATH", uri));
    return NbdUri{.endpoint = {.host = {}, .port = 0, .unix_path = *path}, .export_name = *name};
}

}  // namespace

Outcome<NbdUri> parse_uri(std::string_view uri) {
    if (uri.starts_with("nbd+unix://")) return parse_unix(uri, uri.substr(11));
    if (!uri.starts_with("nbd://"))
        return refuse(
            fmt::format("{}: is no NBD URI: write nbd://HOST[:PORT]/EXPORT or "
                        "nbd+unix:///EXPORT?socket=PATH",
                        uri));
    const std::string_view rest = uri.substr(6);
    const std::size_t slash = std::min(rest.find('/'), rest.size());
    const auto name = decode(slash < rest.size() ? rest.substr(slash + 1) : "");
    if (!name) return refuse(fmt::format("{}: has a '%' without two hex digits behind it", uri));
    auto endpoint = io::parse_endpoint(rest.substr(0, slash), 10809);
    if (!endpoint) return refuse(fmt::format("{}: {}", uri, endpoint.error().text));
    return NbdUri{.endpoint = std::move(*endpoint), .export_name = *name};
}

}  // namespace dst::cli
