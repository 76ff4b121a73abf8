// Bits: the bitmaps of a mirror in memory, as they are to be on its nodes: intent, unwritten, and
// stale ones for each slot (design §7). Which page of them has got where is for page_writer.h.
//
// Each page has a version, one more with each change of it; who has to know that a bit is durable
// somewhere compares versions. Nothing here suspends.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/list.h"
#include "metadata/bitmap.h"
#include "metadata/bitmap_page.h"
#include "metadata/form.h"
#include "metadata/layout.h"

namespace dst::mirror {

using metadata::Bitmap;
using metadata::BitmapKind;
using metadata::BitmapName;
using metadata::RegionCount;
using metadata::RegionIndex;
using metadata::RegionRange;
using metadata::Shape;

/// A page of one of the bitmaps, by its number among all that there can be.
using PageNumber = std::uint32_t;
using Version = std::uint64_t;

class Bits {
  public:
    /// Who is told of pages that change.
    class Watcher : public ListHook<> {
      public:
        virtual void page_changed(PageNumber page) = 0;

      protected:
        ~Watcher() = default;
    };

    /// All clear, and no stale bitmap.
    Bits(const Shape& shape, const metadata::StorageId& storage);

    [[nodiscard]] const Shape& shape() const { return shape_; }
    [[nodiscard]] const Bitmap& intent() const { return maps_[0]->bitmap; }
    [[nodiscard]] const Bitmap& unwritten() const { return maps_[1]->bitmap; }
    /// Of a slot that is in use.
    [[nodiscard]] const Bitmap& stale(std::uint8_t slot) const {
        return map(stale_of(slot)).bitmap;
    }
    [[nodiscard]] const Bitmap& bitmap(BitmapName name) const { return map(name).bitmap; }

    /// From now on there is a stale bitmap for `slot`; all clear, unless there was one already.
    void use_slot(std::uint8_t slot);
    /// There is none any more.
    void free_slot(std::uint8_t slot);
    [[nodiscard]] bool uses_slot(std::uint8_t slot) const {
        return slot < shape_.slots && maps_[index_of(stale_of(slot))] != nullptr;
    }

    void set(BitmapName name, RegionRange regions);
    void set(BitmapName name, RegionIndex region) { set(name, {region, RegionCount(1)}); }
    void clear(BitmapName name, RegionRange regions);
    void clear(BitmapName name, RegionIndex region) { clear(name, {region, RegionCount(1)}); }
    /// Sets what is set in `other`.
    void set_all_of(BitmapName name, const Bitmap& other);
    /// Takes over a bitmap as it was read from a node.
    void load(BitmapName name, Bitmap bitmap);

    [[nodiscard]] static constexpr BitmapName stale_of(std::uint8_t slot) {
        return {BitmapKind::stale, slot};
    }
    static constexpr BitmapName kIntent{BitmapKind::intent, 0};
    static constexpr BitmapName kUnwritten{BitmapKind::unwritten, 0};

    // Pages.

    /// Of all bitmaps that a node of this shape has room for.
    [[nodiscard]] PageNumber page_count() const;
    [[nodiscard]] PageNumber page_of(BitmapName name, RegionIndex region) const {
        return page_at(name, Shape::page_of(region));
    }
    [[nodiscard]] PageNumber page_at(BitmapName name, std::uint32_t page) const {
        return static_cast<PageNumber>(index_of(name)) * pages_each_ + page;
    }
    struct Place {
        BitmapName name;
        std::uint32_t page = 0;
    };
    [[nodiscard]] Place place_of(PageNumber page) const;
    /// Pages of bitmaps that are there.
    [[nodiscard]] std::vector<PageNumber> pages() const;
    [[nodiscard]] bool has(PageNumber page) const { return maps_[page / pages_each_] != nullptr; }
    /// Never 0 for a page of a bitmap that is there.
    [[nodiscard]] Version version(PageNumber page) const {
        const Map& at = *maps_[page / pages_each_];
        return at.versions[page % pages_each_];
    }
    void encode(metadata::PageSpan to, PageNumber page) const;

    void add(Watcher& watcher) { watchers_.push_back(watcher); }

  private:
    struct Map {
        Bitmap bitmap;
        std::vector<Version> versions;  // a page each
    };
    [[nodiscard]] static std::size_t index_of(BitmapName name);
    [[nodiscard]] const Map& map(BitmapName name) const { return *maps_[index_of(name)]; }
    [[nodiscard]] Map& map(BitmapName name) { return *maps_[index_of(name)]; }
    void make(std::size_t index);
    void touch(BitmapName name, RegionRange regions);

    const Shape shape_;
    const metadata::StorageId storage_;
    const std::uint32_t pages_each_;
    Version last_version_ = 0;
    std::vector<std::unique_ptr<Map>> maps_;  // intent, unwritten, stale by slot
    List<Watcher> watchers_;
};

}  // namespace dst::mirror
