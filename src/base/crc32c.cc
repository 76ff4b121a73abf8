#include "base/crc32c.h"

#include <isa-l/crc.h>

#include "base/check.h"

namespace dst {

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed) {
    CHECK(bytes.size() <= INT32_MAX);
    // ISA-L's function takes a pointer to non-const but only reads, and leaves both inversions to
    // us.
    auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
    return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~seed);
}

}  // namespace dst
