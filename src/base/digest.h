// Digest: 128 bits that tell whether two pieces of data are equal without showing either
// (XXH3-128).
//
// Wide enough to declare copies equal by: of 2^64 pieces two differ unnoticed with even odds. It
// is no proof against somebody who makes pieces collide on purpose.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace dst {

/// In the canonical order of XXH128: big-endian, the high half first.
struct Digest {
    std::array<std::byte, 16> bytes{};
    friend bool operator==(const Digest&, const Digest&) = default;
};

/// Seed 0, the default secret.
[[nodiscard]] Digest digest_of(std::span<const std::byte> bytes);

}  // namespace dst
