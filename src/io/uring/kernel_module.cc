#include "io/uring/kernel_module.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace dst::io::uring {

bool load_kernel_module(const char* name) {
    std::array<char*, 5> arguments = {const_cast<char*>("modprobe"), const_cast<char*>("-q"),
                                      const_cast<char*>("--"), const_cast<char*>(name), nullptr};
    pid_t child = 0;
    if (::posix_spawnp(&child, "modprobe", nullptr, nullptr, arguments.data(), environ) != 0)
        return false;
    int status = 0;
    while (::waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace dst::io::uring
