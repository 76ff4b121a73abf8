#include "io/uring/lock_holder.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "io/uring/sysfs.h"

namespace dst::io::uring {

std::string lock_holder(int fd) {
    struct stat status{};
    if (::fstat(fd, &status) != 0) return {};
    const std::string wanted =
        fmt::format("{:02x}:{:02x}:{}", major(status.st_dev), minor(status.st_dev), status.st_ino);
    // "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"; those who wait have a "->" in between.
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);) {
        std::istringstream words(line);
        std::string number, kind, strictness, access, file;
        long pid = 0;
        if (!(words >> number >> kind >> strictness >> access >> pid >> file)) continue;
        if (kind != "FLOCK" || file != wanted || pid <= 0) continue;
        if (pid == ::getpid()) return "this process";
        const std::string program = read_text(fmt::format("/proc/{}/comm", pid));
        return fmt::format("{} (pid {})", program.empty() ? "a process" : program, pid);
    }
    return {};
}

}  // namespace dst::io::uring
