// Who holds the flock of a file: for messages. Blocks.
#pragma once

#include <string>

namespace dst::io::uring {

/// "dst (pid 123)", or empty if it can't be found out.
[[nodiscard]] std::string lock_holder(int fd);

}  // namespace dst::io::uring
