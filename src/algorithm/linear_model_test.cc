// Linear against a plain byte vector.
#include <gtest/gtest.h>

#include "algorithm/linear.h"
#include "algorithm/model_test.h"

namespace dst::algorithm {
namespace {

using model::below;
using model::one_in;
using model::sectors;

/// Adds a node to `linear`, and to what it is compared with.
void add_node(model::Rig& rig, Linear& linear, model::Disk& whole, std::uint64_t size,
              std::size_t at) {
    node::Node& node = rig.add(size);
    rig.device(at).delayed_one_in = below(rig.random, 4);
    if (one_in(rig.random, 4)) rig.device(at).described_at_most = 1 + below(rig.random, 4);
    ASSERT_TRUE(linear.add_node(node).has_value());
    whole.grow(node.size());
}

/// Every node holds exactly its part of the whole: content, holes, what is durable.
void compare(model::Rig& rig, const model::Disk& whole, std::size_t nodes) {
    std::uint64_t start = 0;
    for (std::size_t at = 0; at < nodes; ++at) {
        const model::Disk& disk = rig.device(at).disk;
        const auto expected = whole.bytes(sectors(start, disk.size()));
        const auto found = disk.bytes(sectors(0, disk.size()));
        ASSERT_TRUE(std::ranges::equal(expected, found)) << "node " << at;
        for (std::uint64_t sector = 0; sector < disk.size(); ++sector)
            ASSERT_EQ(disk.state(SectorIndex(sector)), whole.state(SectorIndex(start + sector)))
                << "node " << at << " sector " << sector;
        start += disk.size();
    }
    ASSERT_EQ(start, whole.size());
}

TEST(LinearModel, random_operations_on_random_layouts_match_a_byte_vector) {
    const std::uint64_t seed = model::seed();
    constexpr std::size_t kLayouts = 200;
    constexpr std::size_t kOperations = 250;  // before growing, and again after it
    for (std::size_t layout = 0; layout < kLayouts && !HasFailure(); ++layout) {
        SCOPED_TRACE(testing::Message() << "DST_SEED=" << seed << " layout " << layout);
        model::Rig rig(seed + layout);
        Linear linear;
        model::Disk whole(SectorCount(0));
        const std::size_t nodes = 1 + below(rig.random, one_in(rig.random, 8) ? 64 : 8);
        const std::uint64_t size_max = one_in(rig.random, 3) ? 1 : 1 + below(rig.random, 24);
        for (std::size_t at = 0; at < nodes; ++at)
            add_node(rig, linear, whole, 1 + below(rig.random, size_max), at);
        model::run_random_operations(rig, linear, whole, kOperations);
        add_node(rig, linear, whole, 1 + below(rig.random, size_max), nodes);
        model::run_random_operations(rig, linear, whole, kOperations);
        compare(rig, whole, nodes + 1);
    }
}

TEST(LinearModel, every_request_on_every_small_layout_matches_a_byte_vector) {
    constexpr std::uint64_t kNodesMax = 4;
    constexpr std::uint64_t kSizeMax = 3;
    std::uint64_t layouts = 1;
    for (std::uint64_t nodes = 1; nodes <= kNodesMax; ++nodes) {
        layouts *= kSizeMax;
        for (std::uint64_t layout = 0; layout < layouts && !HasFailure(); ++layout) {
            SCOPED_TRACE(testing::Message() << nodes << " nodes, layout " << layout);
            model::Rig rig;
            Linear linear;
            model::Disk whole(SectorCount(0));
            std::uint64_t sizes = layout;
            for (std::size_t at = 0; at < nodes; ++at, sizes /= kSizeMax)
                add_node(rig, linear, whole, 1 + sizes % kSizeMax, at);
            model::run_every_shape(rig, linear, whole);
            compare(rig, whole, nodes);
        }
    }
}

}  // namespace
}  // namespace dst::algorithm
