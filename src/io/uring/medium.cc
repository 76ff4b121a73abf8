#include "io/uring/medium.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "io/uring/direct_io.h"
#include "io/uring/errors.h"
#include "io/uring/identity.h"
#include "io/uring/lock_holder.h"
#include "io/uring/sysfs.h"

namespace dst::io::uring {
namespace {

std::unexpected<Problem> cannot_open(const std::string& path, int error) {
    const char* advice = "correct the path, or see to the file";
    if (error == ENOENT)
        advice = "create it (truncate -s SIZE FILE) or correct the path";
    else if (error == EACCES || error == EPERM || error == EROFS)
        advice = "give this user access, or open it read-only";
    return refuse(file_error(error, "").code,
                  fmt::format("cannot open {}: {}; {}", path, text_of(error), advice));
}

std::unexpected<Problem> in_use(const std::string& path, const std::string& holder) {
    return refuse(ErrorCode::busy,
                  fmt::format("cannot open {}: it is in use{}{}; stop its user, or choose another",
                              path, holder.empty() ? "" : " by ", holder));
}

struct Opened {
    UniqueFd fd;
    bool is_direct = false;
};

Outcome<Opened> open_file(const std::string& path, const FileOptions& options, bool is_block) {
    // O_EXCL keeps out whatever uses a block device by other means: mounts, md, device mapper.
    const bool exclusive = is_block && !options.read_only;
    const int flags =
        (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | (exclusive ? O_EXCL : 0);
    const bool direct = options.cache == CacheMode::direct;
    int fd = ::open(path.c_str(), flags | (direct ? O_DIRECT : 0));
    bool is_direct = direct && fd >= 0;
    // The file system can't do it: through the page cache, then; FileInfo tells.
    if (fd < 0 && direct && errno == EINVAL) fd = ::open(path.c_str(), flags);
    if (fd < 0 && errno == EBUSY) return in_use(path, "the kernel (mounted?) or a program");
    if (fd < 0) return cannot_open(path, errno);
    return Opened{UniqueFd(fd), is_direct};
}

Outcome<> lock(int fd, const std::string& path, bool is_shared) {
    while (::flock(fd, (is_shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno == EWOULDBLOCK) return in_use(path, lock_holder(fd));
        return refuse(file_error(errno, "").code,
                      fmt::format("cannot lock {}: {}; use a file system that has locks", path,
                                  text_of(errno)));
    }
    return {};
}

std::uint32_t block_bytes_of(const Opened& opened, bool is_block) {
    if (!opened.is_direct) return static_cast<std::uint32_t>(kSectorBytes);
    if (!is_block) return direct_io_alignment(opened.fd.get());
    int bytes = 0;
    if (::ioctl(opened.fd.get(), BLKSSZGET, &bytes) != 0 || bytes < static_cast<int>(kSectorBytes))
        return kDirectAlignmentSafe;
    return static_cast<std::uint32_t>(bytes);
}

/// A hole behind the end changes nothing, but tells whether there can be holes.
bool can_punch(int fd, ByteCount size) {
    constexpr std::uint64_t kPage = 4096;
    const std::uint64_t behind = (size.value() + kPage - 1) / kPage * kPage;
    return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(behind),
                       kPage) == 0;
}

Result<FileInfo> describe(const Opened& opened, const FileOptions& options,
                          const struct stat& status) {
    const int fd = opened.fd.get();
    FileInfo info;
    info.is_block_device = S_ISBLK(status.st_mode);
    info.is_direct = opened.is_direct;
    TRY(info.size, size_of_medium(fd, info.is_block_device));
    info.block_bytes = block_bytes_of(opened, info.is_block_device);
    if (info.is_block_device) {
        const BlockDeviceFolder folder(status.st_rdev);
        info.can_discard = folder.queue_limit("discard_max_bytes") > 0;
        info.can_zero_fast = folder.queue_limit("write_zeroes_max_bytes") > 0;
        info.identity = identity_of_device(status.st_rdev);
    } else {
        info.can_discard = !options.read_only && can_punch(fd, info.size);
        info.can_zero_fast = info.can_discard;
        info.identity = identity_of_file(fd);
    }
    if (options.read_only) info.can_discard = info.can_zero_fast = false;
    return info;
}

}  // namespace

Outcome<Medium> open_medium(const std::string& path, const FileOptions& options) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) return cannot_open(path, errno);
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return refuse(fmt::format(
            "cannot open {}: it is neither a file nor a block device; correct the path", path));
    TRY(Opened opened, open_file(path, options, S_ISBLK(status.st_mode)));
    const bool looks_on = options.read_only && options.looks_on;
    if (!looks_on) TRY_VOID(lock(opened.fd.get(), path, options.read_only));
    // What was opened, not what the path meant before.
    if (::fstat(opened.fd.get(), &status) != 0) return cannot_open(path, errno);
    const auto info = describe(opened, options, status);
    if (!info.has_value())
        return refuse(info.error().code,
                      fmt::format("cannot open {}: its size can't be found out ({}); check the "
                                  "disk",
                                  path, to_string(info.error().code)));
    return Medium{std::move(opened.fd), *info};
}

Result<ByteCount> size_of_medium(int fd, bool is_block_device) {
    if (is_block_device) {
        std::uint64_t bytes = 0;
        if (::ioctl(fd, BLKGETSIZE64, &bytes) != 0)
            return std::unexpected(file_error(errno, "asking a block device for its size"));
        return ByteCount(bytes);
    }
    struct stat status{};
    if (::fstat(fd, &status) != 0)
        return std::unexpected(file_error(errno, "asking a file for its size"));
    return ByteCount(static_cast<std::uint64_t>(status.st_size));
}

}  // namespace dst::io::uring
