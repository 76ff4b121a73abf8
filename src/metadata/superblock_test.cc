#include "metadata/superblock.h"

#include <gtest/gtest.h>

#include <array>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "metadata/test_support.h"

namespace dst::metadata {
namespace {

using Bytes = std::vector<std::byte>;
using Kind = Unreadable::Kind;

Bytes encoded(const Superblock& superblock) {
    Bytes bytes(kSuperblockBytes);
    encode_superblock(std::span<std::byte, kSuperblockBytes>(bytes), superblock);
    return bytes;
}

/// With a checksum that is right again.
Bytes sealed(Bytes bytes) {
    store_be(&bytes[kSuperblockBytes - 4], crc32c(std::span(bytes).first(kSuperblockBytes - 4)));
    return bytes;
}

Superblock good() { return {test::two_nodes_and_witness(), 0xc1, 42}; }

/// What a changed byte of a good superblock, with a checksum that is right, is taken for.
const char* blamed(std::size_t at, std::uint8_t value) {
    Bytes bytes = encoded(good());
    bytes[at] = static_cast<std::byte>(value);
    const Reading reading = decode_superblock(sealed(bytes));
    return reading ? "nothing" : reading.error().what;
}

TEST(Superblock, comes_back_as_it_was_written) {
    EXPECT_EQ(decode_superblock(encoded(good())), good());
    const Superblock full{test::full_form(), 0xc000, kSequenceMax};
    EXPECT_EQ(decode_superblock(encoded(full)), full);

    Superblock first = good();
    first.form.history = first_history(0xa);
    first.form.votes_since = first.form.history.age;
    first.form.is_forming = true;
    first.form.quorum = Quorum::none;
    EXPECT_EQ(decode_superblock(encoded(first)), first);
    Superblock last = good();
    last.form.stopped_cleanly = true;
    last.cookie = 0xc2;
    EXPECT_EQ(decode_superblock(encoded(last)), last);
}

// docs/on-disk.md has it; tests/system/on_disk_test.py makes it apart from this code.
TEST(Superblock, of_the_documented_example_has_the_checksum_that_was_computed_elsewhere) {
    Superblock example = good();
    for (std::size_t i = 0; i < 16; ++i)
        example.form.storage_id.bytes[i] = static_cast<std::byte>(i + 1);
    example.form.shape.data_size = SectorCount(1840);
    example.form.nodes[0].size = example.form.nodes[1].size = SectorCount(2048);
    const Bytes bytes = encoded(example);
    EXPECT_EQ(load_be<std::uint32_t>(&bytes[kSuperblockBytes - 4]), 0x62678caa);
}

TEST(Superblock, a_single_wrong_bit_is_noticed_wherever_it_is) {
    Bytes bytes = encoded(good());
    for (std::size_t bit = 0; bit < kSuperblockBytes * 8; ++bit) {
        bytes[bit / 8] ^= std::byte{1} << (bit % 8);
        const Reading reading = decode_superblock(bytes);
        ASSERT_FALSE(reading) << bit;
        ASSERT_EQ(reading.error().kind, Kind::damaged) << bit;
        bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    }
}

TEST(Superblock, that_was_torn_is_damaged) {
    const Bytes before = encoded(good());
    Superblock next = good();
    ++next.sequence;
    next.form.nodes[0].instance = 9;
    const Bytes after = encoded(next);
    for (std::size_t written = 1; written < kSuperblockBytes / kSectorBytes; ++written) {
        Bytes torn = before;
        std::copy_n(after.begin(), written * kSectorBytes, torn.begin());
        ASSERT_EQ(decode_superblock(torn).error().kind, Kind::damaged) << written;
    }
}

TEST(Superblock, that_is_cut_off_or_too_long_is_damaged) {
    Bytes bytes = encoded(good());
    bytes.push_back(std::byte{0});
    EXPECT_EQ(decode_superblock(bytes).error().kind, Kind::damaged);
    for (const std::size_t size : {std::size_t{0}, std::size_t{8}, std::size_t{512},
                                   static_cast<std::size_t>(kSuperblockBytes) - 1})
        EXPECT_EQ(decode_superblock(std::span(bytes).first(size)).error().kind, Kind::damaged);
}

TEST(Superblock, nothing_and_something_else_are_told_apart_from_damage) {
    Bytes bytes(kSuperblockBytes);
    EXPECT_EQ(decode_superblock(bytes).error().kind, Kind::blank);
    bytes[20'000] = std::byte{1};
    EXPECT_EQ(decode_superblock(bytes).error().kind, Kind::foreign);

    // Either end of one says that it was ours.
    Bytes front = encoded(good());
    std::fill(front.begin() + 16'384, front.end(), std::byte{0});
    EXPECT_EQ(decode_superblock(front).error().kind, Kind::damaged);
    Bytes back = encoded(good());
    std::fill(back.begin(), back.begin() + 16'384, std::byte{0});
    EXPECT_EQ(decode_superblock(back).error().kind, Kind::damaged);
}

TEST(Superblock, of_a_newer_version_is_named_and_never_guessed) {
    Bytes bytes = encoded(good());
    bytes[11] = std::byte{2};
    EXPECT_EQ(decode_superblock(bytes).error().kind, Kind::damaged);  // a flipped bit, it may be
    bytes[300] = std::byte{0xab};  // whatever it has learnt to say
    const Reading reading = decode_superblock(sealed(bytes));
    ASSERT_FALSE(reading);
    EXPECT_EQ(reading.error().kind, Kind::newer);
    EXPECT_EQ(to_string(reading.error()),
              "has metadata of version 2, and this program knows version 1");
    bytes[11] = std::byte{0};
    EXPECT_EQ(decode_superblock(sealed(bytes)).error().kind, Kind::damaged);
}

TEST(Superblock, counts_that_reach_beyond_their_place_are_damage) {
    EXPECT_STREQ(blamed(0x70, 0xff), "length of its path of ages");
    EXPECT_STREQ(blamed(0x70, 0x02), "length of its path of ages");  // 513
    EXPECT_STREQ(blamed(0x72, 0xff), "length of its table of nodes");
    EXPECT_STREQ(blamed(0x74, 65), "length of a text");
    EXPECT_STREQ(blamed(0x75, 255), "length of a text");
    EXPECT_STREQ(blamed(0x76, 0xff), "length of a text");
}

TEST(Superblock, bytes_that_mean_nothing_are_damage) {
    EXPECT_STREQ(blamed(0x0c, 0x80), "bytes that mean nothing");  // an unknown flag
    EXPECT_STREQ(blamed(0x79, 1), "bytes that mean nothing");     // spare, in the header
    EXPECT_STREQ(blamed(0x84, 'x'), "bytes that mean nothing");   // behind the name
    EXPECT_STREQ(blamed(0x3a, 3), "bytes that mean nothing");     // another slot than the table's
    EXPECT_STREQ(blamed(0x300, 1), "where the data ended before");
    EXPECT_STREQ(blamed(0x3ff, 1), "bytes that mean nothing");  // spare, at the header's end
    EXPECT_STREQ(blamed(0x410, 1), "bytes that mean nothing");  // behind the path
    EXPECT_STREQ(blamed(0x2400 + 25, 0x0d), "bytes that mean nothing");  // a node's unknown flag
    EXPECT_STREQ(blamed(0x2400 + 27, 1), "bytes that mean nothing");
    EXPECT_STREQ(blamed(0x2400 + 3 * 88, 1), "bytes that mean nothing");  // behind the table
    EXPECT_STREQ(blamed(0x7ff8, 1), "bytes that mean nothing");           // in the tail
    EXPECT_STREQ(blamed(0x7ff0, 1), "one magic number of two");
}

TEST(Superblock, a_rule_that_is_broken_is_damage_and_named) {
    EXPECT_STREQ(blamed(0x3b, 2), "quorum policy");
    EXPECT_STREQ(blamed(0x78, 4), "size of its blocks");
    EXPECT_STREQ(blamed(0x38, 15), "size of data, regions or number of slots");
    EXPECT_STREQ(blamed(0x2400 + 24, 1), "a slot used twice");
}

Reading reading(std::uint64_t sequence) {
    Superblock superblock = good();
    superblock.sequence = sequence;
    return superblock;
}
Reading unreadable(Kind kind) { return std::unexpected(Unreadable{.kind = kind}); }

TEST(Superblock, of_two_copies_the_later_counts) {
    EXPECT_EQ(choose(reading(7), reading(8)), reading(8));
    EXPECT_EQ(choose(reading(8), reading(7)), reading(8));
    EXPECT_EQ(choose(reading(8), reading(8)), reading(8));
    for (const Kind kind : {Kind::blank, Kind::foreign, Kind::damaged}) {
        EXPECT_EQ(choose(reading(7), unreadable(kind)), reading(7));
        EXPECT_EQ(choose(unreadable(kind), reading(7)), reading(7));
    }
}

TEST(Superblock, of_two_copies_that_cannot_be_used_the_worse_news_counts) {
    const Kind kinds[] = {Kind::blank, Kind::foreign, Kind::newer, Kind::damaged};
    for (const Kind a : kinds) {
        for (const Kind b : kinds) {
            const bool is_newer = a == Kind::newer || b == Kind::newer;
            EXPECT_EQ(choose(unreadable(a), unreadable(b)).error().kind,
                      is_newer ? Kind::newer : std::max(a, b));
        }
    }
}

TEST(Superblock, where_a_newer_program_was_no_older_copy_is_used) {
    EXPECT_EQ(choose(reading(7), unreadable(Kind::newer)).error().kind, Kind::newer);
    EXPECT_EQ(choose(unreadable(Kind::newer), reading(7)).error().kind, Kind::newer);
}

TEST(Superblock, copies_that_contradict_each_other_are_damage) {
    Superblock other = good();
    other.form.nodes[0].instance = 7;
    EXPECT_EQ(choose(good(), other).error().kind, Kind::damaged);
    other.sequence = 99;
    EXPECT_EQ(choose(good(), other), other);
    other.form.storage_id = test::storage_id(3);
    EXPECT_EQ(choose(good(), other).error().kind, Kind::damaged);
}

}  // namespace
}  // namespace dst::metadata
