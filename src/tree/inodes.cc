#include "tree/inodes.h"

#include <algorithm>

namespace dst::tree {
namespace {

const std::string kRootPath;

}  // namespace

InodeNumber Inodes::look_up(std::string_view path) {
    if (path.empty()) return kRoot;
    auto at = by_path_.find(path);
    if (at == by_path_.end()) {
        at = by_path_.emplace(path, ++last_).first;
        by_number_.emplace(last_, Known{std::string(path), 0});
    }
    ++by_number_.at(at->second).lookups;
    return at->second;
}

void Inodes::forget(InodeNumber number, std::uint64_t count) {
    const auto at = by_number_.find(number);
    if (at == by_number_.end()) return;
    at->second.lookups -= std::min(count, at->second.lookups);
    if (at->second.lookups > 0) return;
    by_path_.erase(at->second.path);
    by_number_.erase(at);
}

const std::string* Inodes::path_of(InodeNumber number) const {
    if (number == kRoot) return &kRootPath;
    const auto at = by_number_.find(number);
    return at == by_number_.end() ? nullptr : &at->second.path;
}

std::string join(std::string_view folder, std::string_view name) {
    std::string path(folder);
    if (!path.empty()) path += '/';
    return path += name;
}

std::uint64_t shown_number(std::string_view path) {
    if (path.empty()) return kRoot;
    std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
    for (const char letter : path) {
        hash ^= static_cast<unsigned char>(letter);
        hash *= 0x100000001b3;
    }
    return hash <= kRoot ? hash + 2 : hash;
}

}  // namespace dst::tree
