#include "algorithm/mirror/bits.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace dst::mirror {

Bits::Bits(const Shape& shape, const metadata::StorageId& storage)
    : shape_(shape),
      storage_(storage),
      pages_each_(shape.bitmap_pages()),
      maps_(std::size_t{2} + shape.slots) {
    make(index_of(kIntent));
    make(index_of(kUnwritten));
}

std::size_t Bits::index_of(BitmapName name) {
    switch (name.kind) {
        case BitmapKind::intent:
            return 0;
        case BitmapKind::unwritten:
            return 1;
        case BitmapKind::stale:
            return std::size_t{2} + name.slot;
    }
    check_failed("a known kind", __FILE__, __LINE__);
}

void Bits::make(std::size_t index) {
    // A page that nobody has changed is another one than what happens to be on a node.
    maps_[index] =
        std::make_unique<Map>(Map{.bitmap = Bitmap(shape_.regions()),
                                  .versions = std::vector<Version>(pages_each_, ++last_version_)});
}

void Bits::use_slot(std::uint8_t slot) {
    CHECK(slot < shape_.slots);
    if (uses_slot(slot)) return;
    make(index_of(stale_of(slot)));
    touch(stale_of(slot), {RegionIndex(0), shape_.regions()});
}

void Bits::free_slot(std::uint8_t slot) { maps_[index_of(stale_of(slot))].reset(); }

void Bits::set(BitmapName name, RegionRange regions) {
    Bitmap& bitmap = map(name).bitmap;
    if (bitmap.all(regions)) return;
    bitmap.set(regions);
    touch(name, regions);
}

void Bits::clear(BitmapName name, RegionRange regions) {
    Bitmap& bitmap = map(name).bitmap;
    if (!bitmap.any(regions)) return;
    bitmap.clear(regions);
    touch(name, regions);
}

void Bits::set_all_of(BitmapName name, const Bitmap& other) {
    for (auto run = other.next_run(RegionIndex(0)); run; run = other.next_run(run->end()))
        set(name, *run);
}

void Bits::load(BitmapName name, Bitmap bitmap) {
    if (name.kind == BitmapKind::stale) use_slot(name.slot);
    CHECK(bitmap.size() == shape_.regions());
    map(name).bitmap = std::move(bitmap);
    touch(name, {RegionIndex(0), shape_.regions()});
}

void Bits::touch(BitmapName name, RegionRange regions) {
    if (regions.count.value() == 0) return;
    const std::uint32_t first = Shape::page_of(regions.first);
    const std::uint32_t last =
        Shape::page_of(RegionIndex(regions.first.value() + regions.count.value() - 1));
    Map& at = map(name);
    for (std::uint32_t page = first; page <= last; ++page) {
        at.versions[page] = ++last_version_;
        for (Watcher* watcher = watchers_.front(); watcher != nullptr;
             watcher = watchers_.next(*watcher))
            watcher->page_changed(page_at(name, page));
    }
}

PageNumber Bits::page_count() const { return static_cast<PageNumber>(maps_.size()) * pages_each_; }

Bits::Place Bits::place_of(PageNumber page) const {
    const PageNumber index = page / pages_each_;
    Place place{.name = kIntent, .page = page % pages_each_};
    if (index == 1) place.name = kUnwritten;
    if (index >= 2) place.name = stale_of(static_cast<std::uint8_t>(index - 2));
    return place;
}

std::vector<PageNumber> Bits::pages() const {
    std::vector<PageNumber> all;
    for (PageNumber page = 0; page < page_count(); ++page)
        if (has(page)) all.push_back(page);
    return all;
}

void Bits::encode(metadata::PageSpan to, PageNumber page) const {
    const auto [name, at] = place_of(page);
    metadata::encode_page(to, storage_, name, at, map(name).bitmap);
}

}  // namespace dst::mirror
