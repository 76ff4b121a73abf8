#include "base/digest.h"

#include <xxhash.h>

#include <cstring>

namespace dst {

Digest digest_of(std::span<const std::byte> bytes) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
    Digest digest;
    static_assert(sizeof canonical.digest == sizeof digest.bytes);
    std::memcpy(digest.bytes.data(), canonical.digest, sizeof canonical.digest);
    return digest;
}

}  // namespace dst
