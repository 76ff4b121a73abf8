#include "io/uring/identity.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <string>
#include <string_view>

#include "io/uring/sysfs.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {
namespace {

/// FNV-1a, then the finisher of SplitMix64 so that every bit depends on every other. Never 0.
std::uint64_t hash_of(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
    hash ^= hash >> 31;
    return hash == 0 ? 1 : hash;
}

std::string name_of_file(int fd) {
    struct statx status{};
    struct statfs system{};
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) != 0) return {};
    std::string where = fmt::format("{}:{}", status.stx_dev_major, status.stx_dev_minor);
    if (::fstatfs(fd, &system) == 0 && (system.f_fsid.__val[0] | system.f_fsid.__val[1]) != 0)
        where = fmt::format("{:x}.{:x}", static_cast<unsigned>(system.f_fsid.__val[0]),
                            static_cast<unsigned>(system.f_fsid.__val[1]));
    std::string name = fmt::format("file {} {}", where, status.stx_ino);
    if ((status.stx_mask & STATX_BTIME) != 0)
        name += fmt::format(" {}.{}", status.stx_btime.tv_sec, status.stx_btime.tv_nsec);
    return name;
}

/// A loop device is its file, from an offset on.
std::string name_of_loop(const BlockDeviceFolder& folder) {
    const std::string path = folder.disk_attribute("loop/backing_file");
    if (path.empty()) return {};
    const UniqueFd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!fd.is_open()) return {};
    return fmt::format("loop {} {}", name_of_file(fd.get()), folder.disk_attribute("loop/offset"));
}

std::string name_of_disk(const BlockDeviceFolder& folder) {
    for (const char* const source :
         {"wwid", "device/wwid", "uuid", "dm/uuid", "md/uuid", "serial", "device/serial"}) {
        if (const std::string name = folder.disk_attribute(source); !name.empty())
            return fmt::format("disk {}", name);
    }
    return name_of_loop(folder);
}

}  // namespace

std::uint64_t identity_of_file(int fd) { return hash_of(name_of_file(fd)); }

std::uint64_t identity_of_device(dev_t device) {
    const BlockDeviceFolder folder(device);
    const std::string disk = name_of_disk(folder);
    if (disk.empty()) return hash_of(fmt::format("device {}:{}", major(device), minor(device)));
    if (!folder.is_partition()) return hash_of(disk);
    return hash_of(fmt::format("{} partition {} at {}", disk, folder.attribute("partition"),
                               folder.attribute("start")));
}

}  // namespace dst::io::uring
