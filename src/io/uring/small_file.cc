#include "io/uring/small_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <string_view>

#include "io/uring/errors.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {
namespace {

constexpr std::size_t kSmallBytesMax = std::size_t{64} << 20;
constexpr mode_t kOwnersFile = 0600;
constexpr mode_t kOwnersFolder = 0700;

std::unexpected<Problem> cannot(std::string_view verb, const std::string& path, int error) {
    std::string_view advice = "check the file system";
    if (error == ENOENT || error == ENOTDIR || error == EISDIR)
        advice = "correct the path";
    else if (error == EACCES || error == EPERM || error == EROFS)
        advice = "give this user access, or choose another path";
    else if (error == ENOSPC || error == EDQUOT)
        advice = "make room there";
    return refuse(file_error(error, "").code,
                  fmt::format("cannot {} {}: {}; {}", verb, path, text_of(error), advice));
}

std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

Outcome<> sync_folder(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.is_open() || ::fsync(fd.get()) != 0) return cannot("make durable", path, errno);
    return {};
}

/// Makes `path` and the folders above it, each durable in the one above.
Outcome<> make_folder(const std::string& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0) {
        if (S_ISDIR(status.st_mode)) return {};
        return cannot("make folder", path, ENOTDIR);
    }
    if (errno != ENOENT) return cannot("make folder", path, errno);
    const std::string above = folder_of(path);
    TRY_VOID(make_folder(above));
    if (::mkdir(path.c_str(), kOwnersFolder) != 0 && errno != EEXIST)
        return cannot("make folder", path, errno);
    return sync_folder(above);
}

Outcome<> write_all(int fd, std::string_view content, const std::string& path) {
    while (!content.empty()) {
        const ssize_t put = ::write(fd, content.data(), content.size());
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return cannot("write", path, errno);
        content.remove_prefix(static_cast<std::size_t>(put));
    }
    return {};
}

Outcome<> write_new(const std::string& path, const std::string& content) {
    const UniqueFd fd(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, kOwnersFile));
    if (!fd.is_open()) return cannot("write", path, errno);
    TRY_VOID(write_all(fd.get(), content, path));
    if (::fsync(fd.get()) != 0) return cannot("make durable", path, errno);
    return {};
}

}  // namespace

Outcome<std::string> load_small_file(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!fd.is_open()) return cannot("read", path, errno);
    std::string content;
    std::array<char, 16384> buffer;
    while (true) {
        const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return cannot("read", path, errno);
        if (got == 0) return content;
        content.append(buffer.data(), static_cast<std::size_t>(got));
        if (content.size() > kSmallBytesMax)
            return refuse(ErrorCode::overflow,
                          fmt::format("cannot read {}: it is larger than 64 MiB; is it the "
                                      "right file?",
                                      path));
    }
}

Outcome<> store_small_file(const std::string& path, const std::string& content) {
    const std::string folder = folder_of(path);
    TRY_VOID(make_folder(folder));
    const std::string beside = path + ".new";
    if (auto written = write_new(beside, content); !written.has_value()) {
        ::unlink(beside.c_str());
        return written;
    }
    if (std::rename(beside.c_str(), path.c_str()) != 0) {
        const int error = errno;
        ::unlink(beside.c_str());
        return cannot("replace", path, error);
    }
    return sync_folder(folder);
}

}  // namespace dst::io::uring
