// Where things are on a node: data from the front, metadata at the end (docs/on-disk.md).
//
//     0        data size                                            node size
//     | data ... | slack | intent | unwritten | stale 0 | ... | stale n-1 | copy 0 | copy 1 |
//                         \__ a bitmap each, of the same whole number of pages __/   32 KiB each
//
// All nodes of a storage have the same `Shape`, which the superblock records; they differ in size
// alone, so in how much slack lies between. Whoever knows where a node ends finds its superblocks,
// and in them the rest. Everything is aligned to pages of 4 KiB: sizes of nodes are rounded down.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "base/units.h"
#include "metadata/region.h"

namespace dst::metadata {

/// What is written at once: as much as any disk takes without reading before.
inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr SectorCount kPageSectors(kPageBytes / kSectorBytes);

inline constexpr std::uint64_t kSuperblockBytes = 32768;
inline constexpr SectorCount kSuperblockSectors(kSuperblockBytes / kSectorBytes);
inline constexpr unsigned kSuperblockCopies = 2;

/// Of a bitmap, in each sector beside its header (bitmap_page.h) and in each page.
inline constexpr std::uint64_t kSectorRegions = 496 * 8;
inline constexpr std::uint64_t kPageRegions = kSectorRegions * kPageBytes / kSectorBytes;
/// A bitmap has at most 128 KiB, so that all of it may be held, sent and written at once.
inline constexpr std::uint64_t kBitmapPagesMax = 32;
inline constexpr RegionCount kRegionsMax(kBitmapPagesMax* kPageRegions);

/// Regions have 64 KiB at least: finer ones would cost more writes of bits than they save copying.
inline constexpr std::uint8_t kRegionShiftMin = 16;
/// With it the largest node's bitmap fits.
inline constexpr std::uint8_t kRegionShiftMax = 44;
/// 2^63 bytes: what a file offset can name.
inline constexpr SectorCount kNodeSizeMax(std::uint64_t{1} << (63 - kSectorShift));

/// Nodes of a storage that hold data; each has a slot.
inline constexpr std::uint8_t kNodesMax = 255;
inline constexpr std::uint8_t kSlotsMax = kNodesMax;
/// Small nodes have room for this many at least, and for twice the nodes they begin with.
inline constexpr std::uint8_t kSlotsMin = 8;
/// From here on (1 GiB) a node has all the slots that there can be: 257 bitmaps cost 0.1 % of it.
inline constexpr SectorCount kAllSlotsSize(std::uint64_t{1} << (30 - kSectorShift));

/// The three kinds of bitmap, by their numbers on disk.
enum class BitmapKind : std::uint8_t {
    intent = 1,     // regions being changed
    unwritten = 2,  // never written since the storage was made: read as zeroes
    stale = 3,      // one bitmap for each slot: regions of that node that may lack a change
};

struct BitmapName {
    BitmapKind kind = BitmapKind::intent;
    std::uint8_t slot = 0;  // of stale ones; else 0

    friend bool operator==(const BitmapName&, const BitmapName&) = default;
};

/// What is alike on all nodes that hold data. On a valid shape alone may the functions be called.
struct Shape {
    SectorCount data_size{};                      // whole pages, never 0
    std::uint8_t region_shift = kRegionShiftMin;  // log2 of a region's bytes
    std::uint8_t slots = 0;                       // stale bitmaps; at least one

    [[nodiscard]] bool is_valid() const;

    [[nodiscard]] SectorCount region_size() const {
        return SectorCount(std::uint64_t{1} << (region_shift - kSectorShift));
    }
    [[nodiscard]] RegionCount regions() const;
    [[nodiscard]] RegionIndex region_of(SectorIndex sector) const {
        return RegionIndex(sector.value() >> (region_shift - kSectorShift));
    }
    /// The regions that `range`, not empty and within the data, touches.
    [[nodiscard]] RegionRange regions_of(SectorRange range) const;
    /// The last region may be shorter than the others.
    [[nodiscard]] SectorRange sectors_of(RegionRange regions) const;
    [[nodiscard]] SectorRange sectors_of(RegionIndex region) const {
        return sectors_of(RegionRange{.first = region, .count = RegionCount(1)});
    }
    /// Pages of each bitmap, and which one holds the bit of a region.
    [[nodiscard]] std::uint32_t bitmap_pages() const;
    [[nodiscard]] static std::uint32_t page_of(RegionIndex region) {
        return static_cast<std::uint32_t>(region.value() / kPageRegions);
    }
    /// All the bitmaps and both superblocks.
    [[nodiscard]] SectorCount metadata_size() const;

    friend bool operator==(const Shape&, const Shape&) = default;
};

/// Whole pages: how much of a device counts.
[[nodiscard]] constexpr SectorCount whole_pages(SectorCount size) {
    return SectorCount(size.value() - size.value() % kPageSectors.value());
}

/// Where copy 0 or 1 is on a node that ends at `node_size`; of a witness too, which holds nothing
/// else. Nothing if the node is too small.
[[nodiscard]] std::optional<SectorRange> superblock_place(SectorCount node_size, unsigned copy);

/// The places on one node.
class Layout {
  public:
    /// Nothing if data and metadata of `shape`, which is valid, don't fit.
    static std::optional<Layout> of(const Shape& shape, SectorCount node_size);

    [[nodiscard]] const Shape& shape() const { return shape_; }
    [[nodiscard]] SectorRange data() const { return {SectorIndex(0), shape_.data_size}; }
    [[nodiscard]] SectorRange superblock(unsigned copy) const;
    /// `name`'s slot is below `shape().slots`.
    [[nodiscard]] SectorRange bitmap(BitmapName name) const;
    [[nodiscard]] SectorRange page(BitmapName name, std::uint32_t page) const;
    /// From the first bitmap to the end.
    [[nodiscard]] SectorRange metadata() const;

  private:
    Layout(const Shape& shape, SectorCount node_size) : shape_(shape), end_(node_size) {}

    Shape shape_;
    SectorCount end_;
};

/// The largest shape for which nodes of these sizes make a storage; the smallest counts. The region
/// size is the smallest for which a bitmap stays within kBitmapPagesMax. A node that is too small
/// (or too large) is refused with numbers; `sizes` are those of nodes that hold data, at least one.
[[nodiscard]] Outcome<Shape> plan_shape(std::span<const SectorCount> sizes);

/// A witness holds superblocks alone.
[[nodiscard]] Outcome<> check_witness_size(SectorCount size);

struct NodeGrowth {
    std::string_view name;  // for a person
    SectorCount old_size;   // as recorded
    SectorCount new_size;
};

/// The largest shape after nodes have grown: as many slots; regions as large as they were, or
/// doubled as often as it takes (bitmap.h merges). Refused if a node shrank, if the data would not
/// grow, or if a node can't have its new metadata without touching the old: there it stays as it is
/// (for a node whose slack takes the data), or comes to lie clear of it.
[[nodiscard]] Outcome<Shape> plan_growth(const Shape& old, std::span<const NodeGrowth> nodes);

}  // namespace dst::metadata
