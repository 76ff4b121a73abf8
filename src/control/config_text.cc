// Devices, nodes, access rules and names: the strings within a configuration.

#include <fmt/format.h>

#include <algorithm>

#include "control/config.h"

namespace dst::control {
namespace {

constexpr std::size_t kNameMax = 64;
constexpr std::size_t kPathMax = 4095;        // Linux: PATH_MAX - 1
constexpr std::size_t kExportNameMax = 4096;  // NBD: the longest string of a peer

bool has_control_characters(std::string_view text) {
    return std::ranges::any_of(text, [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < 0x20 || byte == 0x7f;
    });
}

std::string_view trimmed(std::string_view text) {
    while (text.starts_with(' ')) text.remove_prefix(1);
    while (text.ends_with(' ')) text.remove_suffix(1);
    return text;
}

/// What stands behind `prefix`; nothing if `text` begins otherwise.
std::optional<std::string_view> behind(std::string_view text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return std::nullopt;
    return trimmed(text.substr(prefix.size()));
}

Outcome<DeviceSpec> parse_memory(std::string_view text) {
    TRY(const ByteCount size, parse_size(text));
    if (size == ByteCount(0)) {
        return refuse("a memory device of no size can hold nothing; give it a size, as memory:64M");
    }
    if (!sectors_exact(size)) {
        return refuse(fmt::format(
            "{} is no whole number of 512-byte sectors; use a multiple of 512", in_quotes(text)));
    }
    return MemoryDevice{size};
}

Outcome<DeviceSpec> parse_path(std::string_view text) {
    if (text.empty()) {
        return refuse("no device is named; give a path, memory:SIZE or storage:NAME");
    }
    if (text.size() > kPathMax || has_control_characters(text)) {
        return refuse(
            fmt::format("{} can't be a path: it is too long or has control characters; "
                        "give a path, memory:SIZE or storage:NAME",
                        in_quotes(text)));
    }
    const auto colon = text.find(':');
    if (colon < text.find('/')) {
        return refuse(
            fmt::format("{} is of an unknown kind; write memory:SIZE, storage:NAME, or "
                        "a path (with ./ before it if it has a colon)",
                        in_quotes(text)));
    }
    return PathDevice{std::string(text)};
}

Outcome<RemoteNode> parse_remote(std::string_view text) {
    if (text.starts_with("unix:")) {
        return refuse(fmt::format(
            "{}: a remote node is reached over TCP; write R: HOST:PORT/EXPORT", in_quotes(text)));
    }
    const auto slash = text.find('/');
    if (slash == std::string_view::npos) {
        return refuse(
            fmt::format("{} names no export; write R: {}/EXPORT (or R: {}/ for the "
                        "server's default export)",
                        in_quotes(text), text, text));
    }
    auto endpoint = io::parse_endpoint(text.substr(0, slash), kDefaultPort);
    if (!endpoint) return std::unexpected(std::move(endpoint).error());
    if (endpoint->port == 0) {
        return refuse(fmt::format("{}: nobody listens on port 0; give the port of the exporter",
                                  in_quotes(text)));
    }
    const std::string_view name = text.substr(slash + 1);
    if (name.size() > kExportNameMax || has_control_characters(name)) {
        return refuse(
            fmt::format("{}: the export's name is too long or has control characters; "
                        "give the name that the exporter lists",
                        in_quotes(text)));
    }
    return RemoteNode{*std::move(endpoint), std::string(name)};
}

}  // namespace

Outcome<> check_name(std::string_view name) {
    const bool fits = !name.empty() && name.size() <= kNameMax && !name.starts_with('.') &&
                      std::ranges::all_of(name, [](char c) {
                          return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                 (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                      });
    if (fits) return {};
    return refuse(
        fmt::format("{} can't be a name; use 1 to {} of A-Z a-z 0-9 . _ - and begin with "
                    "no dot",
                    in_quotes(name), kNameMax));
}

Outcome<DeviceSpec> parse_device(std::string_view text) {
    text = trimmed(text);
    if (const auto size = behind(text, "memory:")) return parse_memory(*size);
    if (const auto name = behind(text, "storage:")) {
        TRY_VOID(check_name(*name));
        return StorageDevice{std::string(*name)};
    }
    return parse_path(text);
}

std::string to_string(const DeviceSpec& device) {
    if (const auto* path = std::get_if<PathDevice>(&device)) return path->path;
    if (const auto* memory = std::get_if<MemoryDevice>(&device)) {
        return "memory:" + to_string(memory->size);
    }
    return "storage:" + std::get<StorageDevice>(device).name;
}

Outcome<NodeSpec> parse_node(std::string_view text) {
    text = trimmed(text);
    if (const auto device = behind(text, "L:")) {
        TRY(DeviceSpec spec, parse_device(*device));
        return NodeSpec{LocalNode{std::move(spec)}, {}};
    }
    if (const auto remote = behind(text, "R:")) {
        TRY(RemoteNode spec, parse_remote(*remote));
        return NodeSpec{std::move(spec), {}};
    }
    return refuse(
        fmt::format("{} is neither local nor remote; write \"L: DEVICE\" or "
                    "\"R: HOST:PORT/EXPORT\"",
                    in_quotes(text)));
}

std::string to_string(const NodeSpec& node) {
    if (const auto* local = std::get_if<LocalNode>(&node.place)) {
        return "L: " + to_string(local->device);
    }
    const auto& remote = std::get<RemoteNode>(node.place);
    return fmt::format("R: {}/{}", io::to_string(remote.endpoint), remote.export_name);
}

Outcome<AccessRule> parse_access(std::string_view text) {
    const auto equals = text.find('=');
    if (equals == std::string_view::npos) {
        return refuse(fmt::format("{} says not what may be done; write FROM=MODE, as 10.0.0.0/8=rw",
                                  in_quotes(text)));
    }
    const std::string_view from = text.substr(0, equals);
    const std::string_view mode = text.substr(equals + 1);
    TRY(const io::Subnet subnet, io::parse_subnet(from));
    AccessRule rule{std::string(from), subnet, AccessMode::none};
    if (mode == "rw") {
        rule.mode = AccessMode::read_write;
    } else if (mode == "ro") {
        rule.mode = AccessMode::read_only;
    } else if (mode != "none") {
        return refuse(fmt::format("{} is no mode of access; use rw, ro or none", in_quotes(mode)));
    }
    return rule;
}

std::vector<AccessRule> default_access() {
    std::vector<AccessRule> rules;
    for (const char* text : {"127.0.0.0/8=rw", "::1=rw"}) {
        auto rule = parse_access(text);
        CHECK(rule.has_value());
        rules.push_back(*std::move(rule));
    }
    return rules;
}

}  // namespace dst::control
