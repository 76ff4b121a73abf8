// Bitmap: a bit for each region of a node, in memory. What it looks like on disk is bitmap_page.h.
//
// The most significant bit of a word is the lowest region, so that a word stored big-endian reads
// from left to right. Bits beyond the last region are always zero.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "metadata/region.h"

namespace dst::metadata {

class Bitmap {
  public:
    static constexpr unsigned kWordBits = 64;

    explicit Bitmap(RegionCount size, bool value = false);

    [[nodiscard]] RegionCount size() const { return size_; }

    // Ranges and regions lie within the bitmap. Ranges may be empty.
    [[nodiscard]] bool test(RegionIndex region) const;
    void set(RegionIndex region);
    void clear(RegionIndex region);
    void set(RegionRange range);
    void clear(RegionRange range);
    void set_all();
    void clear_all();

    /// True if a region of the range is set. False for an empty one.
    [[nodiscard]] bool any(RegionRange range) const;
    [[nodiscard]] bool any() const;
    /// True if every region of the range is set. True for an empty one.
    [[nodiscard]] bool all(RegionRange range) const;
    [[nodiscard]] RegionCount count() const;
    [[nodiscard]] RegionCount count(RegionRange range) const;

    /// The first region at or behind `from` that is set (clear); nothing if there is none. `from`
    /// may be the end.
    [[nodiscard]] std::optional<RegionIndex> next_set(RegionIndex from) const;
    [[nodiscard]] std::optional<RegionIndex> next_clear(RegionIndex from) const;
    /// The first run of set regions at or behind `from`; nothing if there is none.
    [[nodiscard]] std::optional<RegionRange> next_run(RegionIndex from) const;

    // `other` has the same size.
    /// Sets what is set in `other`.
    void or_with(const Bitmap& other);
    /// Clears what is clear in `other`.
    void and_with(const Bitmap& other);
    /// Clears what is set in `other`.
    void and_not(const Bitmap& other);

    [[nodiscard]] std::span<const std::uint64_t> words() const { return words_; }
    /// Sets word `index` to `value`, but for bits beyond the end.
    void set_word(std::size_t index, std::uint64_t value);

    friend bool operator==(const Bitmap&, const Bitmap&) = default;

  private:
    [[nodiscard]] std::optional<RegionIndex> next(RegionIndex from, std::uint64_t flip) const;
    [[nodiscard]] bool holds(RegionRange range) const;
    /// Which bits of word `index` are regions.
    [[nodiscard]] std::uint64_t regions_in(std::size_t index) const;

    RegionCount size_;
    std::vector<std::uint64_t> words_;
};

// When a storage has outgrown its region size, two regions become one (docs/on-disk.md, Growing).
// The last region may have no sibling; it decides alone.

/// A region is set if one of its halves is: for stale and intent.
[[nodiscard]] Bitmap merged_if_any(const Bitmap& halves);
/// A region is set if both of its halves are: for unwritten.
[[nodiscard]] Bitmap merged_if_all(const Bitmap& halves);
/// The halves that must be made zero on every node first: unwritten ones, which read as zeroes
/// whatever is there, whose sibling was written, so that the merged region counts as written.
[[nodiscard]] Bitmap zeroes_before_merging(const Bitmap& unwritten);

}  // namespace dst::metadata
