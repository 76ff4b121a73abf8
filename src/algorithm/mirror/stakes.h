// Stakes: what a loss of nodes would cost: which data would have no copy left, and how much would
// have to be copied afterwards. Read off the bitmaps; nothing suspends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "algorithm/mirror/regions.h"
#include "base/units.h"

namespace dst::mirror {

/// A node that holds data, before the loss.
struct CopyNow {
    std::uint8_t slot = 0;
    /// It takes part: what is not stale there is as it should be. Else nothing is counted on it.
    bool takes_part = false;
    bool is_attached = false;
    bool is_lost = false;
};

struct Stakes {
    /// Attached nodes that are left.
    std::size_t copies = 0;
    /// Written, and as it should be on lost nodes alone.
    SectorCount at_risk;
    /// What lost nodes lack when they come back, all of them together: what is stale there, and if
    /// requests go on meanwhile what is not settled now. What is written then comes on top.
    SectorCount resync;
    /// What is copied to blank ones in their places.
    SectorCount whole;
};

/// `goes_on`: requests are answered after the loss.
[[nodiscard]] Stakes stakes_of(const Regions& regions, std::span<const CopyNow> copies,
                               bool goes_on);
/// What is compared or copied to all nodes but one when the head has crashed: regions that are
/// being changed.
[[nodiscard]] SectorCount crash_resync(const Regions& regions, std::size_t attached);

}  // namespace dst::mirror
