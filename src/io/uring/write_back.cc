#include "io/uring/write_back.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cerrno>

#include "io/uring/errors.h"

namespace dst::io::uring {

void join_write_back() { (void)::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); }

std::string lock_memory(std::span<std::byte> arena) {
    std::string missing;
    const auto add = [&](std::string what) { missing += (missing.empty() ? "" : "; ") + what; };
    if (::prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) != 1)
        add("it is no I/O flusher (CAP_SYS_RESOURCE is missing)");
    // Stacks and the like are reserved in megabytes and used in pages.
    if (::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0)
        add(
            fmt::format("its memory is not locked: {} (CAP_IPC_LOCK, or a higher limit of locked "
                        "memory, allows it)",
                        text_of(errno)));
    if (::madvise(arena.data(), arena.size(), MADV_POPULATE_WRITE) != 0)
        add(fmt::format("its buffers are not allocated in advance: {}", text_of(errno)));
    if (missing.empty()) return {};
    return fmt::format(
        "writing to what is attached may wait for ever when the host runs out of memory: {}",
        missing);
}

}  // namespace dst::io::uring
