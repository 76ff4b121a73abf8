#include "control/attribute_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace dst::control {
namespace {

constexpr std::string_view kDevices = "devices";

/// "a/b/c" is "a" and "b/c"; "c" is "c" and "".
std::pair<std::string_view, std::string_view> split(std::string_view path) {
    const auto slash = std::min(path.find('/'), path.size());
    return {path.substr(0, slash), path.substr(std::min(slash + 1, path.size()))};
}

tree::Entry entry_of(const AttributeInfo& attribute) {
    return {.kind = tree::Kind::file,
            .can_read = attribute.use != Use::write,
            .can_write = attribute.use != Use::read};
}

void add(std::vector<tree::Named>& names, std::span<const AttributeInfo> attributes) {
    for (const AttributeInfo& attribute : attributes)
        names.push_back({std::string(attribute.name), tree::Kind::file});
}

}  // namespace

std::optional<AttributeTree::Spot> AttributeTree::spot_of(std::string_view path) const {
    Spot spot;
    if (path.empty()) {
        spot.is_root = true;
        return spot;
    }
    const auto [devices, within] = split(path);
    if (devices != kDevices) return std::nullopt;
    if (within.empty()) return spot;
    const auto [name, below] = split(within);
    spot.storage = view_.storage(name);
    if (spot.storage == nullptr) return std::nullopt;
    if (below.empty()) return spot;
    const auto [first, rest] = split(below);
    spot.attribute = find_attribute(storage_attributes(), first);
    if (spot.attribute != nullptr)
        return rest.empty() ? std::optional(std::move(spot)) : std::nullopt;
    spot.node = find_node(*spot.storage, first);
    if (spot.node == nullptr) return std::nullopt;
    if (rest.empty()) return spot;
    spot.attribute = find_attribute(node_attributes(), rest);
    if (spot.attribute == nullptr) return std::nullopt;
    return spot;
}

std::optional<tree::Entry> AttributeTree::find(std::string_view path) const {
    const auto spot = spot_of(path);
    if (!spot) return std::nullopt;
    return spot->attribute == nullptr ? tree::Entry{} : entry_of(*spot->attribute);
}

std::vector<tree::Named> AttributeTree::list(std::string_view path) const {
    std::vector<tree::Named> names;
    const auto spot = spot_of(path);
    if (!spot || spot->attribute != nullptr) return names;
    if (spot->is_root) {
        names.push_back({std::string(kDevices), tree::Kind::folder});
    } else if (spot->storage == nullptr) {
        for (std::string& name : view_.storage_names())
            names.push_back({std::move(name), tree::Kind::folder});
    } else if (spot->node != nullptr) {
        add(names, node_attributes());
    } else {
        add(names, storage_attributes());
        for (const NodeStatus* const node : known_nodes(*spot->storage))
            names.push_back({node_name(*node), tree::Kind::folder});
    }
    return names;
}

std::optional<std::string> AttributeTree::read(std::string_view path) const {
    const auto spot = spot_of(path);
    if (!spot || spot->attribute == nullptr) return std::nullopt;
    std::string value = spot->node == nullptr
                            ? value_of(*spot->storage, spot->attribute->attribute)
                            : value_of(*spot->storage, *spot->node, spot->attribute->attribute);
    // A storage of no nodes has a map of no lines.
    if (!value.empty() || spot->attribute->attribute != Attribute::nodes) value += '\n';
    return value;
}

Outcome<std::string> AttributeTree::read_as_json(std::string_view path) const {
    using Json = nlohmann::ordered_json;
    const auto entry = find(path);
    if (!entry)
        return refuse(ErrorCode::not_found, fmt::format("there is no {} in the tree", path));
    if (!entry->can_read)
        return refuse(ErrorCode::not_permitted, fmt::format("{} can only be written", path));
    Json json;
    if (entry->kind == tree::Kind::folder) {
        json["entries"] = Json::array();
        for (const tree::Named& named : list(path)) json["entries"].push_back(named.name);
    } else {
        std::string value = read(path).value_or("");
        if (value.ends_with('\n')) value.pop_back();
        json["value"] = value;
    }
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

async::Task<Outcome<>> AttributeTree::write(std::string path, std::string value) {
    const auto spot = spot_of(path);
    if (!spot || spot->attribute == nullptr)
        co_return refuse(ErrorCode::not_found, fmt::format("there is no {} (any more)", path));
    CO_TRY(const Wish wish, parse_wish(spot->attribute->attribute, value));
    const std::string storage = spot->storage->name;
    if (std::holds_alternative<RemoveAllNodes>(wish))
        co_return co_await operations_.remove_all_nodes(storage);
    if (const auto* change = std::get_if<ChangeResync>(&wish))
        co_return co_await operations_.storage_set_resync(
            storage, {.size = change->size, .timeout = change->timeout});
    const NodeMark mark = std::get<MarkNode>(wish).clean ? NodeMark::clean : NodeMark::dirty;
    co_return co_await operations_.node_mark(storage, spot->node->cookie, mark, false);
}

}  // namespace dst::control
