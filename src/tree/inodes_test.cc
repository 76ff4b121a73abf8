#include "tree/inodes.h"

#include <gtest/gtest.h>

namespace dst::tree {
namespace {

TEST(Inodes, a_path_keeps_its_number_while_it_is_known) {
    Inodes inodes;
    const auto number = inodes.look_up("devices/vol0");
    EXPECT_NE(number, kRoot);
    EXPECT_EQ(inodes.look_up("devices/vol0"), number);
    inodes.forget(number, 1);
    EXPECT_EQ(*inodes.path_of(number), "devices/vol0");
    inodes.forget(number, 1);
    EXPECT_EQ(inodes.path_of(number), nullptr);
    EXPECT_EQ(inodes.size(), 0U);
}

TEST(Inodes, no_number_is_given_twice) {
    Inodes inodes;
    const auto first = inodes.look_up("a");
    inodes.forget(first, 1);
    EXPECT_NE(inodes.look_up("a"), first);
    EXPECT_NE(inodes.look_up("b"), first);
}

TEST(Inodes, the_root_is_always_there) {
    Inodes inodes;
    EXPECT_EQ(inodes.look_up(""), kRoot);
    inodes.forget(kRoot, 100);
    EXPECT_EQ(*inodes.path_of(kRoot), "");
}

TEST(Inodes, what_the_kernel_never_knew_is_forgotten_without_harm) {
    Inodes inodes;
    inodes.forget(77, 1);
    const auto number = inodes.look_up("a");
    inodes.forget(number, ~std::uint64_t{0});
    EXPECT_EQ(inodes.path_of(number), nullptr);
}

TEST(Inodes, paths_are_joined_with_one_slash) {
    EXPECT_EQ(join("", "devices"), "devices");
    EXPECT_EQ(join("devices", "vol0"), "devices/vol0");
    EXPECT_NE(shown_number("devices"), shown_number("devices/vol0"));
}

}  // namespace
}  // namespace dst::tree
