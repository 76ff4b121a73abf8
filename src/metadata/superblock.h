// The superblock on disk: 32 KiB, twice at the end of a node. docs/on-disk.md draws every byte.
//
// Pure: bytes in, values out. Nothing of it is believed before the checksum over all of it holds
// and every rule of form.h does. Whatever decodes encodes to the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>

#include "metadata/form.h"

namespace dst::metadata {

inline constexpr std::uint32_t kVersion = 1;

/// Why there is no superblock to be had from some bytes.
struct Unreadable {
    enum class Kind : std::uint8_t {
        blank,    // all zero: nobody's
        foreign,  // something else: somebody's
        newer,    // ours, of a version that this program doesn't know
        damaged,  // ours, and not to be believed
    };
    Kind kind = Kind::damaged;
    const char* what = "";      // of a damaged one: what is wrong with it; a string literal
    std::uint32_t version = 0;  // of a newer one

    friend bool operator==(const Unreadable& a, const Unreadable& b) {
        return a.kind == b.kind && a.version == b.version;
    }
};
/// For people: "has metadata of version 2, and this program knows version 1".
[[nodiscard]] std::string to_string(const Unreadable& unreadable);

using Reading = std::expected<Superblock, Unreadable>;

/// `superblock` is valid (broken_rule).
void encode_superblock(std::span<std::byte, kSuperblockBytes> to, const Superblock& superblock);
/// `bytes` are all of a copy, no more and no less; else they are damaged.
[[nodiscard]] Reading decode_superblock(std::span<const std::byte> bytes);

/// What two copies on one node say together: the one with the greater sequence, if both are good;
/// else the good one. A newer version in either is the answer: that program was here last. Copies
/// of two storages, or two that differ with one sequence, are damaged. For a node that has grown,
/// which has copies at two ends: choose(choose(new ones), choose(old ones)).
[[nodiscard]] Reading choose(Reading a, Reading b);

}  // namespace dst::metadata
