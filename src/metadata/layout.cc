#include "metadata/layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace dst::metadata {

namespace {

constexpr std::uint64_t kSuperblockPages = kSuperblockCopies * kSuperblockBytes / kPageBytes;
constexpr std::uint8_t kPageShift = 12;
static_assert(1u << kPageShift == kPageBytes);

/// A mirror of less than a region is refused: it would be metadata for the most part.
constexpr std::uint64_t kDataPagesMin = (1u << kRegionShiftMin) / kPageBytes;

constexpr std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return (a + b - 1) / b; }

std::uint64_t pages_of(SectorCount size) { return size.value() / kPageSectors.value(); }
SectorCount sectors_of_pages(std::uint64_t pages) {
    return SectorCount(pages * kPageSectors.value());
}

/// Bitmaps beside the superblocks: intent, unwritten, and one for each slot.
std::uint64_t bitmaps_of(std::uint8_t slots) { return std::uint64_t{2} + slots; }

/// Where a bitmap stands among the others.
std::uint64_t rank_of(BitmapName name) {
    switch (name.kind) {
        case BitmapKind::intent:
            return 0;
        case BitmapKind::unwritten:
            return 1;
        case BitmapKind::stale:
            return std::uint64_t{2} + name.slot;
    }
    CHECK(false);
}

/// Pages of data, at most, that fit a node of `node_pages` with regions of `shift`.
std::uint64_t data_pages_max(std::uint64_t node_pages, std::uint8_t slots, std::uint8_t shift) {
    const std::uint64_t page_covers = kPageRegions << (shift - kPageShift);
    std::uint64_t best = 0;
    for (std::uint64_t pages = 1; pages <= kBitmapPagesMax; ++pages) {
        const std::uint64_t metadata = kSuperblockPages + bitmaps_of(slots) * pages;
        if (metadata >= node_pages) break;
        best = std::max(best, std::min(pages * page_covers, node_pages - metadata));
    }
    return best;
}

/// The largest shape on a node of `size`, with regions of at least `shift_min`: larger ones only
/// for more data than those before can cover.
Shape largest_shape(SectorCount size, std::uint8_t slots, std::uint8_t shift_min) {
    std::uint64_t best = 0;
    std::uint8_t best_shift = shift_min;
    std::uint64_t covered = 0;  // by the regions before
    for (std::uint8_t shift = shift_min; shift <= kRegionShiftMax; ++shift) {
        const std::uint64_t pages = data_pages_max(pages_of(size), slots, shift);
        if (pages <= covered) break;
        best = pages;
        best_shift = shift;
        covered = kRegionsMax.value() << (shift - kPageShift);
    }
    return {.data_size = sectors_of_pages(best), .region_shift = best_shift, .slots = slots};
}

std::string bytes_text(SectorCount size) { return fmt::format("{}", to_bytes(size).value()); }

Outcome<> check_size(SectorCount size, SectorCount minimum, std::string_view what) {
    if (size > kNodeSizeMax)
        return refuse(ErrorCode::out_of_range,
                      fmt::format("{} of {} sectors is too large: at most {} sectors", what,
                                  size.value(), kNodeSizeMax.value()));
    if (whole_pages(size) >= minimum) return {};
    return refuse(ErrorCode::no_space, fmt::format("{} of {} bytes is too small: it needs {} bytes",
                                                   what, bytes_text(size), bytes_text(minimum)));
}

SectorCount smallest_node(std::uint8_t slots) {
    return sectors_of_pages(kSuperblockPages + bitmaps_of(slots) + kDataPagesMin);
}

}  // namespace

bool Shape::is_valid() const {
    if (region_shift < kRegionShiftMin || region_shift > kRegionShiftMax || slots == 0)
        return false;
    return data_size > SectorCount(0) && data_size <= kNodeSizeMax &&
           data_size == whole_pages(data_size) && regions() <= kRegionsMax;
}

RegionCount Shape::regions() const {
    return RegionCount(ceil_div(data_size.value(), region_size().value()));
}

RegionRange Shape::regions_of(SectorRange range) const {
    CHECK(range.count > SectorCount(0) && range.fits(data_size));
    const RegionIndex first = region_of(range.first);
    const RegionIndex last = region_of(range.first + (range.count - SectorCount(1)));
    return {.first = first, .count = last - first + RegionCount(1)};
}

SectorRange Shape::sectors_of(RegionRange regions_asked) const {
    CHECK(regions_asked.end().value() <= regions().value());
    const auto sector_at = [this](RegionIndex region) {
        return SectorIndex(
            std::min(region.value() << (region_shift - kSectorShift), data_size.value()));
    };
    const SectorIndex first = sector_at(regions_asked.first);
    return {first, sector_at(regions_asked.end()) - first};
}

std::uint32_t Shape::bitmap_pages() const {
    return static_cast<std::uint32_t>(ceil_div(regions().value(), kPageRegions));
}

SectorCount Shape::metadata_size() const {
    return sectors_of_pages(kSuperblockPages + bitmaps_of(slots) * bitmap_pages());
}

std::optional<SectorRange> superblock_place(SectorCount node_size, unsigned copy) {
    CHECK(copy < kSuperblockCopies);
    const SectorCount end = whole_pages(node_size);
    if (end > kNodeSizeMax || end < sectors_of_pages(kSuperblockPages)) return std::nullopt;
    const SectorCount from_end((kSuperblockCopies - copy) * kSuperblockSectors.value());
    return SectorRange{SectorIndex((end - from_end).value()), kSuperblockSectors};
}

std::optional<Layout> Layout::of(const Shape& shape, SectorCount node_size) {
    CHECK(shape.is_valid());
    const SectorCount end = whole_pages(node_size);
    if (end > kNodeSizeMax || end < shape.metadata_size() ||
        end - shape.metadata_size() < shape.data_size)
        return std::nullopt;
    return Layout(shape, end);
}

SectorRange Layout::superblock(unsigned copy) const { return *superblock_place(end_, copy); }

SectorRange Layout::bitmap(BitmapName name) const {
    CHECK(name.slot < shape_.slots);
    const SectorCount size = sectors_of_pages(shape_.bitmap_pages());
    return {metadata().first + SectorCount(rank_of(name) * size.value()), size};
}

SectorRange Layout::page(BitmapName name, std::uint32_t page) const {
    CHECK(page < shape_.bitmap_pages());
    return {bitmap(name).first + sectors_of_pages(page), kPageSectors};
}

SectorRange Layout::metadata() const {
    const SectorCount size = shape_.metadata_size();
    return {SectorIndex((end_ - size).value()), size};
}

Outcome<Shape> plan_shape(std::span<const SectorCount> sizes) {
    CHECK(!sizes.empty());
    if (sizes.size() > kNodesMax)
        return refuse(
            fmt::format("a storage has at most {} nodes, not {}", kNodesMax, sizes.size()));
    const SectorCount smallest = whole_pages(std::ranges::min(sizes));
    const auto twice =
        static_cast<std::uint8_t>(std::clamp<std::size_t>(2 * sizes.size(), kSlotsMin, kSlotsMax));
    const std::uint8_t slots = smallest >= kAllSlotsSize ? kSlotsMax : twice;
    for (const SectorCount size : sizes) TRY_VOID(check_size(size, smallest_node(slots), "a node"));
    return largest_shape(smallest, slots, kRegionShiftMin);
}

Outcome<> check_witness_size(SectorCount size) {
    return check_size(size, sectors_of_pages(kSuperblockPages), "a witness");
}

namespace {

/// By how many bytes the new metadata of a node reaches into the old, which is still needed: 0 if
/// that stays where it is, or is left alone.
std::uint64_t bytes_overlapping(const Shape& from, const Shape& to, const NodeGrowth& node) {
    const auto before = Layout::of(from, node.old_size);
    const auto after = Layout::of(to, node.new_size);
    CHECK(before && after);
    const bool stays =
        before->metadata() == after->metadata() && from.region_shift == to.region_shift;
    if (stays || !before->metadata().overlaps(after->metadata())) return 0;
    return to_bytes(before->metadata().end() - after->metadata().first).value();
}

}  // namespace

Outcome<Shape> plan_growth(const Shape& old, std::span<const NodeGrowth> nodes) {
    CHECK(old.is_valid() && !nodes.empty());
    const NodeGrowth* smallest = &nodes.front();
    for (const NodeGrowth& node : nodes) {
        TRY_VOID(check_size(node.new_size, node.old_size, node.name));
        if (node.new_size < smallest->new_size) smallest = &node;
    }
    const Shape shape = largest_shape(smallest->new_size, old.slots, old.region_shift);
    if (shape.data_size <= old.data_size)
        return refuse(
            ErrorCode::no_space,
            fmt::format("{} has {} bytes, room for no more data than the {} bytes there "
                        "are: let it grow first",
                        smallest->name, bytes_text(smallest->new_size), bytes_text(old.data_size)));
    for (const NodeGrowth& node : nodes)
        if (const std::uint64_t missing = bytes_overlapping(old, shape, node); missing > 0)
            return refuse(ErrorCode::no_space,
                          fmt::format("{} has grown too little for its metadata to be written anew "
                                      "beside the old: let it grow by {} bytes more",
                                      node.name, missing));
    return shape;
}

}  // namespace dst::metadata
