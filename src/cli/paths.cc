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

Outcome<control::Value> node_value(const std::string& text) {
    if (text.starts_with('{')) return control::parse_json(text);
    return control::Value(text);
}

Outcome<control::NodeSpec> read_node(const std::string& text) {
    TRY(const control::Value value, node_value(text));
    TRY(control::NodeSpec node, control::parse_node_json(control::format_json(value)));
    make_absolute(node);
    return node;
}

}  // namespace dst::cli
