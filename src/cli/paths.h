// Paths given on a command line are relative to where it was typed; the daemon is elsewhere.
#pragma once

#include <string>

#include "control/config.h"
#include "control/config_value.h"

namespace dst::cli {

[[nodiscard]] std::string absolute(const std::string& path);
/// Does nothing to what is no path.
void make_absolute(control::DeviceSpec& device);
void make_absolute(control::NodeSpec& node);

/// "R: host/export", "L: device", or JSON {"device", "size", "cache"}: as a value of a
/// configuration.
[[nodiscard]] Outcome<control::Value> node_value(const std::string& text);
/// The same, checked, and with an absolute path.
[[nodiscard]] Outcome<control::NodeSpec> read_node(const std::string& text);

}  // namespace dst::cli
