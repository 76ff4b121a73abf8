// Where the copies of a scenario's mirrors lie, as far as that is on disks that can be looked at.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "metadata/bitmap.h"
#include "metadata/superblock.h"
#include "sim/disk.h"
#include "sim/run/stage.h"

namespace dst::sim {

struct Mirrored {
    const Stage::Server* server = nullptr;
    const control::StorageSpec* spec = nullptr;
    /// Of its nodes and witnesses, those that are disks.
    std::vector<Disk*> disks;
    bool has_others = false;  // nodes that are storages, or memory
};
/// Each storage of the algorithm mirror that a daemon is configured with.
[[nodiscard]] std::vector<Mirrored> find_mirrors(Stage& stage);

/// What both copies of the superblock on a disk say, as anybody would read it who has
/// docs/on-disk.md.
[[nodiscard]] metadata::Reading superblock_on(const Disk& disk);
/// A bitmap on a disk that holds `superblock`.
[[nodiscard]] metadata::Bitmap bitmap_on(const Disk& disk, const metadata::Superblock& superblock,
                                         metadata::BitmapName name);

}  // namespace dst::sim
