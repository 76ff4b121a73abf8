#include "cli/paths.h"

#include <filesystem>
#include <system_error>

namespace dst::cli {

std::string absolute(const std::string& path) {
    std::error_code failed;
    const auto full = std::filesystem::absolute(path, failed);
    return failed ? path : full.lexically_normal().string();
}

void make_absolute(control::DeviceSpec& device) {
    auto* path = std::get_if<control::PathDevice>(&device);
    if (path != nullptr) path->path = absolute(path->path);
}

void make_absolute(control::NodeSpec& node) {
    auto* local = std::get_if<control::LocalNode>(&node.place);
    if (local != nullptr) make_absolute(local->device);
}

}  // namespace dst::cli
