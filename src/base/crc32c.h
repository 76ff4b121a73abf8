// CRC32C (Castagnoli, RFC 3720 appendix B.4) by ISA-L.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dst {

/// The checksum of `bytes`; `seed` is the checksum of what stands before them (0 for nothing).
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed = 0);

}  // namespace dst
