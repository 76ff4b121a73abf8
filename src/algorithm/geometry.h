// What the devices under a storage can do together: the sum of their limits.
#pragma once

#include <span>

#include "block/device.h"
#include "node/node.h"

namespace dst::algorithm {

/// Of no node: merged with the geometry of one, it becomes that one's.
inline constexpr block::Geometry kNeutralGeometry{
    .size = SectorCount(0),
    .block_bytes = static_cast<std::uint32_t>(kSectorBytes),
    .preferred_bytes = static_cast<std::uint32_t>(kSectorBytes),
    .read_only = false,
    .can_flush = false,
    .can_trim = true,
    .can_zero_fast = true,
    .rotational = false,
    .multi_connection = true,
};

/// Adds the limits of `one` to those of `whole`; sizes are the algorithm's own business.
///
/// There is a cache to flush as soon as one node has one: were it hidden because another node has
/// none, nobody would flush it. So a flush goes to the nodes that can, and trim only where all can.
void merge_limits(block::Geometry& whole, const block::Geometry& one);

/// The limits of all `nodes` (null: none there), with a size of 0.
[[nodiscard]] block::Geometry limits_of(std::span<node::Node* const> nodes);

}  // namespace dst::algorithm
