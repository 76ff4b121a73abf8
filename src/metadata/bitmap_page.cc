#include "metadata/bitmap_page.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"

namespace dst::metadata {

namespace {

constexpr std::uint32_t kMagic = 0x44535462;  // "DSTb"
constexpr std::size_t kHeaderBytes = 16;
constexpr std::size_t kChecksumAt = 12;
constexpr std::size_t kSectorWords = kSectorRegions / Bitmap::kWordBits;
static_assert(kSectorWords * Bitmap::kWordBits == kSectorRegions);
static_assert(kHeaderBytes + kSectorRegions / 8 == kSectorBytes);

using Header = std::array<std::byte, kChecksumAt>;

/// The header that the sector at this place has to have.
Header header_of(BitmapName name, std::uint32_t index) {
    Header header{};
    ByteWriter(header)
        .put(kMagic)
        .put(std::to_underlying(name.kind))
        .put(name.slot)
        .put(std::uint16_t{0})
        .put(index);
    return header;
}

std::uint32_t checksum_of(std::span<const std::byte> sector, std::uint32_t seed) {
    return crc32c(sector.subspan(kHeaderBytes), crc32c(sector.first(kChecksumAt), seed));
}

/// Of what stands before each sector, as it were: whose it is.
std::uint32_t seed_of(const StorageId& storage) { return crc32c(storage.bytes); }

std::uint32_t index_of(std::uint32_t page, unsigned sector) {
    return page * kPageSectorCount + sector;
}

bool is_good(std::span<const std::byte> sector, const Header& header, std::uint32_t seed) {
    return std::ranges::equal(sector.first(kChecksumAt), header) &&
           load_be<std::uint32_t>(sector.data() + kChecksumAt) == checksum_of(sector, seed);
}

/// The words of `bitmap` that sector `index` holds, as far as there are any.
struct Words {
    std::size_t first;
    std::size_t count;
};
Words words_of(const Bitmap& bitmap, std::uint32_t index) {
    const std::size_t first = std::min(index * kSectorWords, bitmap.words().size());
    return {.first = first, .count = std::min(kSectorWords, bitmap.words().size() - first)};
}

void assume_the_safe(Bitmap& bitmap, BitmapName name, RegionRange regions) {
    if (name.kind == BitmapKind::unwritten) {
        bitmap.clear(regions);
    } else {
        bitmap.set(regions);
    }
}

}  // namespace

RegionRange regions_of_sector(const Bitmap& bitmap, std::uint32_t page, unsigned sector) {
    const std::uint64_t size = bitmap.size().value();
    const std::uint64_t first = std::min(index_of(page, sector) * kSectorRegions, size);
    return {RegionIndex(first), RegionCount(std::min(kSectorRegions, size - first))};
}

void encode_page(PageSpan to, const StorageId& storage, BitmapName name, std::uint32_t page,
                 const Bitmap& bitmap) {
    CHECK(regions_of_sector(bitmap, page, 0).count > RegionCount(0));
    const std::uint32_t seed = seed_of(storage);
    std::ranges::fill(to, std::byte{0});
    for (unsigned sector = 0; sector < kPageSectorCount; ++sector) {
        const std::uint32_t index = index_of(page, sector);
        const auto bytes = to.subspan(sector * kSectorBytes, kSectorBytes);
        std::ranges::copy(header_of(name, index), bytes.begin());
        const Words words = words_of(bitmap, index);
        for (std::size_t i = 0; i < words.count; ++i)
            store_be(bytes.data() + kHeaderBytes + i * sizeof(std::uint64_t),
                     bitmap.words()[words.first + i]);
        store_be(bytes.data() + kChecksumAt, checksum_of(bytes, seed));
    }
}

DamagedSectors decode_page(ConstPageSpan from, const StorageId& storage, BitmapName name,
                           std::uint32_t page, Bitmap& bitmap) {
    CHECK(regions_of_sector(bitmap, page, 0).count > RegionCount(0));
    const std::uint32_t seed = seed_of(storage);
    unsigned damaged = 0;
    for (unsigned sector = 0; sector < kPageSectorCount; ++sector) {
        const std::uint32_t index = index_of(page, sector);
        const Words words = words_of(bitmap, index);
        if (words.count == 0) break;
        const auto bytes = from.subspan(sector * kSectorBytes, kSectorBytes);
        if (!is_good(bytes, header_of(name, index), seed)) {
            damaged |= 1u << sector;
            assume_the_safe(bitmap, name, regions_of_sector(bitmap, page, sector));
            continue;
        }
        for (std::size_t i = 0; i < words.count; ++i)
            bitmap.set_word(words.first + i, load_be<std::uint64_t>(bytes.data() + kHeaderBytes +
                                                                    i * sizeof(std::uint64_t)));
    }
    return static_cast<DamagedSectors>(damaged);
}

}  // namespace dst::metadata
