#include "sim/check/stamp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <span>

namespace dst::sim::check {
namespace {

using Kind = Content::Kind;
using Sectors = std::array<std::byte, 4 * kSectorBytes>;

constexpr Place kFirst{.volume = 3, .sector = SectorIndex(100)};

std::span<std::byte> sector(Sectors& sectors, std::size_t at) {
    return std::span(sectors).subspan(at * kSectorBytes, kSectorBytes);
}

Place place(std::uint64_t at) { return {.volume = 3, .sector = SectorIndex(100 + at)}; }

TEST(StampTest, each_sector_tells_its_write_and_its_place) {
    Sectors sectors;
    fill(sectors, kFirst, 77);
    for (std::size_t at = 0; at < 4; ++at) {
        const Content found = look(sector(sectors, at), place(at));
        EXPECT_EQ(found.kind, Kind::stamp);
        EXPECT_EQ(found.write, 77u);
    }
}

TEST(StampTest, a_sector_of_another_place_or_volume_is_misplaced) {
    Sectors sectors;
    fill(sectors, kFirst, 77);
    const Content found = look(sector(sectors, 2), place(1));
    EXPECT_EQ(found.kind, Kind::misplaced);
    EXPECT_EQ(found.place, place(2));
    EXPECT_EQ(look(sector(sectors, 0), {.volume = 4, .sector = SectorIndex(100)}).kind,
              Kind::misplaced);
}

TEST(StampTest, a_sector_of_two_writes_is_torn_wherever_the_cut_is) {
    Sectors old;
    Sectors fresh;
    fill(old, kFirst, 1);
    fill(fresh, kFirst, 2);
    for (std::size_t cut = 8; cut < kSectorBytes; cut += 8) {
        Sectors mixed = old;
        std::copy_n(fresh.begin(), cut, mixed.begin());
        EXPECT_EQ(look(sector(mixed, 0), place(0)).kind, Kind::torn) << cut;
    }
}

TEST(StampTest, any_byte_that_differs_is_seen) {
    Sectors sectors;
    fill(sectors, kFirst, 77);
    for (std::size_t at = 0; at < kSectorBytes; ++at) {
        Sectors damaged = sectors;
        damaged[at] ^= std::byte{0x10};
        EXPECT_NE(look(sector(damaged, 0), place(0)).kind, Kind::stamp) << at;
    }
}

TEST(StampTest, zeroes_are_zeroes_and_anything_else_is_alien) {
    Sectors sectors{};
    EXPECT_EQ(look(sector(sectors, 0), place(0)).kind, Kind::zero);
    sectors[17] = std::byte{1};
    EXPECT_EQ(look(sector(sectors, 0), place(0)).kind, Kind::alien);
    sectors.fill(std::byte{0xdb});
    EXPECT_EQ(look(sector(sectors, 0), place(0)).kind, Kind::alien);
}

}  // namespace
}  // namespace dst::sim::check
