// Inodes: the numbers by which a kernel knows paths, as long as it does.
//
// A number is given with the first look-up of a path, and goes when the kernel has forgotten all of
// them; none is given twice. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

namespace dst::tree {

using InodeNumber = std::uint64_t;
inline constexpr InodeNumber kRoot = 1;

class Inodes {
  public:
    /// The number of `path`, looked up once more.
    InodeNumber look_up(std::string_view path);
    /// The kernel forgets `count` look-ups; of a number that it does not know, nothing.
    void forget(InodeNumber number, std::uint64_t count);
    /// Null if there is none of that number. Until it is forgotten.
    [[nodiscard]] const std::string* path_of(InodeNumber number) const;
    [[nodiscard]] std::size_t size() const { return by_number_.size(); }

  private:
    struct Known {
        std::string path;
        std::uint64_t lookups = 0;
    };
    std::unordered_map<InodeNumber, Known> by_number_;
    std::map<std::string, InodeNumber, std::less<>> by_path_;
    InodeNumber last_ = kRoot;
};

/// "devices" and "vol0" are "devices/vol0".
[[nodiscard]] std::string join(std::string_view folder, std::string_view name);
/// What `ls -i` shows: stays the same for a path, for ever.
[[nodiscard]] std::uint64_t shown_number(std::string_view path);

}  // namespace dst::tree
