#include "io/uring/sysfs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <charconv>

#include "io/uring/unique_fd.h"

namespace dst::io::uring {

std::string read_text(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.is_open()) return {};
    std::array<char, 4096> buffer;
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got <= 0) return {};
    constexpr const char* kSpace = " \t\r\n";
    const std::string text(buffer.data(), static_cast<std::size_t>(got));
    const std::size_t first = text.find_first_not_of(kSpace);
    if (first == std::string::npos) return {};
    return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

BlockDeviceFolder::BlockDeviceFolder(dev_t device)
    : folder_(fmt::format("/sys/dev/block/{}:{}/", major(device), minor(device))),
      is_partition_(!attribute("partition").empty()) {}

std::uint64_t BlockDeviceFolder::queue_limit(const std::string& name) const {
    const std::string text = disk_attribute("queue/" + name);
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

}  // namespace dst::io::uring
