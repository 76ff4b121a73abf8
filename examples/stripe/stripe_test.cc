// Built with the tests of dst, for it needs their devices.
#include "stripe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "algorithm/model_test.h"

namespace stripe {
namespace {

namespace model = dst::algorithm::model;
using dst::ErrorCode;
using dst::block::Op;
using model::below;
using model::sectors;
using ::testing::HasSubstr;

constexpr Error kFull{ErrorCode::no_space, "test"};
constexpr Error kMedium{ErrorCode::io_error, "test"};

/// A stripe, and what it is compared with.
struct Rig : model::Rig {
    Rig(std::uint64_t seed, std::uint64_t chunk_sectors, std::initializer_list<std::uint64_t> sizes)
        : model::Rig(seed), chunk(chunk_sectors), stripe(SectorCount(chunk)) {
        for (const std::uint64_t size : sizes) add_node(size);
    }
    void add_node(std::uint64_t size) {
        ASSERT_TRUE(stripe.add_node(add(size)).has_value());
        ++nodes;
    }
    /// Each sector of `whole` is where RAID 0 has it, counted here in the simplest way.
    void compare(const model::Disk& whole) {
        std::vector<std::uint64_t> next(nodes);
        for (std::uint64_t at = 0; at < whole.size(); ++at) {
            const std::size_t node = at / chunk % nodes;
            const model::Disk& disk = device(node).disk;
            const std::uint64_t sector = next[node]++;
            ASSERT_TRUE(
                std::ranges::equal(whole.bytes(sectors(at, 1)), disk.bytes(sectors(sector, 1))))
                << "sector " << at;
            ASSERT_EQ(whole.state(SectorIndex(at)), disk.state(SectorIndex(sector)))
                << "sector " << at;
        }
    }

    std::uint64_t chunk;
    Stripe stripe;
    std::size_t nodes = 0;
};

TEST(StripeModel, random_operations_on_random_layouts_match_a_byte_vector) {
    const std::uint64_t seed = model::seed();
    for (std::size_t layout = 0; layout < 200 && !::testing::Test::HasFailure(); ++layout) {
        SCOPED_TRACE(::testing::Message() << "DST_SEED=" << seed << " layout " << layout);
        model::Random random(seed + layout);
        const std::uint64_t chunk = 1u << below(random, 4);
        Rig rig(random(), chunk, {});
        const std::size_t nodes = 1 + below(random, 6);
        for (std::size_t at = 0; at < nodes; ++at) {
            rig.add_node(chunk + below(random, 24));
            rig.device(at).delayed_one_in = below(random, 4);
            if (model::one_in(random, 4)) rig.device(at).described_at_most = 1 + below(random, 6);
        }
        model::Disk whole(rig.stripe.geometry().size);
        model::run_random_operations(rig, rig.stripe, whole, 500);
        rig.compare(whole);
    }
}

TEST(StripeModel, every_request_on_every_small_layout_matches_a_byte_vector) {
    for (const std::uint64_t chunk : {1u, 2u, 4u}) {
        for (std::uint64_t nodes = 1; nodes <= 4; ++nodes) {
            for (std::uint64_t stripes = 1; stripes * chunk * nodes <= 24; ++stripes) {
                SCOPED_TRACE(::testing::Message()
                             << "chunk " << chunk << " nodes " << nodes << " stripes " << stripes);
                Rig rig(1, chunk, {});
                for (std::uint64_t at = 0; at < nodes; ++at) rig.add_node(stripes * chunk);
                model::Disk whole(rig.stripe.geometry().size);
                ASSERT_EQ(whole.size(), stripes * chunk * nodes);
                model::run_every_shape(rig, rig.stripe, whole);
                rig.compare(whole);
            }
        }
    }
}

TEST(Stripe, sizes_are_rounded_down_to_whole_stripes_of_the_smallest_node) {
    Rig rig(1, 4, {19, 13, 100});
    EXPECT_EQ(rig.stripe.geometry().size, SectorCount(3 * 12));
    EXPECT_EQ(rig.node(2).start(), SectorIndex(8));
    rig.add_node(7);
    EXPECT_EQ(rig.stripe.geometry().size, SectorCount(4 * 4));
}

TEST(Stripe, a_payload_is_cut_by_chunk_and_everything_else_by_node) {
    Rig rig(1, 4, {64, 64});
    EXPECT_TRUE(rig.execute(rig.stripe, Op::trim, sectors(2, 60)).has_value());
    ASSERT_EQ(rig.device(0).seen.size(), 1u);
    ASSERT_EQ(rig.device(1).seen.size(), 1u);
    EXPECT_EQ(rig.device(0).seen[0].range, sectors(2, 30));
    EXPECT_EQ(rig.device(1).seen[0].range, sectors(0, 30));
    EXPECT_TRUE(rig.execute(rig.stripe, Op::write, sectors(2, 60)).has_value());
    EXPECT_EQ(rig.device(0).seen.size() + rig.device(1).seen.size(), 2u + 16u);
}

TEST(Stripe, the_first_error_in_address_order_is_the_answer) {
    Rig rig(1, 4, {64, 64});
    rig.device(0).failure = kFull;
    rig.device(1).failure = kMedium;
    EXPECT_EQ(rig.execute(rig.stripe, Op::write, sectors(4, 60)).error(), kMedium);
    EXPECT_EQ(rig.execute(rig.stripe, Op::trim, sectors(4, 60)).error(), kMedium);
    EXPECT_EQ(rig.execute(rig.stripe, Op::trim, sectors(0, 60)).error(), kFull);
    EXPECT_EQ(rig.execute(rig.stripe, Op::flush).error(), kFull);
}

TEST(Stripe, a_huge_block_status_is_answered_for_its_first_sectors) {
    Rig rig(1, 1, {10000, 10000});
    dst::block::Extent room[4];
    dst::block::ExtentList list(room);
    Request request{.op = Op::block_status, .range = sectors(0, 20000), .extents = &list};
    ASSERT_TRUE(rig.execute(rig.stripe, request).has_value());
    EXPECT_EQ(list.described(), SectorCount(4096));
    EXPECT_EQ(list.extents().size(), 1u);
}

TEST(Stripe, nodes_come_and_go_before_the_first_request_only) {
    Rig rig(1, 4, {64, 64, 64});
    ASSERT_TRUE(rig.stripe.can_del_node(rig.node(0)).has_value());
    rig.stripe.del_node(rig.node(0));
    EXPECT_EQ(rig.stripe.geometry().size, SectorCount(128));
    EXPECT_EQ(rig.node(1).start(), SectorIndex(0));

    EXPECT_TRUE(rig.execute(rig.stripe, Op::read, sectors(0, 1)).has_value());
    EXPECT_EQ(rig.stripe.add_node(rig.add(64)).error().code, ErrorCode::busy);
    EXPECT_EQ(rig.stripe.can_del_node(rig.node(1)).error().code, ErrorCode::busy);
    rig.stripe.del_node(rig.node(1));
    EXPECT_EQ(rig.execute(rig.stripe, Op::read, sectors(0, 1)).error().code, ErrorCode::io_error);
    rig.stripe.del_node(rig.node(2));
    EXPECT_TRUE(rig.stripe.add_node(rig.add(64)).has_value()) << "empty again: a new beginning";
}

TEST(Stripe, nodes_that_do_not_fit_are_refused) {
    Rig rig(1, 4, {});
    EXPECT_THAT(rig.stripe.add_node(rig.add(3)).error().text, HasSubstr("smaller than a chunk"));
    Node& node = rig.add(64);
    rig.device(1).limits.block_bytes = 4096;
    EXPECT_THAT(rig.stripe.add_node(node).error().text, HasSubstr("4096 bytes or more"));
    Node huge(rig.device(0), 7, "R: host/huge", SectorCount(1ull << 54));
    EXPECT_EQ(rig.stripe.add_node(huge).error().code, ErrorCode::no_space);
    EXPECT_EQ(rig.stripe.geometry().size, SectorCount(0));
    EXPECT_EQ(rig.execute(rig.stripe, Op::read, sectors(0, 1)).error().code,
              ErrorCode::out_of_range);
}

TEST(Stripe, the_option_chunk_is_a_power_of_two) {
    EXPECT_EQ((*make_stripe({}))->geometry().size, SectorCount(0));
    for (const char* const good : {"512", "64K", "1M", "1G"})
        EXPECT_TRUE(make_stripe({{"chunk", good}}).has_value()) << good;
    for (const char* const bad : {"", "K", "0", "511", "3K", "2G", "1T", "64KB", "-1", "64 K",
                                  "99999999999999999999", "1073741824G"})
        EXPECT_FALSE(make_stripe({{"chunk", bad}}).has_value()) << bad;
    EXPECT_THAT(make_stripe({{"chunks", "64K"}}).error().text, HasSubstr("no option \"chunks\""));
}

}  // namespace
}  // namespace stripe
