// Fuzzes pages of bitmaps: a sector is taken as a whole or not at all, what is damaged counts as
// the safe value, and what was taken is written again as it was.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "metadata/bitmap_page.h"

namespace {

using namespace dst;
using namespace dst::metadata;
using Page = std::array<std::byte, kPageBytes>;

StorageId storage_id() {
    StorageId id;
    id.bytes.fill(std::byte{7});
    return id;
}

/// A page as it should be, then with some bytes changed.
Page make_page(FuzzedDataProvider& input, BitmapName name, std::uint32_t page,
               RegionCount regions) {
    Bitmap bitmap(regions, input.ConsumeBool());
    for (unsigned i = input.ConsumeIntegralInRange<unsigned>(0, 4); i > 0; --i)
        bitmap.set_word(input.ConsumeIntegralInRange<std::size_t>(0, bitmap.words().size() - 1),
                        input.ConsumeIntegral<std::uint64_t>());
    Page bytes;
    encode_page(bytes, storage_id(), name, page, bitmap);
    for (unsigned i = input.ConsumeIntegralInRange<unsigned>(0, 4); i > 0; --i) {
        const auto at = input.ConsumeIntegralInRange<std::size_t>(0, kPageBytes - 1);
        bytes[at] = std::byte{input.ConsumeIntegral<std::uint8_t>()};
        if (!input.ConsumeBool()) continue;
        // With a checksum that is right again.
        const auto sector =
            std::span(bytes).subspan(at / kSectorBytes * kSectorBytes, kSectorBytes);
        const auto seed = crc32c(storage_id().bytes);
        store_be(sector.data() + 12, crc32c(sector.subspan(16), crc32c(sector.first(12), seed)));
    }
    return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider input(data, size);
    const BitmapName name{.kind = BitmapKind{input.ConsumeIntegralInRange<std::uint8_t>(1, 3)},
                          .slot = input.ConsumeIntegral<std::uint8_t>()};
    const auto page = input.ConsumeIntegralInRange<std::uint32_t>(0, 2);
    const RegionCount regions(page * kPageRegions +
                              input.ConsumeIntegralInRange<std::uint64_t>(1, kPageRegions + 9));
    Page bytes{};
    if (input.ConsumeIntegral<std::uint8_t>() < 16) {
        const auto raw = input.ConsumeRemainingBytes<std::byte>();
        std::copy_n(raw.begin(), std::min(raw.size(), bytes.size()), bytes.begin());
    } else {
        bytes = make_page(input, name, page, regions);
    }

    Bitmap before(regions);
    before.set(RegionIndex(0));
    Bitmap bitmap = before;
    const DamagedSectors damaged = decode_page(bytes, storage_id(), name, page, bitmap);
    Page again;
    encode_page(again, storage_id(), name, page, bitmap);
    for (unsigned sector = 0; sector < kPageSectorCount; ++sector) {
        const RegionRange place = regions_of_sector(bitmap, page, sector);
        const bool is_damaged = (damaged >> sector & 1) != 0;
        if (place.count == RegionCount(0)) {
            CHECK(!is_damaged);
            continue;
        }
        if (is_damaged) {
            CHECK(name.kind == BitmapKind::unwritten ? !bitmap.any(place) : bitmap.all(place));
            continue;
        }
        // Bits beyond the last region aside, it is the same sector.
        if (place.count == RegionCount(kSectorRegions))
            CHECK(
                std::ranges::equal(std::span(bytes).subspan(sector * kSectorBytes, kSectorBytes),
                                   std::span(again).subspan(sector * kSectorBytes, kSectorBytes)));
    }
    // Nothing beside the page has changed.
    if (page > 0)
        CHECK(bitmap.count(RegionRange{RegionIndex(0), RegionCount(page * kPageRegions)}) ==
              RegionCount(1));
    return 0;
}
