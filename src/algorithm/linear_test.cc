#include "algorithm/linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "algorithm/model_test.h"

namespace dst::algorithm {
namespace {

using block::Op;
using model::sectors;
using ::testing::HasSubstr;

constexpr Error kLost{ErrorCode::node_lost, "test"};
constexpr Error kMedium{ErrorCode::io_error, "test"};
constexpr Error kFull{ErrorCode::no_space, "test"};

/// A linear storage of nodes of the given sizes.
class LinearTest : public ::testing::Test {
  protected:
    void make(std::initializer_list<std::uint64_t> sizes) {
        for (const std::uint64_t size : sizes)
            ASSERT_TRUE(linear.add_node(rig.add(size)).has_value());
    }
    Result<> execute(Op op, SectorRange range = {}) { return rig.execute(linear, op, range); }
    [[nodiscard]] const std::vector<block::Request>& seen(std::size_t at) {
        return rig.device(at).seen;
    }

    model::Rig rig;
    Linear linear;
};

TEST_F(LinearTest, nodes_stand_one_after_another) {
    make({10, 1, 5});
    EXPECT_EQ(rig.node(0).start(), SectorIndex(0));
    EXPECT_EQ(rig.node(1).start(), SectorIndex(10));
    EXPECT_EQ(rig.node(2).start(), SectorIndex(11));
    EXPECT_EQ(linear.geometry().size, SectorCount(16));
}

TEST_F(LinearTest, a_request_within_one_node_is_passed_on_whole_at_the_nodes_own_sectors) {
    make({10, 10});
    std::vector<std::byte> data(kSectorBytes * 10);
    block::Request write{.op = Op::write, .fua = true, .range = sectors(10, 10), .data = data};
    ASSERT_TRUE(rig.execute(linear, write).has_value());
    EXPECT_TRUE(seen(0).empty());
    ASSERT_EQ(seen(1).size(), 1u);
    EXPECT_EQ(seen(1)[0].range, sectors(0, 10));
    EXPECT_EQ(seen(1)[0].data.data(), data.data());
    EXPECT_TRUE(seen(1)[0].fua);
    EXPECT_EQ(write.range, sectors(10, 10)) << "the caller's request is the caller's";
}

TEST_F(LinearTest, a_request_over_edges_is_cut_and_keeps_its_flags_and_its_data) {
    make({4, 2, 4});
    std::vector<std::byte> data(kSectorBytes * 4);
    block::Request write{.op = Op::write, .fua = true, .range = sectors(3, 4), .data = data};
    ASSERT_TRUE(rig.execute(linear, write).has_value());
    const SectorRange expected[] = {sectors(3, 1), sectors(0, 2), sectors(0, 1)};
    const std::size_t offsets[] = {0, 1, 3};
    for (std::size_t at = 0; at < 3; ++at) {
        ASSERT_EQ(seen(at).size(), 1u);
        EXPECT_EQ(seen(at)[0].range, expected[at]);
        EXPECT_EQ(seen(at)[0].data.data(), data.data() + offsets[at] * kSectorBytes);
        EXPECT_TRUE(seen(at)[0].fua);
    }
}

TEST_F(LinearTest, the_first_and_last_sector_of_each_of_a_thousand_nodes_is_found) {
    std::uint64_t end = 0;
    for (std::size_t at = 0; at < 1000; ++at) {
        const std::uint64_t size = 1 + at % 7;
        ASSERT_TRUE(linear.add_node(rig.add(size)).has_value());
        ASSERT_TRUE(execute(Op::read, sectors(end, 1)).has_value());
        end += size;
        ASSERT_TRUE(execute(Op::read, sectors(end - 1, 1)).has_value());
        ASSERT_EQ(seen(at).size(), 2u);
        EXPECT_EQ(seen(at)[0].range, sectors(0, 1));
        EXPECT_EQ(seen(at)[1].range, sectors(size - 1, 1));
    }
}

TEST_F(LinearTest, parts_run_at_once_and_all_end_before_the_answer) {
    make({1, 1, 1});
    for (std::size_t at = 0; at < 3; ++at) rig.device(at).delayed_one_in = 1;
    rig.device(0).failure = kFull;
    block::Request trim{.op = Op::trim, .range = sectors(0, 3)};
    rig.start(linear, trim);
    rig.run();
    EXPECT_EQ(rig.parking.size(), 3u);
    rig.parking.wake(0);
    rig.run();
    EXPECT_FALSE(rig.result().has_value()) << "two parts still run";
    rig.drain();
    ASSERT_TRUE(rig.result().has_value());
    EXPECT_EQ(rig.result()->error(), kFull);
}

TEST_F(LinearTest, the_first_error_in_address_order_is_the_answer_whoever_fails_first) {
    make({1, 1, 1});
    rig.device(1).failure = kFull;
    rig.device(1).delayed_one_in = 1;
    rig.device(2).failure = kMedium;
    EXPECT_EQ(execute(Op::trim, sectors(0, 3)).error(), kFull);
    EXPECT_EQ(execute(Op::flush).error(), kFull);
    EXPECT_EQ(execute(Op::read, sectors(2, 1)).error(), kMedium);
    EXPECT_TRUE(execute(Op::read, sectors(0, 1)).has_value());
}

TEST_F(LinearTest, a_flush_goes_at_once_to_all_nodes_that_have_a_cache) {
    make({1, 1, 1});
    rig.device(1).limits.can_flush = false;
    rig.device(0).delayed_one_in = rig.device(2).delayed_one_in = 1;
    block::Request flush{.op = Op::flush};
    rig.start(linear, flush);
    rig.run();
    EXPECT_EQ(rig.parking.size(), 2u);
    rig.drain();
    EXPECT_TRUE(rig.result()->has_value());
    EXPECT_EQ(seen(0).size() + seen(2).size(), 2u);
    EXPECT_TRUE(seen(1).empty());
}

TEST_F(LinearTest, a_request_that_is_destroyed_in_flight_leaves_nothing_behind) {
    make({1, 1, 1});
    rig.device(1).delayed_one_in = rig.device(2).delayed_one_in = 1;
    block::Request trim{.op = Op::trim, .range = sectors(0, 3)};
    async::Scope scope;
    {
        const async::RunQueue::Enter enter(rig.queue);
        async::Task<Result<>> task = linear.remap(trim);  // lazy: nothing has begun
    }
    EXPECT_TRUE(seen(0).empty());
    rig.start(linear, trim);
    EXPECT_EQ(rig.parking.size(), 2u);
}  // the rig's scope dies here with the request in it

TEST_F(LinearTest, requests_beyond_the_end_are_refused) {
    EXPECT_EQ(execute(Op::read, sectors(0, 1)).error().code, ErrorCode::out_of_range);
    make({4, 4});
    EXPECT_EQ(execute(Op::read, sectors(7, 2)).error().code, ErrorCode::out_of_range);
    EXPECT_EQ(execute(Op::trim, sectors(1, ~0ull)).error().code, ErrorCode::out_of_range);
    EXPECT_TRUE(execute(Op::flush).has_value());
}

class LinearStatusTest : public LinearTest {
  protected:
    /// Sectors described of `range`, with room for `room` extents.
    Result<std::uint64_t> describe(SectorRange range, std::size_t room) {
        std::vector<block::Extent> extents(room);
        list.emplace(extents);
        block::Request request{.op = Op::block_status, .range = range, .extents = &*list};
        TRY_VOID(rig.execute(linear, request));
        return list->described().value();
    }
    std::optional<block::ExtentList> list;
};

TEST_F(LinearStatusTest, goes_on_over_edges_while_there_is_room) {
    make({4, 4, 4});
    ASSERT_TRUE(execute(Op::write, sectors(6, 4)).has_value());
    EXPECT_EQ(describe(sectors(0, 12), 8), 12u);  // hole, data, hole
    EXPECT_EQ(list->extents().size(), 3u) << "what is alike on both sides of an edge is one extent";
    EXPECT_EQ(describe(sectors(0, 12), 2), 8u);
    EXPECT_EQ(describe(sectors(0, 12), 1), 4u);
    EXPECT_EQ(describe(sectors(5, 2), 1), 1u);
}

TEST_F(LinearStatusTest, stops_where_a_node_stops) {
    make({4, 4});
    rig.device(0).described_at_most = 3;
    EXPECT_EQ(describe(sectors(0, 8), 8), 3u);
    EXPECT_TRUE(seen(1).empty());
}

TEST_F(LinearStatusTest, what_was_described_before_an_error_is_the_answer) {
    make({4, 4});
    rig.device(1).failure = kMedium;
    EXPECT_EQ(describe(sectors(0, 8), 8), 4u);
    EXPECT_EQ(describe(sectors(4, 4), 8).error(), kMedium);
}

TEST_F(LinearTest, a_node_without_sectors_or_of_too_many_is_refused) {
    make({4});
    EXPECT_THAT(linear.add_node(rig.add(0)).error().text, HasSubstr("no sectors"));
    node::Node huge(rig.device(0), 7, "R: host/huge", SectorCount(~0ull));
    EXPECT_THAT(linear.add_node(huge).error().text, HasSubstr("too large"));
    node::Node filling(rig.device(0), 8, "R: host/filling", SectorCount((1ull << 54) - 1 - 4));
    EXPECT_TRUE(linear.add_node(filling).has_value());
    EXPECT_EQ(linear.add_node(rig.add(1)).error().code, ErrorCode::no_space);
    EXPECT_EQ(linear.geometry().size, SectorCount((1ull << 54) - 1));
}

TEST_F(LinearTest, a_node_of_large_blocks_must_begin_at_one) {
    make({4});
    node::Node& node = rig.add(16);
    rig.device(1).limits.block_bytes = 4096;
    EXPECT_THAT(linear.add_node(node).error().text, HasSubstr("blocks of 4096 bytes"));
    EXPECT_EQ(linear.geometry().size, SectorCount(4));
    EXPECT_EQ(linear.geometry().block_bytes, 512u);
    make({4});
    EXPECT_TRUE(linear.add_node(node).has_value());
    EXPECT_EQ(linear.geometry().block_bytes, 4096u);
}

TEST_F(LinearTest, grows_while_requests_are_in_flight) {
    make({4, 4});
    rig.device(1).delayed_one_in = 1;
    block::Request trim{.op = Op::trim, .range = sectors(2, 4)};
    rig.start(linear, trim);
    make({4, 4, 4, 4, 4, 4});
    EXPECT_EQ(linear.geometry().size, SectorCount(32));
    rig.drain();
    EXPECT_TRUE(rig.result()->has_value());
    EXPECT_TRUE(execute(Op::write, sectors(0, 32)).has_value());
}

TEST_F(LinearTest, only_the_last_node_can_leave) {
    make({4, 4, 4});
    EXPECT_EQ(linear.can_del_node(rig.node(1)).error().code, ErrorCode::busy);
    ASSERT_TRUE(linear.can_del_node(rig.node(2)).has_value());
    linear.del_node(rig.node(2));
    EXPECT_EQ(linear.geometry().size, SectorCount(8));
    make({2});
    EXPECT_EQ(rig.node(3).start(), SectorIndex(8));
}

TEST_F(LinearStatusTest, while_a_storage_is_taken_down_nodes_leave_in_any_order) {
    make({4, 4, 4});
    linear.del_node(rig.node(1));
    EXPECT_EQ(execute(Op::read, sectors(3, 2)).error().code, ErrorCode::io_error);
    EXPECT_EQ(execute(Op::read, sectors(5, 2)).error().code, ErrorCode::io_error);
    EXPECT_EQ(describe(sectors(5, 2), 1).error().code, ErrorCode::io_error);
    EXPECT_EQ(describe(sectors(3, 9), 1), 1u);
    EXPECT_TRUE(execute(Op::read, sectors(8, 4)).has_value());
    EXPECT_TRUE(execute(Op::flush).has_value());
    linear.del_node(rig.node(2));
    EXPECT_EQ(linear.geometry().size, SectorCount(4));
    linear.del_node(rig.node(0));
    EXPECT_EQ(linear.geometry().size, SectorCount(0));
}

TEST_F(LinearTest, shows_what_all_nodes_can_do_together) {
    make({8, 8});
    block::Geometry& limits = rig.device(1).limits;
    limits = {.size = {},
              .block_bytes = 4096,
              .preferred_bytes = 65536,
              .read_only = true,
              .can_flush = false,
              .can_trim = false,
              .can_zero_fast = true,
              .rotational = true,
              .multi_connection = false};
    linear.node_changed(rig.node(1));
    const block::Geometry both = linear.geometry();
    EXPECT_EQ(both.size, SectorCount(16));
    EXPECT_EQ(both.block_bytes, 4096u);
    EXPECT_EQ(both.preferred_bytes, 65536u);
    EXPECT_TRUE(both.read_only);
    EXPECT_TRUE(both.can_flush) << "there is a cache to flush, on the other node";
    EXPECT_FALSE(both.can_trim);
    EXPECT_FALSE(both.can_zero_fast);
    EXPECT_TRUE(both.rotational);
    EXPECT_FALSE(both.multi_connection);
    linear.del_node(rig.node(1));
    EXPECT_TRUE(linear.geometry().can_trim);
}

async::Task<void> ask(Linear& linear, node::Node& node, Error error, Recovery& recovery) {
    recovery = co_await linear.error(node, error);
}

TEST_F(LinearTest, a_lost_link_is_waited_for_and_any_other_error_is_not_fixed) {
    make({4});
    Recovery recovery = Recovery::not_fixed;
    rig.scope.spawn(ask(linear, rig.node(0), kLost, recovery));
    EXPECT_EQ(recovery, Recovery::fixed);
    rig.scope.spawn(ask(linear, rig.node(0), kMedium, recovery));
    EXPECT_EQ(recovery, Recovery::not_fixed);
}

TEST_F(LinearTest, has_no_options) {
    EXPECT_TRUE(make_linear({}).has_value());
    EXPECT_THAT(make_linear({{"chunk", "64K"}}).error().text, HasSubstr("\"chunk\""));
}

}  // namespace
}  // namespace dst::algorithm
