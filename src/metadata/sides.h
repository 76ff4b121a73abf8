// Sides: which of several histories a storage may go on with, where they have diverged and a
// majority of votes puts ages in force (design §7, rule 8).
//
// An age can have been in force only if a majority of the votes holds it, or an age that came after
// it, or isn't seen now and may. So a history is safe to go on with if no age beside its way can
// have been in force: if, for each other history, the votes that went the other way where the two
// parted, and the absent ones, are fewer than a majority.
//
//     f -- p -- x      held by: x 1, y 1, p 1, z 1; all votes are here, 3 are a majority
//      \    \-- y      p can have been in force: three votes are at p or beyond. So z is not safe,
//       \-- z          for p is beside its way; x and y both are, for neither x nor y can have
//       been.
//
// It is not enough to count, for each newest age, the nodes that are on its way alone (as the first
// model of these rules did): p is on two ways, so nobody would be counted for it, and z taken.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "metadata/age.h"

namespace dst::metadata {

using Histories = std::vector<const History*>;

/// Those of `seen` that no other one passes through, each age once, in their order.
[[nodiscard]] Histories newest_of(std::span<const History* const> seen);

struct Votes {
    Histories present;       // of each vote that is here
    std::size_t absent = 0;  // votes that are not
    std::size_t majority = 1;
};

/// True if no age beside `candidate`'s way can have been in force. `newest` is what `newest_of`
/// says of all that is seen, the votes included; they agree on who votes. False where that can't be
/// told: where two histories remember no common age, or a path was cut short.
[[nodiscard]] bool is_safe(const History& candidate, std::span<const History* const> newest,
                           const Votes& votes);

}  // namespace dst::metadata
