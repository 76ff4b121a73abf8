#include "metadata/bitmap_page.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "metadata/test_support.h"

namespace dst::metadata {
namespace {

using Page = std::array<std::byte, kPageBytes>;

constexpr BitmapName kIntent{.kind = BitmapKind::intent, .slot = 0};
constexpr BitmapName kUnwritten{.kind = BitmapKind::unwritten, .slot = 0};
constexpr BitmapName kStale{.kind = BitmapKind::stale, .slot = 7};

Bitmap random_bitmap(std::uint64_t regions, unsigned seed) {
    std::mt19937_64 random(seed);
    Bitmap bitmap{RegionCount(regions)};
    for (std::size_t i = 0; i < bitmap.words().size(); ++i) bitmap.set_word(i, random());
    return bitmap;
}

Page encoded(const Bitmap& bitmap, BitmapName name, std::uint32_t page) {
    Page bytes;
    encode_page(bytes, test::storage_id(1), name, page, bitmap);
    return bytes;
}

DamagedSectors decoded(const Page& bytes, BitmapName name, std::uint32_t page, Bitmap& bitmap) {
    return decode_page(bytes, test::storage_id(1), name, page, bitmap);
}

TEST(BitmapPage, comes_back_as_it_was_written) {
    for (const std::uint64_t regions :
         {std::uint64_t{1}, std::uint64_t{63}, kSectorRegions, kSectorRegions + 1, kPageRegions - 1,
          kPageRegions, kPageRegions + 1, 3 * kPageRegions - 65, kRegionsMax.value()}) {
        for (const BitmapName name : {kIntent, kUnwritten, kStale}) {
            const Bitmap bitmap = random_bitmap(regions, 1);
            Bitmap back{RegionCount(regions)};
            for (std::uint32_t page = 0; page * kPageRegions < regions; ++page)
                ASSERT_EQ(decoded(encoded(bitmap, name, page), name, page, back), 0);
            ASSERT_EQ(back, bitmap) << regions;
        }
    }
}

TEST(BitmapPage, a_single_wrong_bit_damages_its_sector_alone) {
    const Bitmap bitmap = random_bitmap(kPageRegions, 2);
    Page bytes = encoded(bitmap, kStale, 0);
    for (std::size_t bit = 0; bit < kPageBytes * 8; ++bit) {
        bytes[bit / 8] ^= std::byte{1} << (bit % 8);
        Bitmap back{RegionCount(kPageRegions)};
        const auto sector = static_cast<unsigned>(bit / 8 / kSectorBytes);
        ASSERT_EQ(decoded(bytes, kStale, 0, back), 1u << sector) << bit;
        bytes[bit / 8] ^= std::byte{1} << (bit % 8);
        if (bit % 509 != 0) continue;
        Bitmap expected = bitmap;
        expected.set(regions_of_sector(bitmap, 0, sector));
        ASSERT_EQ(back, expected) << bit;
    }
}

TEST(BitmapPage, of_what_is_damaged_the_safe_is_believed) {
    const Page nothing{};
    for (const BitmapName name : {kIntent, kStale}) {
        Bitmap bitmap{RegionCount(kPageRegions)};
        EXPECT_EQ(decoded(nothing, name, 0, bitmap), 0xff);
        EXPECT_EQ(bitmap.count(), bitmap.size());
    }
    Bitmap unwritten(RegionCount(kPageRegions), true);
    EXPECT_EQ(decoded(nothing, kUnwritten, 0, unwritten), 0xff);
    EXPECT_FALSE(unwritten.any());
}

TEST(BitmapPage, of_another_storage_or_kind_or_slot_or_place_does_not_pass) {
    const Bitmap bitmap = random_bitmap(2 * kPageRegions, 3);
    const Page bytes = encoded(bitmap, kStale, 0);
    Bitmap back{bitmap.size()};
    EXPECT_EQ(decode_page(bytes, test::storage_id(2), kStale, 0, back), 0xff);
    EXPECT_EQ(decoded(bytes, kIntent, 0, back), 0xff);
    EXPECT_EQ(decoded(bytes, {.kind = BitmapKind::stale, .slot = 6}, 0, back), 0xff);
    EXPECT_EQ(decoded(bytes, kStale, 1, back), 0xff);
    Page shifted = bytes;
    std::ranges::copy(std::span(bytes).first(kSectorBytes), shifted.begin() + kSectorBytes);
    EXPECT_EQ(decoded(shifted, kStale, 0, back), 1u << 1);
}

TEST(BitmapPage, that_was_torn_has_each_sector_old_or_new) {
    const Bitmap before = random_bitmap(kPageRegions, 4);
    const Bitmap after = random_bitmap(kPageRegions, 5);
    const Page old_bytes = encoded(before, kIntent, 0);
    const Page new_bytes = encoded(after, kIntent, 0);
    for (unsigned written = 0; written < 256; ++written) {
        Page torn = old_bytes;
        Bitmap expected = before;
        for (unsigned sector = 0; sector < kPageSectorCount; ++sector) {
            if ((written >> sector & 1) == 0) continue;
            std::copy_n(new_bytes.begin() + sector * kSectorBytes, kSectorBytes,
                        torn.begin() + sector * kSectorBytes);
            const RegionRange regions = regions_of_sector(before, 0, sector);
            for (auto i = regions.first; i < regions.end(); ++i)
                after.test(i) ? expected.set(i) : expected.clear(i);
        }
        Bitmap back{RegionCount(kPageRegions)};
        ASSERT_EQ(decoded(torn, kIntent, 0, back), 0);
        ASSERT_EQ(back, expected) << written;
    }
}

TEST(BitmapPage, sectors_and_bits_beyond_the_last_region_count_for_nothing) {
    // As when a storage grows within its last page: the longer bitmap is written first.
    const Bitmap longer(RegionCount(kSectorRegions + 100), true);
    Page bytes = encoded(longer, kUnwritten, 0);
    bytes[3 * kSectorBytes] ^= std::byte{1};
    Bitmap shorter{RegionCount(kSectorRegions + 3)};
    EXPECT_EQ(decoded(bytes, kUnwritten, 0, shorter), 0);
    EXPECT_EQ(shorter.count(), shorter.size());
}

}  // namespace
}  // namespace dst::metadata
