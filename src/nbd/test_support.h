// For the tests of this folder: bytes written as hexadecimal digits, and streams cut to pieces.
#pragma once

#include <gtest/gtest.h>

#include <cctype>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dst::nbd::test {

using Bytes = std::vector<std::byte>;

/// Bytes from digits; spaces and line ends between them don't count.
inline Bytes from_hex(std::string_view digits) {
    Bytes bytes;
    int high = -1;
    for (const char c : digits) {
        if (std::isspace(static_cast<unsigned char>(c)) != 0) continue;
        const int value = c <= '9' ? c - '0' : c - 'a' + 10;
        if (high < 0) {
            high = value;
        } else {
            bytes.push_back(static_cast<std::byte>(high * 16 + value));
            high = -1;
        }
    }
    EXPECT_EQ(high, -1) << "an odd number of digits: " << digits;
    return bytes;
}

inline std::string to_hex(std::span<const std::byte> bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string digits;
    for (const std::byte byte : bytes) {
        digits += kDigits[std::to_integer<unsigned>(byte) >> 4];
        digits += kDigits[std::to_integer<unsigned>(byte) & 15];
    }
    return digits;
}

/// Digits without the spaces.
inline std::string tidy(std::string_view digits) { return to_hex(from_hex(digits)); }

inline std::string join(std::initializer_list<std::string_view> parts) {
    std::string all;
    for (const std::string_view part : parts) all += part;
    return all;
}

inline std::string repeat(std::string_view digits, std::size_t times) {
    std::string all;
    for (std::size_t i = 0; i < times; ++i) all += digits;
    return all;
}

/// The ways in which a stream of `size` bytes is cut: at each position once, and everywhere. Each
/// is a list of ends of pieces.
inline std::vector<std::vector<std::size_t>> all_cuts(std::size_t size) {
    std::vector<std::vector<std::size_t>> ways;
    for (std::size_t at = 0; at <= size; ++at) ways.push_back({at, size});
    std::vector<std::size_t> everywhere;
    for (std::size_t at = 1; at <= size; ++at) everywhere.push_back(at);
    ways.push_back(everywhere);
    return ways;
}

}  // namespace dst::nbd::test
