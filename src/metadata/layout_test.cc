#include "metadata/layout.h"

#include <gtest/gtest.h>

#include <random>

namespace dst::metadata {
namespace {

constexpr std::uint64_t kKibi = 1 << 10;
constexpr std::uint64_t kMebi = 1 << 20;
constexpr std::uint64_t kGibi = 1 << 30;

SectorCount bytes(std::uint64_t count) { return *sectors_exact(ByteCount(count)); }

Shape shape_of(std::initializer_list<SectorCount> sizes) {
    const auto shape = plan_shape(std::vector(sizes));
    EXPECT_TRUE(shape) << shape.error().text;
    return *shape;
}

TEST(Layout, data_lies_in_front_and_metadata_at_the_end) {
    const Shape shape = shape_of({bytes(64 * kMebi), bytes(65 * kMebi)});
    EXPECT_EQ(shape, (Shape{.data_size = bytes(64 * kMebi - (64 + 10 * 4) * kKibi),
                            .region_shift = 16,
                            .slots = 8}));
    const auto layout = Layout::of(shape, bytes(65 * kMebi));
    ASSERT_TRUE(layout);
    EXPECT_EQ(layout->data(), (SectorRange{SectorIndex(0), shape.data_size}));
    const auto at = [](std::uint64_t before_end) {
        return SectorIndex((65 * kMebi - before_end) / kSectorBytes);
    };
    EXPECT_EQ(layout->superblock(1), (SectorRange{at(32 * kKibi), bytes(32 * kKibi)}));
    EXPECT_EQ(layout->superblock(0), (SectorRange{at(64 * kKibi), bytes(32 * kKibi)}));
    EXPECT_EQ(layout->bitmap({BitmapKind::stale, 7}).first, at(68 * kKibi));
    EXPECT_EQ(layout->bitmap({BitmapKind::stale, 0}).first, at(96 * kKibi));
    EXPECT_EQ(layout->bitmap({BitmapKind::unwritten, 0}).first, at(100 * kKibi));
    EXPECT_EQ(layout->bitmap({BitmapKind::intent, 0}).first, at(104 * kKibi));
    EXPECT_EQ(layout->metadata(), (SectorRange{at(104 * kKibi), bytes(104 * kKibi)}));
}

TEST(Layout, places_do_not_overlap_and_lie_on_the_node) {
    std::mt19937_64 random(7);
    for (int round = 0; round < 300; ++round) {
        const SectorCount size(2048 + (random() >> (11 + random() % 40)) % kNodeSizeMax.value());
        const Shape shape = shape_of({size});
        const auto layout = Layout::of(shape, size);
        ASSERT_TRUE(layout) << size.value();
        std::vector<SectorRange> places{layout->data()};
        places.push_back(layout->bitmap({BitmapKind::intent, 0}));
        places.push_back(layout->bitmap({BitmapKind::unwritten, 0}));
        for (unsigned slot = 0; slot < shape.slots; ++slot)
            places.push_back(layout->bitmap({BitmapKind::stale, static_cast<std::uint8_t>(slot)}));
        places.push_back(layout->superblock(0));
        places.push_back(layout->superblock(1));
        for (std::size_t i = 0; i < places.size(); ++i) {
            EXPECT_EQ(places[i].first.value() % kPageSectors.value(), 0U);
            EXPECT_EQ(places[i].count.value() % kPageSectors.value(), 0U);
            EXPECT_TRUE(places[i].fits(size));
            if (i > 0) EXPECT_LE(places[i - 1].end(), places[i].first);
        }
        EXPECT_EQ(places.back().end().value(), whole_pages(size).value());
        EXPECT_EQ(layout->metadata().first, places[1].first);
    }
}

TEST(Layout, regions_are_the_smallest_for_which_a_bitmap_has_128_KiB_and_data_the_most_that_fits) {
    std::mt19937_64 random(8);
    for (int round = 0; round < 2000; ++round) {
        const SectorCount size(2048 + (random() >> (11 + random() % 40)) % kNodeSizeMax.value());
        const Shape shape = shape_of({size});
        ASSERT_TRUE(shape.is_valid());
        ASSERT_LE(shape.bitmap_pages(), kBitmapPagesMax);
        if (shape.region_shift > kRegionShiftMin) {
            Shape finer = shape;
            --finer.region_shift;
            ASSERT_FALSE(finer.is_valid()) << size.value();
        }
        // A page more, with whatever regions the rule gives it, fits no more.
        Shape more = shape;
        more.data_size += kPageSectors;
        while (!more.is_valid()) ++more.region_shift;
        ASSERT_FALSE(Layout::of(more, size)) << size.value();
    }
}

TEST(Layout, the_smallest_node_counts) {
    EXPECT_EQ(shape_of({bytes(3 * kGibi), bytes(2 * kGibi), bytes(5 * kGibi)}),
              shape_of({bytes(2 * kGibi)}));
    // What is beyond the last whole page does not count.
    EXPECT_EQ(shape_of({bytes(2 * kGibi) + SectorCount(7)}), shape_of({bytes(2 * kGibi)}));
}

TEST(Layout, nodes_of_a_gibibyte_have_all_slots_and_smaller_ones_twice_what_they_begin_with) {
    EXPECT_EQ(shape_of({bytes(kGibi)}).slots, 255);
    EXPECT_EQ(shape_of({bytes(kGibi - 4 * kKibi)}).slots, 8);
    EXPECT_EQ(shape_of({bytes(kGibi), bytes(512 * kMebi)}).slots, 8);
    const std::vector<SectorCount> twenty(20, bytes(64 * kMebi));
    EXPECT_EQ(plan_shape(twenty)->slots, 40);
    const std::vector<SectorCount> many(201, bytes(64 * kMebi));
    EXPECT_EQ(plan_shape(many)->slots, 255);
}

TEST(Layout, a_node_too_small_or_too_large_is_refused_with_numbers) {
    const SectorCount small[] = {bytes(64 * kMebi), bytes(164 * kKibi)};
    EXPECT_EQ(plan_shape(small).error().text,
              "a node of 167936 bytes is too small: it needs 172032 bytes");
    EXPECT_EQ(shape_of({bytes(168 * kKibi)}).data_size, bytes(64 * kKibi));
    const SectorCount large[] = {kNodeSizeMax + SectorCount(8)};
    EXPECT_EQ(plan_shape(large).error().code, ErrorCode::out_of_range);
    EXPECT_TRUE(shape_of({kNodeSizeMax}).is_valid());
    const std::vector<SectorCount> many(256, bytes(64 * kMebi));
    EXPECT_FALSE(plan_shape(many));
}

TEST(Layout, a_witness_has_room_for_its_superblocks) {
    EXPECT_TRUE(check_witness_size(bytes(64 * kKibi)));
    EXPECT_EQ(check_witness_size(bytes(60 * kKibi)).error().text,
              "a witness of 61440 bytes is too small: it needs 65536 bytes");
    EXPECT_EQ(superblock_place(bytes(64 * kKibi), 0),
              (SectorRange{SectorIndex(0), bytes(32 * kKibi)}));
    EXPECT_EQ(superblock_place(bytes(60 * kKibi), 0), std::nullopt);
}

TEST(Layout, regions_and_sectors_translate_to_each_other) {
    const Shape shape{
        .data_size = bytes(10 * 64 * kKibi + 4 * kKibi), .region_shift = 16, .slots = 8};
    EXPECT_EQ(shape.regions(), RegionCount(11));
    EXPECT_EQ(shape.regions_of({SectorIndex(127), SectorCount(2)}),
              (RegionRange{RegionIndex(0), RegionCount(2)}));
    EXPECT_EQ(shape.regions_of({SectorIndex(128), SectorCount(128)}),
              (RegionRange{RegionIndex(1), RegionCount(1)}));
    EXPECT_EQ(shape.sectors_of(RegionIndex(10)), (SectorRange{SectorIndex(1280), SectorCount(8)}));
    EXPECT_EQ(shape.sectors_of(RegionRange{RegionIndex(9), RegionCount(2)}),
              (SectorRange{SectorIndex(1152), SectorCount(136)}));
    EXPECT_EQ(Shape::page_of(RegionIndex(31743)), 0U);
    EXPECT_EQ(Shape::page_of(RegionIndex(31744)), 1U);
}

TEST(Layout, a_shape_that_cannot_be_is_not_valid) {
    const Shape good{.data_size = bytes(kMebi), .region_shift = 16, .slots = 1};
    EXPECT_TRUE(good.is_valid());
    for (const auto& spoil : std::vector<void (*)(Shape&)>{
             [](Shape& shape) { shape.data_size = SectorCount(0); },
             [](Shape& shape) { shape.data_size += SectorCount(1); },
             [](Shape& shape) { shape.data_size = SectorCount(UINT64_MAX - 7); },
             [](Shape& shape) { shape.data_size = bytes(128 * kGibi); },
             [](Shape& shape) { shape.region_shift = 15; },
             [](Shape& shape) { shape.region_shift = 45; },
             [](Shape& shape) { shape.region_shift = 255; },
             [](Shape& shape) { shape.slots = 0; }}) {
        Shape spoiled = good;
        spoil(spoiled);
        EXPECT_FALSE(spoiled.is_valid());
    }
}

TEST(Growth, keeps_slots_and_regions) {
    const Shape old = shape_of({bytes(64 * kMebi), bytes(64 * kMebi)});
    const NodeGrowth nodes[] = {{"a", bytes(64 * kMebi), bytes(128 * kMebi)},
                                {"b", bytes(64 * kMebi), bytes(65 * kMebi)}};
    const auto grown = plan_growth(old, nodes);
    ASSERT_TRUE(grown) << grown.error().text;
    EXPECT_EQ(grown->region_shift, 16);
    EXPECT_EQ(grown->slots, 8);
    EXPECT_EQ(grown->data_size, old.data_size + bytes(kMebi));
}

TEST(Growth, leaves_a_node_alone_whose_slack_takes_the_data) {
    const Shape old = shape_of({bytes(64 * kMebi), bytes(256 * kMebi)});
    const NodeGrowth nodes[] = {{"a", bytes(64 * kMebi), bytes(128 * kMebi)},
                                {"b", bytes(256 * kMebi), bytes(256 * kMebi)}};
    const auto grown = plan_growth(old, nodes);
    ASSERT_TRUE(grown) << grown.error().text;
    EXPECT_EQ(grown->data_size, old.data_size + bytes(64 * kMebi));
}

TEST(Growth, doubles_the_regions_when_they_no_longer_fit) {
    const Shape old = shape_of({bytes(60 * kGibi)});
    ASSERT_EQ(old.region_shift, 16);
    const NodeGrowth nodes[] = {{"a", bytes(60 * kGibi), bytes(1024 * kGibi)}};
    const auto grown = plan_growth(old, nodes);
    ASSERT_TRUE(grown) << grown.error().text;
    EXPECT_EQ(grown->region_shift, shape_of({bytes(1024 * kGibi)}).region_shift);
    EXPECT_EQ(grown->region_shift, 21);
    // And it never goes back to finer ones.
    const NodeGrowth small[] = {{"a", bytes(64 * kMebi), bytes(128 * kMebi)}};
    Shape coarse = shape_of({bytes(64 * kMebi)});
    coarse.region_shift = 20;
    EXPECT_EQ(plan_growth(coarse, small)->region_shift, 20);
}

TEST(Growth, that_is_none_or_would_overwrite_metadata_is_refused) {
    const Shape old = shape_of({bytes(64 * kMebi), bytes(65 * kMebi)});
    const NodeGrowth only_one[] = {{"a", bytes(64 * kMebi), bytes(64 * kMebi)},
                                   {"b", bytes(65 * kMebi), bytes(128 * kMebi)}};
    const auto none = plan_growth(old, only_one);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().text,
              "a has 67108864 bytes, room for no more data than the 67002368 bytes there are: let "
              "it grow first");
    const NodeGrowth shrunk[] = {{"a", bytes(64 * kMebi), bytes(63 * kMebi)}};
    EXPECT_FALSE(plan_growth(old, shrunk));
    const NodeGrowth a_little[] = {{"a", bytes(64 * kMebi), bytes(128 * kMebi)},
                                   {"b", bytes(65 * kMebi), bytes(65 * kMebi + 8 * kKibi)}};
    const auto refused = plan_growth(old, a_little);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().text,
              "b has grown too little for its metadata to be written anew beside the old: let it "
              "grow by 98304 bytes more");
    // Just as much as its metadata takes is enough.
    const NodeGrowth enough[] = {{"a", bytes(64 * kMebi), bytes(128 * kMebi)},
                                 {"b", bytes(65 * kMebi), bytes(65 * kMebi) + old.metadata_size()}};
    EXPECT_TRUE(plan_growth(old, enough));
}

}  // namespace
}  // namespace dst::metadata
