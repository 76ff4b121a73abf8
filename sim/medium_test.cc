#include "sim/medium.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

namespace dst::sim {
namespace {

constexpr SectorCount kSize{256};

SectorRange range(std::uint64_t first, std::uint64_t count) {
    return {SectorIndex(first), SectorCount(count)};
}

class MediumTest : public testing::Test {
  protected:
    void write(std::uint64_t first, std::uint64_t count, char fill) {
        const std::vector bytes(count * kSectorBytes, static_cast<std::byte>(fill));
        medium.write(range(first, count), bytes);
    }
    char read(std::uint64_t sector) {
        std::vector<std::byte> bytes(kSectorBytes);
        medium.read(range(sector, 1), bytes);
        EXPECT_TRUE(std::ranges::all_of(bytes, [&](std::byte b) { return b == bytes[0]; }))
            << "sector " << sector << " is torn";
        return static_cast<char>(bytes[0]);
    }
    void sync() { medium.end_sync(medium.begin_sync()); }

    Random random{1};
    Medium medium{random, kSize, 512, 7};
};

TEST_F(MediumTest, what_was_never_written_reads_as_zeroes) {
    write(40, 3, 'a');
    EXPECT_EQ(read(39), '\0');
    EXPECT_EQ(read(40), 'a');
    EXPECT_EQ(read(42), 'a');
    EXPECT_EQ(read(43), '\0');
    EXPECT_EQ(read(200), '\0');
    medium.zero(range(41, 1), true);
    EXPECT_EQ(read(41), '\0');
}

TEST_F(MediumTest, a_power_cut_keeps_what_was_synced) {
    for (int round = 0; round < 50; ++round) {
        write(0, 20, 'a');
        sync();
        write(100, 20, 'b');
        medium.lose_unsynced();
        for (std::uint64_t at = 0; at < 20; ++at) EXPECT_EQ(read(at), 'a');
    }
}

TEST_F(MediumTest, a_power_cut_loses_any_subset_of_what_was_not_synced) {
    std::set<std::string> seen;
    for (int round = 0; round < 400; ++round) {
        write(0, 3, 'a');
        sync();
        write(0, 3, 'b');
        medium.lose_unsynced();
        std::string left;
        for (std::uint64_t at = 0; at < 3; ++at) left += read(at);
        seen.insert(left);
        EXPECT_EQ(medium.unsynced(), 0u);
    }
    EXPECT_EQ(seen.size(), 8u) << "aaa to bbb, torn anywhere between sectors";
}

TEST_F(MediumTest, of_several_versions_any_may_be_left) {
    std::set<char> seen;
    for (int round = 0; round < 600; ++round) {
        write(9, 1, 'a');
        sync();
        for (const char fill : {'b', 'c', 'd'}) write(9, 1, fill);
        medium.lose_unsynced();
        seen.insert(read(9));
    }
    EXPECT_EQ(seen, (std::set{'a', 'b', 'c', 'd'}));
}

TEST_F(MediumTest, a_sync_covers_what_was_there_when_it_began_and_nothing_later) {
    std::set<char> seen;
    for (int round = 0; round < 200; ++round) {
        write(5, 1, 'a');
        sync();
        write(5, 1, 'b');
        const auto begun = medium.begin_sync();
        write(5, 1, 'c');
        medium.end_sync(begun);
        medium.lose_unsynced();
        seen.insert(read(5));
    }
    EXPECT_EQ(seen, (std::set{'b', 'c'}));
}

TEST_F(MediumTest, a_durable_write_survives_without_a_sync) {
    std::set<char> before;
    std::set<char> after;
    for (int round = 0; round < 200; ++round) {
        write(5, 2, 'a');
        sync();
        write(5, 2, 'b');
        medium.make_durable(range(5, 1));
        medium.lose_unsynced();
        EXPECT_EQ(read(5), 'b');
        before.insert(read(6));
        write(5, 1, 'c');
        medium.make_durable(range(5, 1));
        write(5, 1, 'd');
        medium.lose_unsynced();
        after.insert(read(5));
    }
    EXPECT_EQ(before, (std::set{'a', 'b'}));
    EXPECT_EQ(after, (std::set{'c', 'd'}));
}

TEST_F(MediumTest, blocks_of_4096_bytes_are_not_torn) {
    Medium large(random, kSize, 4096, 7);
    const auto fill = [&](char with) {
        const std::vector bytes(16 * kSectorBytes, static_cast<std::byte>(with));
        large.write(range(8, 16), bytes);
    };
    std::set<std::pair<char, char>> seen;
    for (int round = 0; round < 200; ++round) {
        fill('a');
        large.end_sync(large.begin_sync());
        fill('b');
        large.lose_unsynced();
        std::vector<std::byte> bytes(16 * kSectorBytes);
        large.read(range(8, 16), bytes);
        for (const std::size_t block : {0U, 1U})
            EXPECT_TRUE(
                std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(block * 4096),
                            bytes.begin() + static_cast<std::ptrdiff_t>(block * 4096 + 4096),
                            [&](std::byte b) { return b == bytes[block * 4096]; }));
        seen.emplace(static_cast<char>(bytes[0]), static_cast<char>(bytes[4096]));
    }
    EXPECT_EQ(seen.size(), 4u);
}

TEST_F(MediumTest, after_a_failed_flush_some_changes_are_undone_and_the_rest_is_durable) {
    std::set<char> seen;
    for (int round = 0; round < 100; ++round) {
        write(5, 1, 'a');
        sync();
        write(5, 1, 'b');
        const auto failed = medium.begin_sync();
        write(6, 1, 'c');
        medium.give_up(failed);
        seen.insert(read(5));
        EXPECT_EQ(read(6), 'c');
        const char left = read(5);
        medium.lose_unsynced();
        EXPECT_EQ(read(5), left);
    }
    EXPECT_EQ(seen, (std::set{'a', 'b'}));
}

TEST_F(MediumTest, extents_tell_data_from_holes) {
    write(10, 5, 'a');
    write(100, 40, 'b');
    medium.zero(range(110, 10), true);
    const auto extent = [&](std::uint64_t at) {
        const auto found = medium.extent(SectorIndex(at), SectorCount(kSize.value() - at));
        return std::pair(found.count.value(), found.is_data);
    };
    EXPECT_EQ(extent(0), std::pair(std::uint64_t{10}, false));
    EXPECT_EQ(extent(10), std::pair(std::uint64_t{5}, true));
    EXPECT_EQ(extent(15), std::pair(std::uint64_t{85}, false));
    EXPECT_EQ(extent(100), std::pair(std::uint64_t{10}, true));
    EXPECT_EQ(extent(110), std::pair(std::uint64_t{10}, false));
    EXPECT_EQ(extent(140), std::pair(std::uint64_t{116}, false));
    EXPECT_TRUE(medium.is_allocated(range(120, 20)));
    EXPECT_FALSE(medium.is_allocated(range(119, 2)));
}

/// Random changes, syncs and cuts: what a cut leaves was there at some time since the last sync.
TEST_F(MediumTest, a_power_cut_never_invents_anything) {
    std::map<std::uint64_t, std::vector<char>> versions;  // since the last sync, oldest first
    for (std::uint64_t at = 0; at < kSize.value(); ++at) versions[at] = {'\0'};
    for (int step = 0; step < 5000; ++step) {
        const std::uint64_t count = 1 + random.below(40);
        const std::uint64_t first = random.below(kSize.value() - count);
        const std::uint64_t kind = random.below(20);
        const char fill = kind < 14 ? static_cast<char>('a' + random.below(26)) : '\0';
        if (kind < 16) {
            if (kind < 14)
                write(first, count, fill);
            else
                medium.zero(range(first, count), random.one_in(2));
            if (kind == 0) medium.make_durable(range(first, count));
            for (std::uint64_t at = first; at < first + count; ++at) {
                if (kind == 0) versions[at].clear();
                versions[at].push_back(fill);
            }
        } else if (kind < 18) {
            sync();
            for (auto& [at, each] : versions) each = {each.back()};
        } else {
            if (kind == 18) medium.lose_unsynced();
            for (auto& [at, each] : versions) {
                const char left = read(at);
                if (kind == 18) {
                    EXPECT_NE(std::ranges::find(each, left), each.end()) << "sector " << at;
                    each = {left};
                }
                EXPECT_EQ(left, each.back()) << "sector " << at;
            }
        }
    }
}

}  // namespace
}  // namespace dst::sim
