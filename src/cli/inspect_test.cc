#include "cli/inspect.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "io/uring/test_reactor.h"
#include "metadata/test_support.h"

namespace dst::cli {
namespace {

using metadata::BitmapKind;
using metadata::kSuperblockBytes;
using metadata::NodeRecord;

/// A disk in memory; `on_read` may change it, or fail, before a read.
class Disk final : public block::Device {
  public:
    explicit Disk(SectorCount size) : bytes(to_bytes(size).value()) {}
    block::Geometry geometry() const override {
        return {.size = sectors_floor(ByteCount(bytes.size())), .block_bytes = block_bytes};
    }
    std::uint64_t instance() const override { return 1; }
    async::Task<Result<>> execute(block::Request& request) override {
        CHECK(request.op == block::Op::read && request.range.fits(geometry().size));
        if (on_read) CO_TRY_VOID(on_read(request.range));
        const auto at = to_bytes(request.range.first).value();
        std::memcpy(request.data.data(), &bytes[at], request.data.size());
        co_return Result<>{};
    }
    void put(SectorIndex at, std::span<const std::byte> from) {
        std::ranges::copy(from, bytes.begin() + static_cast<std::ptrdiff_t>(to_bytes(at).value()));
    }

    std::vector<std::byte> bytes;
    std::uint32_t block_bytes = 512;
    std::function<Result<>(SectorRange)> on_read;
};

class Inspect : public testing::Test {
  protected:
    Inspect() {
        metadata::Bitmap intent(shape().regions());
        intent.set(metadata::RegionRange{metadata::RegionIndex(3), metadata::RegionCount(5)});
        put_bitmap({.kind = BitmapKind::intent}, intent);
        put_bitmap({.kind = BitmapKind::unwritten}, metadata::Bitmap(shape().regions(), true));
        for (std::uint8_t slot = 0; slot < shape().slots; ++slot)
            put_bitmap({.kind = BitmapKind::stale, .slot = slot},
                       metadata::Bitmap(shape().regions()));
        put_superblock(0, superblock);
        put_superblock(1, superblock);
    }

    [[nodiscard]] const metadata::Shape& shape() const { return superblock.form.shape; }
    [[nodiscard]] metadata::Layout layout() const {
        return *metadata::Layout::of(shape(), superblock.self().size);
    }
    void put_bitmap(metadata::BitmapName name, const metadata::Bitmap& bitmap) {
        for (std::uint32_t page = 0; page < shape().bitmap_pages(); ++page) {
            std::array<std::byte, metadata::kPageBytes> bytes;
            encode_page(bytes, superblock.form.storage_id, name, page, bitmap);
            disk.put(layout().page(name, page).first, bytes);
        }
    }
    void put_superblock(unsigned copy, const metadata::Superblock& what) {
        std::array<std::byte, kSuperblockBytes> bytes;
        encode_superblock(bytes, what);
        disk.put(layout().superblock(copy).first, bytes);
    }
    void spoil(SectorIndex at) { disk.bytes[to_bytes(at).value() + 20] ^= std::byte{1}; }

    Outcome<Inspection> look(std::optional<SectorCount> end = {}) {
        return reactor->block_on(inspect(reactor->world().clock, disk, "disk", end));
    }
    std::string problem(std::optional<SectorCount> end = {}) {
        const auto found = look(end);
        return found ? "none" : found.error().text;
    }

    io::uring::TestReactor reactor;
    metadata::Superblock superblock{metadata::test::two_nodes_and_witness(), 0xc1, 42};
    Disk disk{superblock.self().size};
};

TEST_F(Inspect, sums_up_the_bitmaps_of_the_nodes_in_the_table) {
    const auto found = look();
    ASSERT_TRUE(found) << found.error().text;
    EXPECT_EQ(found->superblock, superblock);
    ASSERT_EQ(found->bitmaps.size(), 4U);
    EXPECT_EQ(found->bitmaps[0].set, metadata::RegionCount(5));
    EXPECT_EQ(found->bitmaps[1].set, shape().regions());
    EXPECT_EQ(found->bitmaps[3].name, (metadata::BitmapName{BitmapKind::stale, 1}));
    EXPECT_EQ(found->bitmaps[3].set, metadata::RegionCount(0));
}

TEST_F(Inspect, reads_again_what_is_being_written) {
    spoil(layout().superblock(0).first);
    spoil(layout().page({.kind = BitmapKind::intent}, 0).first);
    int reads = 0;
    disk.on_read = [&](SectorRange range) -> Result<> {
        if (range.first == layout().superblock(0).first && ++reads == 2) spoil(range.first);
        if (range.first == layout().bitmap({.kind = BitmapKind::intent}).first && ++reads == 4)
            spoil(range.first);
        return {};
    };
    const auto found = look();
    ASSERT_TRUE(found) << found.error().text;
    EXPECT_TRUE(found->copies[0]);
    EXPECT_EQ(found->bitmaps[0].damaged_sectors, 0U);
}

TEST_F(Inspect, tells_of_damage_that_stays_and_goes_on) {
    spoil(layout().superblock(1).first);
    spoil(layout().page({.kind = BitmapKind::unwritten}, 0).first);
    const SectorIndex bad = layout().bitmap({.kind = BitmapKind::stale, .slot = 0}).first;
    disk.on_read = [bad](SectorRange range) -> Result<> {
        if (range.first == bad) return fail(ErrorCode::io_error, "test");
        return {};
    };
    const auto found = look();
    ASSERT_TRUE(found) << found.error().text;
    EXPECT_TRUE(found->copies[0]);
    EXPECT_FALSE(found->copies[1]);
    EXPECT_EQ(found->bitmaps[1].damaged_sectors, 1U);
    EXPECT_FALSE(found->bitmaps[1].set > metadata::RegionCount(0));
    EXPECT_TRUE(found->bitmaps[2].unreadable);
    EXPECT_NE(to_text(*found).find("stale 0 (00000000000000c0)  -    can't be read"),
              std::string::npos)
        << to_text(*found);
    const auto json = nlohmann::json::parse(to_json(*found));
    EXPECT_EQ(json["copies"][1]["state"], "damaged");
    EXPECT_TRUE(json["bitmaps"][2].contains("error"));
}

TEST_F(Inspect, of_a_witness_shows_the_table_alone) {
    superblock.cookie = 0xc2;
    disk = Disk(superblock.self().size);
    std::array<std::byte, kSuperblockBytes> bytes;
    encode_superblock(bytes, superblock);
    disk.put(SectorIndex(0), bytes);
    disk.put(SectorIndex(64), bytes);
    const auto found = look();
    ASSERT_TRUE(found) << found.error().text;
    EXPECT_TRUE(found->bitmaps.empty());
    EXPECT_EQ(to_text(*found).find("BITMAP"), std::string::npos);
}

TEST_F(Inspect, says_what_is_no_node) {
    EXPECT_EQ(problem(SectorCount(64)),
              "disk: has 64 sectors, too few for a node: its superblocks alone take 128");
    EXPECT_EQ(problem(superblock.self().size + SectorCount(1)),
              "disk: has 133120 sectors, so it never ended at sector 133121: correct --size");
    EXPECT_EQ(problem(SectorCount(1024)).substr(0, 62),
              "disk: is no node: it is blank where a node has its metadata, i");
    disk.bytes[512] = std::byte{1};
    EXPECT_EQ(problem(SectorCount(128)).substr(0, 54),
              "disk: is no node: it holds something else where a node");
    disk.block_bytes = 8192;
    EXPECT_EQ(
        problem(),
        "disk: is read in blocks of 8192 bytes, and metadata stands at multiples of 4096: use "
        "another way to it");
    disk.block_bytes = 512;
    disk.on_read = [](SectorRange) -> Result<> { return fail(ErrorCode::io_error, "test"); };
    EXPECT_EQ(problem().substr(0, 40), "disk: can't be read at sector 132992: I/");
}

TEST_F(Inspect, of_a_node_that_was_cut_off_says_so) {
    // Its superblocks were copied to an end that came too early for what they say.
    disk = Disk(SectorCount(4096));
    std::array<std::byte, kSuperblockBytes> bytes;
    encode_superblock(bytes, superblock);
    disk.put(SectorIndex(4096 - 128), bytes);
    disk.put(SectorIndex(4096 - 64), bytes);
    EXPECT_EQ(problem(),
              "disk: ends at sector 4096, too early for the data of 122880 sectors that its "
              "superblock tells of: it was cut off");
}

TEST_F(Inspect, prints_what_a_peer_may_have_called_itself_without_harm) {
    superblock.form.nodes[0].type = "L: \xff\xfe";
    put_superblock(0, superblock);
    put_superblock(1, superblock);
    const auto found = look();
    ASSERT_TRUE(found);
    EXPECT_TRUE(nlohmann::json::accept(to_json(*found)));
}

}  // namespace
}  // namespace dst::cli
