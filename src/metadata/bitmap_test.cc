#include "metadata/bitmap.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace dst::metadata {
namespace {

RegionIndex at(std::uint64_t value) { return RegionIndex(value); }
RegionRange range(std::uint64_t first, std::uint64_t count) {
    return {RegionIndex(first), RegionCount(count)};
}

/// The same, as a vector of bits.
class Model {
  public:
    explicit Model(const Bitmap& bitmap) {
        for (std::uint64_t i = 0; i < bitmap.size().value(); ++i)
            bits.push_back(bitmap.test(at(i)));
    }
    void set(RegionRange where, bool value) {
        for (std::uint64_t i = where.first.value(); i < where.end().value(); ++i) bits[i] = value;
    }
    [[nodiscard]] std::uint64_t count(RegionRange where) const {
        std::uint64_t sum = 0;
        for (std::uint64_t i = where.first.value(); i < where.end().value(); ++i) sum += bits[i];
        return sum;
    }
    [[nodiscard]] std::optional<RegionIndex> next(std::uint64_t from, bool value) const {
        for (; from < bits.size(); ++from)
            if (bits[from] == value) return at(from);
        return std::nullopt;
    }

    std::vector<bool> bits;
};

void expect_same(const Bitmap& bitmap, const Model& model) {
    ASSERT_EQ(Model(bitmap).bits, model.bits);
    ASSERT_EQ(bitmap.count().value(), model.count(range(0, model.bits.size())));
    ASSERT_EQ(bitmap.any(), model.next(0, true).has_value());
    for (std::uint64_t from = 0; from <= model.bits.size(); ++from) {
        ASSERT_EQ(bitmap.next_set(at(from)), model.next(from, true));
        ASSERT_EQ(bitmap.next_clear(at(from)), model.next(from, false));
    }
}

class BitmapSizes : public testing::TestWithParam<std::uint64_t> {};

TEST_P(BitmapSizes, behave_as_a_vector_of_bits) {
    std::mt19937 random(static_cast<unsigned>(GetParam()));
    Bitmap bitmap{RegionCount(GetParam())};
    Model model(bitmap);
    for (int step = 0; step < 300; ++step) {
        const std::uint64_t first = random() % (GetParam() + 1);
        const auto where = range(first, random() % (GetParam() - first + 1));
        const bool value = random() % 2 == 0;
        if (where.count == RegionCount(1)) {
            value ? bitmap.set(where.first) : bitmap.clear(where.first);
        } else {
            value ? bitmap.set(where) : bitmap.clear(where);
        }
        model.set(where, value);
        const std::uint64_t begin = random() % (GetParam() + 1);
        const auto look = range(begin, random() % (GetParam() - begin + 1));
        ASSERT_EQ(bitmap.count(look).value(), model.count(look));
        ASSERT_EQ(bitmap.any(look), model.count(look) > 0);
        ASSERT_EQ(bitmap.all(look), model.count(look) == look.count.value());
        if (step % 10 == 0) expect_same(bitmap, model);
    }
}

INSTANTIATE_TEST_SUITE_P(around_words, BitmapSizes,
                         testing::Values(1, 2, 63, 64, 65, 127, 128, 129, 500));

TEST(Bitmap, without_regions_has_none) {
    const Bitmap none{RegionCount(0)};
    EXPECT_FALSE(none.any());
    EXPECT_TRUE(none.all(range(0, 0)));
    EXPECT_EQ(none.next_set(at(0)), std::nullopt);
    EXPECT_EQ(none.next_clear(at(0)), std::nullopt);
}

TEST(Bitmap, may_begin_full) {
    const Bitmap full(RegionCount(70), true);
    EXPECT_EQ(full.count(), RegionCount(70));
    EXPECT_EQ(full.words().back(), std::uint64_t{0x3f} << 58);  // nothing beyond the end
    EXPECT_EQ(full.next_clear(at(0)), std::nullopt);
}

TEST(Bitmap, yields_runs_one_after_another) {
    Bitmap bitmap{RegionCount(200)};
    bitmap.set(range(3, 2));
    bitmap.set(range(60, 70));
    bitmap.set(range(199, 1));
    std::vector<RegionRange> runs;
    for (auto run = bitmap.next_run(at(0)); run; run = bitmap.next_run(run->end()))
        runs.push_back(*run);
    EXPECT_EQ(runs, (std::vector{range(3, 2), range(60, 70), range(199, 1)}));
}

TEST(Bitmap, combines_with_another) {
    Bitmap a{RegionCount(130)};
    Bitmap b{RegionCount(130)};
    a.set(range(0, 70));
    b.set(range(60, 70));
    Bitmap any = a;
    any.or_with(b);
    EXPECT_EQ(any.next_run(at(0)), range(0, 130));
    Bitmap both = a;
    both.and_with(b);
    EXPECT_EQ(both.next_run(at(0)), range(60, 10));
    Bitmap only = a;
    only.and_not(b);
    EXPECT_EQ(only.next_run(at(0)), range(0, 60));
}

TEST(Bitmap, a_word_stores_its_lowest_region_in_its_highest_bit) {
    Bitmap bitmap{RegionCount(66)};
    bitmap.set(at(0));
    bitmap.set(at(65));
    EXPECT_EQ(bitmap.words()[0], std::uint64_t{1} << 63);
    EXPECT_EQ(bitmap.words()[1], std::uint64_t{1} << 62);
    bitmap.set_word(1, ~std::uint64_t{0});
    EXPECT_EQ(bitmap.count(), RegionCount(3));
}

TEST(Bitmap, merging_pairs_keeps_what_is_safe) {
    for (unsigned bits = 0; bits < 32; ++bits) {
        Bitmap halves{RegionCount(5)};
        for (unsigned i = 0; i < 5; ++i)
            if ((bits >> i & 1) != 0) halves.set(at(i));
        const Bitmap any = merged_if_any(halves);
        const Bitmap all = merged_if_all(halves);
        const Bitmap zeroes = zeroes_before_merging(halves);
        ASSERT_EQ(any.size(), RegionCount(3));
        ASSERT_EQ(all.size(), RegionCount(3));
        for (unsigned i = 0; i < 3; ++i) {
            const bool left = (bits >> (2 * i) & 1) != 0;
            const bool right = i < 2 ? (bits >> (2 * i + 1) & 1) != 0 : left;
            ASSERT_EQ(any.test(at(i)), left || right);
            ASSERT_EQ(all.test(at(i)), left && right);
            ASSERT_EQ(zeroes.test(at(std::uint64_t{2} * i)), left && !right);
            if (i < 2) ASSERT_EQ(zeroes.test(at(std::uint64_t{2} * i + 1)), right && !left);
        }
    }
}

}  // namespace
}  // namespace dst::metadata
