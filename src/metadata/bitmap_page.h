// Bitmaps on disk: pages of 4 KiB, made of sectors that stand each for itself.
//
// A page is what is written; a power cut may leave some of its sectors old and some new. So each
// sector has a header and a checksum of its own, and a torn page has no damaged sector: each holds
// what it held before or what it should hold now. The checksum also covers which storage, bitmap
// and place the sector belongs to, so one that was written or read elsewhere doesn't pass.
//
//     sector: | magic 4 | kind 1 | slot 1 | zero 2 | index 4 | CRC32C 4 | 496 bytes of bits |
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "metadata/bitmap.h"
#include "metadata/form.h"
#include "metadata/layout.h"

namespace dst::metadata {

inline constexpr unsigned kPageSectorCount = kPageBytes / kSectorBytes;

using PageSpan = std::span<std::byte, kPageBytes>;
using ConstPageSpan = std::span<const std::byte, kPageBytes>;

/// Which sectors of a page are damaged: bit i for sector i.
using DamagedSectors = std::uint8_t;

/// Page `page` of `bitmap`, which has a bit of it. Bits beyond the last region are zero.
void encode_page(PageSpan to, const StorageId& storage, BitmapName name, std::uint32_t page,
                 const Bitmap& bitmap);

/// Puts into `bitmap` what the page says. Regions of a damaged sector get what is safe to believe:
/// stale and intent are set, unwritten is cleared; whoever has a better copy (another attached
/// node) takes them from there. A sector without any region of `bitmap` is not looked at, and bits
/// beyond the last region count for nothing.
[[nodiscard]] DamagedSectors decode_page(ConstPageSpan from, const StorageId& storage,
                                         BitmapName name, std::uint32_t page, Bitmap& bitmap);

/// The regions that sector `sector` of page `page` speaks of, as far as `bitmap` has them; may be
/// empty.
[[nodiscard]] RegionRange regions_of_sector(const Bitmap& bitmap, std::uint32_t page,
                                            unsigned sector);

}  // namespace dst::metadata
