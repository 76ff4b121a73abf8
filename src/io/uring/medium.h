// Medium: opening a file or block device, locking it, and finding out what it is. All of it blocks.
#pragma once

#include <string>

#include "io/file.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {

struct Medium {
    UniqueFd fd;
    FileInfo info;
};

/// Opens `path`, locks it and describes it. `busy` if somebody else has it; says who, if it can.
[[nodiscard]] Outcome<Medium> open_medium(const std::string& path, const FileOptions& options);

/// The size now.
[[nodiscard]] Result<ByteCount> size_of_medium(int fd, bool is_block_device);

}  // namespace dst::io::uring
