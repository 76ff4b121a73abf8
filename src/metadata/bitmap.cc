#include "metadata/bitmap.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace dst::metadata {

namespace {

constexpr std::uint64_t kAllOnes = ~std::uint64_t{0};

std::size_t word_of(RegionIndex region) { return region.value() / Bitmap::kWordBits; }

unsigned bit_of(RegionIndex region) {
    return static_cast<unsigned>(region.value() % Bitmap::kWordBits);
}

std::uint64_t mask_of(RegionIndex region) {
    return std::uint64_t{1} << (Bitmap::kWordBits - 1 - bit_of(region));
}

/// Calls `visit(word, mask)` for each word that `range` touches; ends when that returns false.
template <typename Visit>
void visit_words(RegionRange range, Visit visit) {
    if (range.count == RegionCount(0)) return;
    const RegionIndex last = range.first + (range.count - RegionCount(1));
    const std::uint64_t front = kAllOnes >> bit_of(range.first);
    const std::uint64_t back = kAllOnes << (Bitmap::kWordBits - 1 - bit_of(last));
    for (std::size_t word = word_of(range.first); word <= word_of(last); ++word) {
        std::uint64_t mask = kAllOnes;
        if (word == word_of(range.first)) mask &= front;
        if (word == word_of(last)) mask &= back;
        if (!visit(word, mask)) return;
    }
}

}  // namespace

Bitmap::Bitmap(RegionCount size, bool value)
    : size_(size), words_((size.value() + kWordBits - 1) / kWordBits) {
    if (value) set_all();
}

bool Bitmap::holds(RegionRange range) const {
    return range.first.value() <= size_.value() &&
           range.count.value() <= size_.value() - range.first.value();
}

std::uint64_t Bitmap::regions_in(std::size_t index) const {
    const std::uint64_t rest = size_.value() % kWordBits;
    return index + 1 < words_.size() || rest == 0 ? kAllOnes : kAllOnes << (kWordBits - rest);
}

bool Bitmap::test(RegionIndex region) const {
    CHECK(region.value() < size_.value());
    return (words_[word_of(region)] & mask_of(region)) != 0;
}

void Bitmap::set(RegionIndex region) {
    CHECK(region.value() < size_.value());
    words_[word_of(region)] |= mask_of(region);
}

void Bitmap::clear(RegionIndex region) {
    CHECK(region.value() < size_.value());
    words_[word_of(region)] &= ~mask_of(region);
}

void Bitmap::set(RegionRange range) {
    CHECK(holds(range));
    visit_words(range, [this](std::size_t word, std::uint64_t mask) {
        words_[word] |= mask;
        return true;
    });
}

void Bitmap::clear(RegionRange range) {
    CHECK(holds(range));
    visit_words(range, [this](std::size_t word, std::uint64_t mask) {
        words_[word] &= ~mask;
        return true;
    });
}

void Bitmap::set_all() { set(RegionRange{RegionIndex(0), size_}); }

void Bitmap::clear_all() { std::ranges::fill(words_, 0); }

bool Bitmap::any(RegionRange range) const {
    CHECK(holds(range));
    bool found = false;
    visit_words(range, [&](std::size_t word, std::uint64_t mask) {
        found = (words_[word] & mask) != 0;
        return !found;
    });
    return found;
}

bool Bitmap::any() const {
    return std::ranges::any_of(words_, [](std::uint64_t word) { return word != 0; });
}

bool Bitmap::all(RegionRange range) const {
    CHECK(holds(range));
    bool is_full = true;
    visit_words(range, [&](std::size_t word, std::uint64_t mask) {
        is_full = (words_[word] & mask) == mask;
        return is_full;
    });
    return is_full;
}

RegionCount Bitmap::count() const { return count(RegionRange{RegionIndex(0), size_}); }

RegionCount Bitmap::count(RegionRange range) const {
    CHECK(holds(range));
    RegionCount sum;
    visit_words(range, [&](std::size_t word, std::uint64_t mask) {
        sum += RegionCount(static_cast<std::uint64_t>(std::popcount(words_[word] & mask)));
        return true;
    });
    return sum;
}

std::optional<RegionIndex> Bitmap::next(RegionIndex from, std::uint64_t flip) const {
    CHECK(from.value() <= size_.value());
    std::uint64_t mask = kAllOnes >> bit_of(from);
    for (std::size_t word = word_of(from); word < words_.size(); ++word, mask = kAllOnes) {
        const std::uint64_t found = (words_[word] ^ flip) & mask & regions_in(word);
        if (found == 0) continue;
        return RegionIndex(word * kWordBits + static_cast<unsigned>(std::countl_zero(found)));
    }
    return std::nullopt;
}

std::optional<RegionIndex> Bitmap::next_set(RegionIndex from) const { return next(from, 0); }

std::optional<RegionIndex> Bitmap::next_clear(RegionIndex from) const {
    return next(from, kAllOnes);
}

std::optional<RegionRange> Bitmap::next_run(RegionIndex from) const {
    const auto first = next_set(from);
    if (!first) return std::nullopt;
    const RegionIndex end = next_clear(*first).value_or(RegionIndex(size_.value()));
    return RegionRange{.first = *first, .count = end - *first};
}

void Bitmap::or_with(const Bitmap& other) {
    CHECK(size_ == other.size_);
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
}

void Bitmap::and_with(const Bitmap& other) {
    CHECK(size_ == other.size_);
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
}

void Bitmap::and_not(const Bitmap& other) {
    CHECK(size_ == other.size_);
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
}

void Bitmap::set_word(std::size_t index, std::uint64_t value) {
    CHECK(index < words_.size());
    words_[index] = value & regions_in(index);
}

namespace {

/// Whether the sibling of `half` is set; `half`'s own value, if it has none.
bool sibling(const Bitmap& halves, RegionIndex half) {
    const RegionIndex other(half.value() ^ 1);
    return halves.test(other.value() < halves.size().value() ? other : half);
}

}  // namespace

Bitmap merged_if_any(const Bitmap& halves) {
    Bitmap merged(RegionCount((halves.size().value() + 1) / 2));
    for (auto half = halves.next_set(RegionIndex(0)); half;
         half = halves.next_set(*half + RegionCount(1)))
        merged.set(RegionIndex(half->value() / 2));
    return merged;
}

Bitmap merged_if_all(const Bitmap& halves) {
    Bitmap merged(RegionCount((halves.size().value() + 1) / 2));
    for (auto half = halves.next_set(RegionIndex(0)); half;
         half = halves.next_set(*half + RegionCount(1)))
        if (sibling(halves, *half)) merged.set(RegionIndex(half->value() / 2));
    return merged;
}

Bitmap zeroes_before_merging(const Bitmap& unwritten) {
    Bitmap zeroes(unwritten.size());
    for (auto half = unwritten.next_set(RegionIndex(0)); half;
         half = unwritten.next_set(*half + RegionCount(1)))
        if (!sibling(unwritten, *half)) zeroes.set(*half);
    return zeroes;
}

}  // namespace dst::metadata
