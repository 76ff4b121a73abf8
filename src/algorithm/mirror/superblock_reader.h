// Reads the superblock of a node that nobody is in yet.
#pragma once

#include "async/task.h"
#include "block/buffer.h"
#include "block/device.h"
#include "metadata/superblock.h"

namespace dst::mirror {

/// What both copies say, of a node that ends at `size` (whole pages). Fails rather than waiting for
/// a link. Suspends.
async::Task<Result<metadata::Reading>> read_superblock(block::Device& device, SectorCount size,
                                                       block::Account& account);

}  // namespace dst::mirror
