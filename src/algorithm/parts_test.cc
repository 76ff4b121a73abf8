#include "algorithm/parts.h"

#include <gtest/gtest.h>

#include "algorithm/model_test.h"

namespace dst::algorithm {
namespace {

using block::Op;
using model::sectors;

constexpr Error kFirst{ErrorCode::no_space, "first"};
constexpr Error kSecond{ErrorCode::corrupt, "second"};

async::Task<void> run_all(model::Rig& rig, std::size_t devices, std::optional<Error> between,
                          std::optional<Result<>>& result) {
    Parts parts;
    for (std::size_t at = 0; at < devices; ++at) {
        if (at == 1 && between.has_value()) parts.fail(*between);
        parts.start(rig.device(at), {.op = Op::trim, .range = sectors(0, 1)});
    }
    result = co_await parts.finish();
}

class PartsTest : public ::testing::Test {
  protected:
    Result<> run(std::optional<Error> between = {}) {
        std::optional<Result<>> result;
        {
            const async::RunQueue::Enter enter(rig.queue);
            rig.scope.spawn(run_all(rig, devices, between, result));
        }
        rig.drain();
        return *result;
    }
    void make(std::size_t count) {
        for (devices = 0; devices < count; ++devices) rig.add(1);
    }

    model::Rig rig;
    std::size_t devices = 0;
};

TEST_F(PartsTest, no_parts_are_done_at_once) { EXPECT_TRUE(run().has_value()); }

TEST_F(PartsTest, parts_that_never_wait_are_done_at_once) {
    make(1000);
    EXPECT_TRUE(run().has_value());
    for (std::size_t at = 0; at < devices; ++at) EXPECT_EQ(rig.device(at).seen.size(), 1u);
}

TEST_F(PartsTest, the_error_of_the_earliest_part_wins_in_every_order_of_ending) {
    make(4);
    for (std::size_t at = 0; at < devices; ++at) rig.device(at).delayed_one_in = 1;
    rig.device(1).failure = kFirst;
    rig.device(3).failure = kSecond;
    for (int round = 0; round < 100; ++round) EXPECT_EQ(run().error(), kFirst);
}

TEST_F(PartsTest, a_part_that_could_not_start_keeps_its_place) {
    make(3);
    rig.device(2).failure = kSecond;
    EXPECT_EQ(run(kFirst).error(), kFirst);
    rig.device(0).failure = kSecond;
    EXPECT_EQ(run(kFirst).error(), kSecond);
}

}  // namespace
}  // namespace dst::algorithm
