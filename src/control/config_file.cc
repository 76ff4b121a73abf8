#include "control/config_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <fstream>
#include <system_error>

namespace dst::control {
namespace {

constexpr std::streamsize kFileBytesMax = 4 << 20;

std::unexpected<Problem> unreadable(const std::string& path, int error) {
    return refuse(error == ENOENT ? ErrorCode::not_found : ErrorCode::io_error,
                  fmt::format("{}: can't be read: {}; name an existing configuration file", path,
                              std::generic_category().message(error)));
}

}  // namespace

Outcome<Config> load_config(const std::string& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) return unreadable(path, errno);
    if (S_ISDIR(status.st_mode)) return unreadable(path, EISDIR);
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (!file) return unreadable(path, errno == 0 ? EIO : errno);
    std::string text(static_cast<std::size_t>(kFileBytesMax) + 1, '\0');
    file.read(text.data(), kFileBytesMax + 1);
    if (file.bad()) return unreadable(path, EIO);
    if (file.gcount() > kFileBytesMax) {
        return refuse(fmt::format("{}: is longer than {}; this is no configuration file", path,
                                  to_string(ByteCount(kFileBytesMax))));
    }
    text.resize(static_cast<std::size_t>(file.gcount()));
    return parse_config(text, path);
}

}  // namespace dst::control
