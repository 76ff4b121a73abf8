// Attributes: what can be seen of a storage and its nodes, and steered, one value a name. The
// seed's sysfs.txt says which there are.
//
// Pure: a status in, text out; text in, a wish out. The tree, the API, the command line and the
// metrics show values that are made here, so that no state is shown in two ways.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "control/durations.h"
#include "control/status.h"

namespace dst::control {

enum class Attribute : std::uint8_t {
    // of a storage
    alg,
    name,
    nodes,
    remove_all_nodes,
    // of a node
    clean,
    dirty,
    resync_size,
    resync_timout,  // as the seed spells it
    resync_timeout,
    state,
    flags,
    size,
    start,
    type,
};

enum class Use : std::uint8_t { read, read_write, write };

struct AttributeInfo {
    std::string_view name;
    Attribute attribute;
    Use use;
};
[[nodiscard]] std::span<const AttributeInfo> storage_attributes();
[[nodiscard]] std::span<const AttributeInfo> node_attributes();
/// Null if there is none of that name among `all`.
[[nodiscard]] const AttributeInfo* find_attribute(std::span<const AttributeInfo> all,
                                                  std::string_view name);

/// "sync" or "notsync"
[[nodiscard]] std::string_view sync_state(const NodeStatus& node);
/// "n-START-COOKIE": the node's folder in the tree, and the begin of its line in `nodes`.
[[nodiscard]] std::string node_name(const NodeStatus& node);
/// A node whose disk was never looked at has no cookie yet, and nothing but its type to show.
[[nodiscard]] bool is_known(const NodeStatus& node);
/// Those that the tree has, each once.
[[nodiscard]] std::vector<const NodeStatus*> known_nodes(const StorageStatus& storage);
/// The node that the tree has by that name; null if there is none.
[[nodiscard]] const NodeStatus* find_node(const StorageStatus& storage, std::string_view name);

/// What is read, without a newline at its end; empty for what can only be written.
[[nodiscard]] std::string value_of(const StorageStatus& storage, Attribute attribute);
[[nodiscard]] std::string value_of(const StorageStatus& storage, const NodeStatus& node,
                                   Attribute attribute);

/// What a write asks for.
struct RemoveAllNodes {
    friend bool operator==(RemoveAllNodes, RemoveAllNodes) = default;
};
struct MarkNode {
    bool clean = false;
    friend bool operator==(MarkNode, MarkNode) = default;
};
/// What is unset stays.
struct ChangeResync {
    std::optional<SectorCount> size;
    std::optional<std::chrono::milliseconds> timeout;
    friend bool operator==(ChangeResync, ChangeResync) = default;
};
using Wish = std::variant<RemoveAllNodes, MarkNode, ChangeResync>;

/// `text`: "1" does what the attribute is named for; sizes and times are plain decimals. One
/// newline may follow. Refuses (`invalid`) all else, and (`not_permitted`) what can't be written.
[[nodiscard]] Outcome<Wish> parse_wish(Attribute attribute, std::string_view text);

}  // namespace dst::control
