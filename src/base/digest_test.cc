#include "base/digest.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/bytes.h"

namespace dst {
namespace {

std::string to_hex(const Digest& digest) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string hex;
    for (const std::byte byte : digest.bytes) {
        hex += kDigits[std::to_integer<unsigned>(byte) >> 4];
        hex += kDigits[std::to_integer<unsigned>(byte) & 15];
    }
    return hex;
}

TEST(Digest, is_xxh3_128_in_its_canonical_order) {
    // Computed apart from this code, from the specification (tests/peers/protocol_digest.py).
    EXPECT_EQ(to_hex(digest_of({})), "99aa06d3014798d86001c324468d497f");
    std::vector<std::byte> sector(512);
    EXPECT_EQ(to_hex(digest_of(sector)), "3258ca92e0a00944b2987a9d949e807c");
    for (std::size_t at = 0; at < sector.size(); ++at) sector[at] = static_cast<std::byte>(at);
    EXPECT_EQ(to_hex(digest_of(sector)), "111d5771df64cbcb1059105ad19bfa09");
}

TEST(Digest, differs_for_each_flipped_bit) {
    std::vector<std::byte> bytes(1024, std::byte{0x5a});
    const Digest before = digest_of(bytes);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        const std::byte mask{static_cast<unsigned char>(1 << bit % 8)};
        bytes[bit / 8] ^= mask;
        EXPECT_NE(digest_of(bytes), before);
        bytes[bit / 8] ^= mask;
    }
    EXPECT_EQ(digest_of(bytes), before);
}

}  // namespace
}  // namespace dst
