#include "io/uring/direct_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>

namespace dst::io::uring {
namespace {

// From linux/stat.h of Linux 6.1, which can't be included beside sys/stat.h.
constexpr unsigned kStatxDioAlign = 0x2000;
constexpr std::size_t kDioMemoryAlignAt = 152;
constexpr std::size_t kDioOffsetAlignAt = 156;

std::uint32_t number_at(const struct statx& status, std::size_t at) {
    static_assert(sizeof status == 256);
    std::array<std::uint32_t, sizeof status / sizeof(std::uint32_t)> words{};
    words = std::bit_cast<decltype(words)>(status);
    return words.at(at / sizeof(std::uint32_t));
}

/// Asks the file itself: reads one sector that is aligned to nothing larger.
bool can_read_sectors(int fd) {
    constexpr std::size_t kSector = 512;
    alignas(2 * kSector) std::array<std::byte, 2 * kSector> buffer;
    return ::pread(fd, buffer.data() + kSector, kSector, kSector) == static_cast<ssize_t>(kSector);
}

}  // namespace

std::uint32_t direct_io_alignment(int fd) {
    constexpr std::uint32_t kLeast = 512;
    struct statx status{};
    if (::statx(fd, "", AT_EMPTY_PATH, kStatxDioAlign, &status) == 0 &&
        (status.stx_mask & kStatxDioAlign) != 0) {
        const std::uint32_t memory = number_at(status, kDioMemoryAlignAt);
        const std::uint32_t offset = number_at(status, kDioOffsetAlignAt);
        if (offset != 0) return std::max({kLeast, std::bit_ceil(memory), std::bit_ceil(offset)});
    }
    return can_read_sectors(fd) ? kLeast : kDirectAlignmentSafe;
}

}  // namespace dst::io::uring
