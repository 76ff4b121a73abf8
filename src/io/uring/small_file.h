// The daemon's own small files, read and replaced as a whole. Blocks: for start-up and control.
#pragma once

#include <string>

#include "base/result.h"

namespace dst::io::uring {

/// `not_found` if there is none; at most 64 MiB.
[[nodiscard]] Outcome<std::string> load_small_file(const std::string& path);
/// After a crash the file has the old content or the new: written beside it, made durable, renamed.
/// Readable by its owner alone, and so are the folders that are made.
[[nodiscard]] Outcome<> store_small_file(const std::string& path, const std::string& content);

}  // namespace dst::io::uring
