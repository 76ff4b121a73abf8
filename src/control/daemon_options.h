// What `dst daemon` is told on its command line.
#pragma once

#include <optional>
#include <string>

#include "base/log.h"

namespace dst::control {

struct DaemonOptions {
    std::string config_path;
    /// A descriptor to write a byte to and close, once the daemon serves.
    std::optional<int> ready_fd;
    log::Level log_level = log::Level::info;
};

}  // namespace dst::control
