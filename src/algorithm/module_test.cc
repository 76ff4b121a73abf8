// The border to loaded files, written down: what changes here needs another kModuleAbi.
#include "algorithm/module.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstddef>

namespace dst::algorithm {
namespace {

/// The place of a virtual function in the table: 1 + its offset in bytes (Itanium C++ ABI 2.3).
template <typename Function>
std::size_t slot(Function function) {
    struct Pointer {
        std::size_t coded;
        std::size_t adjustment;
    };
    return (std::bit_cast<Pointer>(function).coded - 1) / sizeof(void*);
}

TEST(ModuleInterface, virtual_functions_stand_where_interface_2_has_them) {
    ASSERT_EQ(kModuleAbi, 2u) << "a new interface: write down its places";
    EXPECT_EQ(slot(&Algorithm::add_node), 2u);  // behind the two destructors
    EXPECT_EQ(slot(&Algorithm::can_del_node), 3u);
    EXPECT_EQ(slot(&Algorithm::del_node), 4u);
    EXPECT_EQ(slot(&Algorithm::node_changed), 5u);
    EXPECT_EQ(slot(&Algorithm::remap), 6u);
    EXPECT_EQ(slot(&Algorithm::error), 7u);
    EXPECT_EQ(slot(&Algorithm::geometry), 8u);
    EXPECT_EQ(slot(&block::Device::geometry), 2u);
    EXPECT_EQ(slot(&block::Device::execute), 3u);
    EXPECT_EQ(slot(&block::Device::instance), 4u);
    EXPECT_EQ(slot(&block::Device::identity), 5u);
    EXPECT_EQ(slot(&block::Device::digest), 6u);
    EXPECT_EQ(slot(&block::Device::refresh_size), 7u);  // modules from before don't call it
}

TEST(ModuleInterface, members_stand_where_interface_2_has_them) {
    ASSERT_EQ(kModuleAbi, 2u) << "a new interface: write down its places";
    EXPECT_EQ(offsetof(block::Request, fua), 1u);
    EXPECT_EQ(offsetof(block::Request, no_hole), 2u);
    EXPECT_EQ(offsetof(block::Request, fast_zero), 3u);
    EXPECT_EQ(offsetof(block::Request, if_connected), 4u);
    EXPECT_EQ(offsetof(block::Request, range), 8u);
    EXPECT_EQ(offsetof(block::Request, data), 24u);
    EXPECT_EQ(offsetof(block::Request, buffer), 40u);
    EXPECT_EQ(offsetof(block::Request, extents), 48u);
    EXPECT_EQ(offsetof(block::Geometry, block_bytes), 8u);
    EXPECT_EQ(offsetof(block::Geometry, preferred_bytes), 12u);
    EXPECT_EQ(offsetof(block::Geometry, read_only), 16u);
    EXPECT_EQ(offsetof(block::Geometry, multi_connection), 21u);
}

TEST(ModuleInterface, what_crosses_the_border_has_the_sizes_of_interface_2) {
    ASSERT_EQ(kModuleAbi, 2u) << "a new interface: write down its sizes";
    constexpr ModuleSizes kSizes;
    EXPECT_EQ(kSizes.request, 56u);
    EXPECT_EQ(kSizes.extent_list, 32u);
    EXPECT_EQ(kSizes.geometry, 24u);
    EXPECT_EQ(kSizes.node, 64u);
    EXPECT_EQ(kSizes.error, 16u);
}

}  // namespace
}  // namespace dst::algorithm
