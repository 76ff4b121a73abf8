#include "async/range_lock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <memory>
#include <random>
#include <vector>

#include "async/scope.h"

namespace dst::async {
namespace {

using Mode = RangeLock::Mode;
using Hold = RangeLock::Hold;

SectorRange range(std::uint64_t first, std::uint64_t count) {
    return {SectorIndex(first), SectorCount(count)};
}

class RangeLockTest : public ::testing::Test {
  protected:
    RunQueue queue_;
    RunQueue::Enter enter_{queue_};
    RangeLock lock_;
};

Task<void> note_grant(Hold& hold, bool& granted) {
    co_await hold.granted();
    granted = true;
}

/// A hold, the task that waits for it, and what the model thinks of it.
struct Entry {
    Entry(RangeLock& lock, SectorRange wanted, Mode wanted_mode)
        : mode(wanted_mode), hold(lock, wanted, wanted_mode) {
        scope.spawn(note_grant(hold, is_granted));
    }
    bool conflicts(const Entry& other) const {
        return hold.range().overlaps(other.hold.range()) &&
               (mode == Mode::exclusive || other.mode == Mode::exclusive);
    }

    Mode mode;
    Hold hold;
    bool is_granted = false;
    Scope scope;
};

/// Entries in the order of their coming: one is granted if no earlier one is in conflict with it.
bool should_be_granted(const std::list<Entry>& entries, const Entry& entry) {
    for (const Entry& earlier : entries) {
        if (&earlier == &entry) return true;
        if (earlier.conflicts(entry)) return false;
    }
    return true;
}

SectorRange random_range(std::mt19937_64& random) {
    // Around the borders of granules (256 sectors) and of the table (256 granules), short and long.
    const std::uint64_t base = (random() % 4) * 256 * 256 + (random() % 3) * 256;
    const std::uint64_t first = base + random() % 600;
    switch (random() % 10) {
        case 0:
            return range(first, 1 + random() % 100'000);
        case 1:
            return range(first, 512);
        case 2:
            return range(first, 513);
        case 3:
            return range(first / 256 * 256, 256);
        default:
            return range(first, 1 + random() % 64);
    }
}

void check_all(const std::list<Entry>& entries, const RangeLock& lock) {
    ASSERT_EQ(lock.size(), entries.size());
    for (const Entry& entry : entries)
        ASSERT_EQ(entry.is_granted, should_be_granted(entries, entry));
}

TEST_F(RangeLockTest, agrees_with_a_list_of_all_holds_over_random_operations) {
    const auto seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    std::list<Entry> entries;
    for (int step = 0; step < 100'000; ++step) {
        const std::size_t wanted = 1 + (static_cast<std::size_t>(step) / 1000) % 40;
        if (entries.size() < wanted) {
            entries.emplace_back(lock_, random_range(random),
                                 random() % 2 == 0 ? Mode::shared : Mode::exclusive);
        } else {
            // Granted or not: who waits may give up, too.
            auto leaving = entries.begin();
            std::advance(leaving, random() % entries.size());
            entries.erase(leaving);
        }
        queue_.run();
        ASSERT_NO_FATAL_FAILURE(check_all(entries, lock_)) << "step " << step;
    }
}

TEST_F(RangeLockTest, nobody_overtakes_who_waits_for_the_same) {
    auto reader = std::make_unique<Entry>(lock_, range(0, 8), Mode::shared);
    auto writer = std::make_unique<Entry>(lock_, range(4, 8), Mode::exclusive);
    const Entry late(lock_, range(8, 8), Mode::shared);
    queue_.run();
    EXPECT_TRUE(reader->is_granted);
    EXPECT_FALSE(writer->is_granted);
    EXPECT_FALSE(late.is_granted);
    reader.reset();
    queue_.run();
    EXPECT_TRUE(writer->is_granted);
    EXPECT_FALSE(late.is_granted);
    writer.reset();
    queue_.run();
    EXPECT_TRUE(late.is_granted);
}

TEST_F(RangeLockTest, neighbours_do_not_wait_for_each_other) {
    const Entry left(lock_, range(0, 8), Mode::exclusive);
    const Entry right(lock_, range(8, 8), Mode::exclusive);
    EXPECT_TRUE(left.is_granted);
    EXPECT_TRUE(right.is_granted);
}

TEST_F(RangeLockTest, the_last_sector_of_all_can_be_held) {
    const Entry entry(lock_, range(UINT64_MAX - 10, 10), Mode::exclusive);
    EXPECT_TRUE(entry.is_granted);
}

TEST_F(RangeLockTest, hold_may_die_between_its_grant_and_its_turn) {
    auto first = std::make_unique<Entry>(lock_, range(0, 8), Mode::exclusive);
    auto second = std::make_unique<Entry>(lock_, range(0, 8), Mode::exclusive);
    const Entry third(lock_, range(0, 8), Mode::exclusive);
    first.reset();
    second.reset();
    queue_.run();
    EXPECT_TRUE(third.is_granted);
}

TEST_F(RangeLockTest, who_never_waited_for_its_grant_blocks_nobody_after_it) {
    auto first = std::make_unique<Entry>(lock_, range(0, 8), Mode::exclusive);
    auto silent = std::make_unique<Hold>(lock_, range(0, 8), Mode::exclusive);
    const Entry third(lock_, range(0, 8), Mode::exclusive);
    first.reset();
    queue_.run();
    EXPECT_FALSE(third.is_granted);
    silent.reset();
    queue_.run();
    EXPECT_TRUE(third.is_granted);
}

}  // namespace
}  // namespace dst::async
