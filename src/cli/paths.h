// Paths given on a command line are relative to where it was typed; the daemon is elsewhere.
#pragma once

#include <string>

#include "control/config.h"

namespace dst::cli {

[[nodiscard]] std::string absolute(const std::string& path);
/// Does nothing to what is no path.
void make_absolute(control::DeviceSpec& device);
void make_absolute(control::NodeSpec& node);

}  // namespace dst::cli
