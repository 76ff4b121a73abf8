// The configuration file, off the disk. The only part of the configuration that does any I/O.
#pragma once

#include <string>

#include "base/result.h"
#include "control/config.h"

namespace dst::control {

/// Reads and checks `path`. A refusal is one line that begins with the path. Blocks: for start-up
/// and the command line, before there is a reactor.
[[nodiscard]] Outcome<Config> load_config(const std::string& path);

}  // namespace dst::control
