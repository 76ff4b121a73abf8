// The alignment that direct I/O on a file needs. Blocks.
#pragma once

#include <cstdint>

namespace dst::io::uring {

/// Large enough wherever it can't be found out.
inline constexpr std::uint32_t kDirectAlignmentSafe = 4096;

/// In bytes, of offsets, lengths and addresses; a power of two, at least 512. `fd` is a regular
/// file opened with O_DIRECT.
[[nodiscard]] std::uint32_t direct_io_alignment(int fd);

}  // namespace dst::io::uring
