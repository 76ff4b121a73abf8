#include "algorithm/mirror/stakes.h"

#include <gtest/gtest.h>

namespace dst::mirror {
namespace {

constexpr std::uint64_t kRegion = 128;  // sectors

/// Ten regions, the last one half as long; slots 0 to 2 in use.
struct Example {
    Shape shape{
        .data_size = SectorCount(9 * kRegion + kRegion / 2), .region_shift = 16, .slots = 8};
    Regions regions{shape, {}};

    Example() {
        for (std::uint8_t slot = 0; slot < 3; ++slot) regions.bits.use_slot(slot);
    }
    void stale(std::uint8_t slot, std::uint64_t first, std::uint64_t count) {
        regions.bits.set(Bits::stale_of(slot), {RegionIndex(first), RegionCount(count)});
    }
};

CopyNow attached(std::uint8_t slot, bool is_lost = false) {
    return {.slot = slot, .takes_part = true, .is_attached = true, .is_lost = is_lost};
}
CopyNow joining(std::uint8_t slot, bool is_lost = false) {
    return {.slot = slot, .takes_part = true, .is_attached = false, .is_lost = is_lost};
}
CopyNow away(std::uint8_t slot, bool is_lost = false) {
    return {.slot = slot, .takes_part = false, .is_attached = false, .is_lost = is_lost};
}

TEST(Stakes, nothing_is_at_risk_while_a_copy_in_sync_is_left) {
    const Example example;
    const CopyNow copies[] = {attached(0, true), attached(1)};
    const Stakes stakes = stakes_of(example.regions, copies, true);
    EXPECT_EQ(stakes.copies, 1U);
    EXPECT_EQ(stakes.at_risk, SectorCount(0));
    EXPECT_EQ(stakes.resync, SectorCount(0));
    EXPECT_EQ(stakes.whole, example.shape.data_size);
}

TEST(Stakes, what_a_joining_node_lacks_is_at_risk_with_the_only_attached_one) {
    Example example;
    example.stale(1, 2, 3);
    example.stale(1, 9, 1);  // the short one
    const CopyNow copies[] = {attached(0, true), joining(1)};
    const Stakes stakes = stakes_of(example.regions, copies, false);
    EXPECT_EQ(stakes.copies, 0U);
    EXPECT_EQ(stakes.at_risk, SectorCount(3 * kRegion + kRegion / 2));
}

TEST(Stakes, two_joining_nodes_may_have_together_what_each_lacks) {
    Example example;
    example.stale(1, 0, 4);
    example.stale(2, 3, 4);
    const CopyNow copies[] = {attached(0, true), joining(1), joining(2)};
    EXPECT_EQ(stakes_of(example.regions, copies, false).at_risk, SectorCount(kRegion));
}

TEST(Stakes, a_node_that_is_away_is_no_copy) {
    const Example example;
    const CopyNow copies[] = {attached(0, true), away(1)};
    EXPECT_EQ(stakes_of(example.regions, copies, false).at_risk, example.shape.data_size);
}

TEST(Stakes, what_was_never_written_is_not_at_risk) {
    Example example;
    example.regions.bits.set(Bits::kUnwritten, {RegionIndex(0), RegionCount(10)});
    const CopyNow copies[] = {attached(0, true)};
    EXPECT_EQ(stakes_of(example.regions, copies, false).at_risk, SectorCount(0));
    EXPECT_EQ(stakes_of(example.regions, copies, false).whole, SectorCount(0));
    example.regions.make_fresh({RegionIndex(4), RegionCount(2)});
    EXPECT_EQ(stakes_of(example.regions, copies, false).at_risk, SectorCount(2 * kRegion));
}

TEST(Stakes, a_lost_node_lacks_what_is_not_settled_if_requests_go_on) {
    Example example;
    example.stale(1, 0, 2);
    example.regions.enter({RegionIndex(1), RegionCount(2)});
    const CopyNow copies[] = {attached(0), attached(1, true)};
    EXPECT_EQ(stakes_of(example.regions, copies, true).resync, SectorCount(3 * kRegion));
    EXPECT_EQ(stakes_of(example.regions, copies, false).resync, SectorCount(2 * kRegion));
    example.regions.leave({RegionIndex(1), RegionCount(2)});
}

TEST(Stakes, a_crash_of_the_head_costs_what_is_being_changed_on_all_copies_but_one) {
    Example example;
    example.regions.bits.set(Bits::kIntent, {RegionIndex(1), RegionCount(2)});
    EXPECT_EQ(crash_resync(example.regions, 3), SectorCount(4 * kRegion));
    EXPECT_EQ(crash_resync(example.regions, 1), SectorCount(0));
}

}  // namespace
}  // namespace dst::mirror
