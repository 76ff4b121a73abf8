// Reads the superblock of a node that nobody is in yet.
#pragma once

#include <cstdint>
#include <vector>

#include "async/task.h"
#include "block/buffer.h"
#include "block/device.h"
#include "metadata/superblock.h"

namespace dst::mirror {

/// What both copies say, of a node that ends at `size` (whole pages). Fails rather than waiting for
/// a link. Suspends.
async::Task<Result<metadata::Reading>> read_superblock(block::Device& device, SectorCount size,
                                                       block::Account& account);

struct FoundSuperblock {
    metadata::Reading reading;
    SectorCount end;             // where it was
    std::uint64_t sequence = 0;  // the greatest that was seen, wherever
};

/// A node whose end has moved has superblocks at several ends: looks at each of `ends`, the
/// device's own first, that is not beyond that one; and where what it finds says that the node
/// ends. The greatest sequence counts. Fails as the one above. Suspends.
async::Task<Result<FoundSuperblock>> find_superblock(block::Device& device,
                                                     std::vector<SectorCount> ends,
                                                     block::Account& account);

}  // namespace dst::mirror
