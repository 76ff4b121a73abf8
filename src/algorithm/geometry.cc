#include "algorithm/geometry.h"

#include <algorithm>

namespace dst::algorithm {

void merge_limits(block::Geometry& whole, const block::Geometry& one) {
    whole.block_bytes = std::max(whole.block_bytes, one.block_bytes);
    whole.preferred_bytes = std::max(whole.preferred_bytes, one.preferred_bytes);
    whole.read_only |= one.read_only;
    whole.can_flush |= one.can_flush;
    whole.can_trim &= one.can_trim;
    whole.can_zero_fast &= one.can_zero_fast;
    whole.rotational |= one.rotational;
    whole.multi_connection &= one.multi_connection;
}

block::Geometry limits_of(std::span<node::Node* const> nodes) {
    block::Geometry whole = kNeutralGeometry;
    for (const node::Node* const node : nodes)
        if (node != nullptr) merge_limits(whole, node->device().geometry());
    return whole;
}

}  // namespace dst::algorithm
