// Which medium is this? A number that stays the same over restarts and differs for another disk or
// file, so that an exchanged one is noticed (design §5). Blocks.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace dst::io::uring {

/// From the file system's id, the inode and its time of birth. A copy of a file is another file.
[[nodiscard]] std::uint64_t identity_of_file(int fd);
/// From what names the disk (world-wide name, serial number, UUID of a mapping, file of a loop
/// device) and the partition; from major and minor number if nothing does.
[[nodiscard]] std::uint64_t identity_of_device(dev_t device);

}  // namespace dst::io::uring
