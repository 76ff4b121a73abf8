#include "io/uring/block_claim.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>

#include "io/uring/errors.h"

namespace dst::io::uring {

Outcome<BlockClaim> BlockClaim::take(const std::string& path) {
    // Without O_CREAT it is a claim: open(2).
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    if (fd.is_open()) return BlockClaim(std::move(fd));
    if (errno == EBUSY)
        return refuse(ErrorCode::busy, fmt::format("{} is in use: unmount it, or --force", path));
    return refuse(ErrorCode::io_error, fmt::format("{}: {}", path, text_of(errno)));
}

}  // namespace dst::io::uring
