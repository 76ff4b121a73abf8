#include "sim/check/promises.h"

#include <gtest/gtest.h>

#include <array>

namespace dst::sim::check {
namespace {

using block::Op;
using block::Request;

class PromisesTest : public testing::Test {
  protected:
    static constexpr SectorIndex kAt{3};

    History::Number begin(Op op, bool fua = false) {
        return history.begin("app", Request{.op = op, .fua = fua, .range = {kAt, SectorCount(1)}},
                             {});
    }
    History::Number done(Op op, bool fua = false) {
        const History::Number number = begin(op, fua);
        history.done(number, {});
        return number;
    }
    /// A copy may hold what that write left; 0: zeroes.
    bool allows(History::Number write) {
        std::vector<SectorRange> raised;
        promises.follow(raised);
        std::array<std::byte, kSectorBytes> sector{};
        if (write > 0) history.fill(write, sector);
        return promises.allows(kAt, sector);
    }

    History history{"vol", 1, true};
    Promises promises{history};
};

TEST_F(PromisesTest, nothing_is_promised_before_a_flush) {
    const auto write = done(Op::write);
    EXPECT_TRUE(allows(0));
    EXPECT_TRUE(allows(write));
    EXPECT_FALSE(promises.has(kAt));
}

TEST_F(PromisesTest, what_was_followed_by_something_durable_is_allowed_no_more) {
    const auto first = done(Op::write);
    const auto second = done(Op::write);
    done(Op::flush);
    EXPECT_FALSE(allows(0));
    EXPECT_FALSE(allows(first));
    EXPECT_TRUE(allows(second));
    const auto third = begin(Op::write);
    EXPECT_TRUE(allows(third));
    const auto fourth = done(Op::write, true);
    EXPECT_FALSE(allows(second));
    EXPECT_TRUE(allows(third));  // at the same time as the fourth
    EXPECT_TRUE(allows(fourth));
}

TEST_F(PromisesTest, a_flush_covers_what_was_acknowledged_before_it_began) {
    const auto first = done(Op::write);
    const auto flush = begin(Op::flush);
    const auto second = done(Op::write);
    history.done(flush, {});
    EXPECT_TRUE(allows(first));
    EXPECT_TRUE(allows(second));
    EXPECT_FALSE(allows(0));
    done(Op::flush);
    EXPECT_FALSE(allows(first));
}

TEST_F(PromisesTest, what_a_crash_may_have_taken_no_later_flush_promises) {
    const auto first = done(Op::write);
    done(Op::flush);
    const auto second = done(Op::write);
    EXPECT_TRUE(allows(second));
    history.crash("it dies", true, {});
    done(Op::flush);
    EXPECT_TRUE(allows(first));
    EXPECT_TRUE(allows(second));
    EXPECT_FALSE(allows(0));
    history.lose_everything("it burns", {});
    EXPECT_TRUE(allows(0));
}

TEST_F(PromisesTest, an_answer_that_was_under_way_at_a_crash_is_no_promise) {
    const auto first = done(Op::write, true);
    const auto second = begin(Op::write);
    history.crash("it dies", true, {});
    history.done(second, {});
    done(Op::flush);
    EXPECT_TRUE(allows(first));
    EXPECT_TRUE(allows(second));
    const auto third = done(Op::write);
    done(Op::flush);
    EXPECT_FALSE(allows(second));
    EXPECT_TRUE(allows(third));
}

TEST_F(PromisesTest, zeroes_are_what_a_change_to_zeroes_or_a_trim_leaves) {
    const auto write = done(Op::write, true);
    EXPECT_FALSE(allows(0));
    done(Op::trim, true);
    EXPECT_TRUE(allows(0));
    EXPECT_TRUE(allows(write));
    done(Op::write_zeroes, true);
    EXPECT_TRUE(allows(0));
    EXPECT_FALSE(allows(write));
    done(Op::write, true);
    EXPECT_FALSE(allows(0));
}

TEST_F(PromisesTest, nothing_that_nobody_wrote_is_allowed) {
    done(Op::write, true);
    std::vector<SectorRange> raised;
    promises.follow(raised);
    ASSERT_EQ(raised.size(), 1u);
    EXPECT_EQ(raised[0].first, kAt);
    std::array<std::byte, kSectorBytes> sector{};
    fill(sector, {.volume = 1, .sector = kAt}, 99);
    EXPECT_FALSE(promises.allows(kAt, sector));
    sector.fill(std::byte{0x5a});
    EXPECT_FALSE(promises.allows(kAt, sector));
}

}  // namespace
}  // namespace dst::sim::check
