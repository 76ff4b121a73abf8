// The way `fuse`: a file at `<run_dir>/disk/NAME`, and a loop device on it. Works nearly
// everywhere.
//
//   user -> /dev/loopN -> (kernel, direct I/O) -> <run_dir>/disk/NAME -> /dev/fuse -> Shown::device
//
// Requests on whole blocks become requests of the device, many at a time, in the order in which the
// kernel hands them out. Others (only a file has them) are made of reads and writes of whole
// blocks, each with its blocks for itself.
#pragma once

#include <memory>
#include <string>

#include "attach/way.h"
#include "io/uring/reactor.h"

namespace dst::attach {

/// `folder`: where the files will be; made if it is missing. The reactor outlives the way and all
/// that it makes.
[[nodiscard]] std::unique_ptr<Way> make_fuse_way(io::uring::Reactor& reactor, std::string folder);

}  // namespace dst::attach
