// BlockClaim: the exclusive use of a block device. While somebody has it nobody mounts the device,
// nor is it taken while somebody has it mounted, in a RAID or the like.
#pragma once

#include <string>

#include "base/result.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {

class BlockClaim {
  public:
    /// Refuses (`busy`) if it is claimed. Blocks.
    static Outcome<BlockClaim> take(const std::string& path);
    void release() { fd_.reset(); }

  private:
    explicit BlockClaim(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

}  // namespace dst::io::uring
