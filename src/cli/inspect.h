// `dst node inspect`: what the metadata on a disk says, read without changing or locking anything.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/result.h"
#include "block/device.h"
#include "io/clock.h"
#include "metadata/bitmap_page.h"
#include "metadata/superblock.h"

namespace dst::cli {

struct BitmapSummary {
    metadata::BitmapName name{};
    /// Regions that are set; those of damaged sectors count as what is safe.
    metadata::RegionCount set{};
    unsigned damaged_sectors = 0;
    std::optional<Error> unreadable{};
};

struct Inspection {
    /// Where the node ends, in sectors, as it was looked at.
    SectorCount size{};
    std::array<metadata::Reading, metadata::kSuperblockCopies> copies{};
    metadata::Superblock superblock{};
    /// Intent, unwritten, and one for each node in the table. None on a witness.
    std::vector<BitmapSummary> bitmaps{};
};

/// Reads the metadata of `device`, called `name`, which ends at `end` if that is given. What is
/// damaged is read again, for a daemon may be writing it. Refuses what is no node, saying what it
/// is. Suspends.
[[nodiscard]] async::Task<Outcome<Inspection>> inspect(io::Clock& clock, block::Device& device,
                                                       std::string name,
                                                       std::optional<SectorCount> end);

/// For people, several lines; and as one line of JSON.
[[nodiscard]] std::string to_text(const Inspection& inspection);
[[nodiscard]] std::string to_json(const Inspection& inspection);

}  // namespace dst::cli
