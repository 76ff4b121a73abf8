// What is attached, so that a daemon that is started again attaches it again:
// `<state_dir>/attachments.json`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "attach/way.h"
#include "base/result.h"
#include "control/config.h"
#include "io/file.h"

namespace dst::control {

/// {"version": 1, "attachments": [{"name", "via", "read_only", "file", "device"}, ...]}
[[nodiscard]] std::string attachments_to_json(const std::vector<attach::Spec>& attached);
/// A refusal names the file and the way back.
[[nodiscard]] Outcome<std::vector<attach::Spec>> parse_attachments(std::string_view json,
                                                                   std::string_view file_name);

/// `<state_dir>/attachments.json`
[[nodiscard]] std::string attachments_path(const Config& config);
/// Nothing there is nothing attached. Blocks: for start-up and control.
[[nodiscard]] Outcome<std::vector<attach::Spec>> load_attachments(io::FileSystem& files,
                                                                  const std::string& path);

}  // namespace dst::control
