#include "control/attributes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <set>
#include <utility>

namespace dst::control {
namespace {

constexpr auto kOfStorages = std::to_array<AttributeInfo>({
    {"alg", Attribute::alg, Use::read},
    {"name", Attribute::name, Use::read},
    {"nodes", Attribute::nodes, Use::read},
    {"remove_all_nodes", Attribute::remove_all_nodes, Use::write},
});
constexpr auto kOfNodes = std::to_array<AttributeInfo>({
    {"clean", Attribute::clean, Use::write},
    {"dirty", Attribute::dirty, Use::write},
    {"resync_size", Attribute::resync_size, Use::read_write},
    {"resync_timout", Attribute::resync_timout, Use::read_write},
    {"resync_timeout", Attribute::resync_timeout, Use::read_write},
    {"state", Attribute::state, Use::read},
    {"flags", Attribute::flags, Use::read},
    {"size", Attribute::size, Use::read},
    {"start", Attribute::start, Use::read},
    {"type", Attribute::type, Use::read},
});

constexpr std::uint64_t kSectorsMost = std::numeric_limits<std::uint64_t>::max() >> kSectorShift;
constexpr std::string_view kUnknownCookie = "0000000000000000";

/// One line, whatever a peer or a configuration called itself.
std::string one_line(std::string text) {
    std::ranges::replace_if(
        text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
    return text;
}

std::string map_of(const StorageStatus& storage) {
    std::string map;
    for (const NodeStatus* const node : known_nodes(storage))
        map += fmt::format("{}{} {} {} {}", map.empty() ? "" : "\n", node_name(*node),
                           node->start.value(), node->size.value(), one_line(node->type));
    return map;
}

Outcome<std::uint64_t> parse_number(std::string_view text, std::string_view unit) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end == text.data() + text.size()) return number;
    return refuse(fmt::format("this is no number of {}; write plain decimal digits", unit));
}

Outcome<> parse_trigger(std::string_view text) {
    if (text == "1") return {};
    return refuse("this does nothing; write 1");
}

}  // namespace

std::span<const AttributeInfo> storage_attributes() { return kOfStorages; }
std::span<const AttributeInfo> node_attributes() { return kOfNodes; }

const AttributeInfo* find_attribute(std::span<const AttributeInfo> all, std::string_view name) {
    const auto at = std::ranges::find(all, name, &AttributeInfo::name);
    return at == all.end() ? nullptr : &*at;
}

std::string_view sync_state(const NodeStatus& node) { return node.in_sync ? "sync" : "notsync"; }

std::string node_name(const NodeStatus& node) {
    return fmt::format("n-{}-{}", node.start.value(), node.cookie);
}

bool is_known(const NodeStatus& node) {
    return !node.cookie.empty() && node.cookie != kUnknownCookie;
}

std::vector<const NodeStatus*> known_nodes(const StorageStatus& storage) {
    std::vector<const NodeStatus*> nodes;
    std::set<std::pair<std::uint64_t, std::string_view>> seen;
    for (const NodeStatus& node : storage.nodes)
        if (is_known(node) && seen.emplace(node.start.value(), node.cookie).second)
            nodes.push_back(&node);
    return nodes;
}

const NodeStatus* find_node(const StorageStatus& storage, std::string_view name) {
    for (const NodeStatus& node : storage.nodes)
        if (is_known(node) && name.ends_with(node.cookie) && node_name(node) == name) return &node;
    return nullptr;
}

std::string value_of(const StorageStatus& storage, Attribute attribute) {
    switch (attribute) {
        case Attribute::alg:
            return one_line(storage.algorithm);
        case Attribute::name:
            return storage.name;
        case Attribute::nodes:
            return map_of(storage);
        default:
            return {};
    }
}

std::string value_of(const StorageStatus& storage, const NodeStatus& node, Attribute attribute) {
    switch (attribute) {
        case Attribute::resync_size:
            return fmt::format("{}", storage.resync.size.value());
        case Attribute::resync_timout:
        case Attribute::resync_timeout:
            return fmt::format("{}", storage.resync.timeout.count());
        case Attribute::state:
            return std::string(sync_state(node));
        case Attribute::flags:
            return fmt::format("{}", fmt::join(node.flags, " "));
        case Attribute::size:
            return fmt::format("{}", node.size.value());
        case Attribute::start:
            return fmt::format("{}", node.start.value());
        case Attribute::type:
            return one_line(node.type);
        default:
            return {};
    }
}

Outcome<Wish> parse_wish(Attribute attribute, std::string_view text) {
    if (text.ends_with('\n')) text.remove_suffix(1);
    switch (attribute) {
        case Attribute::remove_all_nodes:
            TRY_VOID(parse_trigger(text));
            return RemoveAllNodes{};
        case Attribute::clean:
        case Attribute::dirty:
            TRY_VOID(parse_trigger(text));
            return MarkNode{attribute == Attribute::clean};
        case Attribute::resync_size: {
            TRY(const std::uint64_t sectors, parse_number(text, "sectors"));
            if (sectors == 0 || sectors > kSectorsMost)
                return refuse("a window has at least one sector, and no more than a device may");
            return ChangeResync{SectorCount(sectors), {}};
        }
        case Attribute::resync_timout:
        case Attribute::resync_timeout: {
            TRY(const std::uint64_t number, parse_number(text, "milliseconds"));
            constexpr std::uint64_t kMost = 24ULL * 60 * 60 * 1000;
            if (number == 0 || number > kMost)
                return refuse("the time between two checks is 1 ms to a day; write that many ms");
            return ChangeResync{{}, std::chrono::milliseconds(number)};
        }
        default:
            return refuse(ErrorCode::not_permitted, "this can be read, not written");
    }
}

}  // namespace dst::control
