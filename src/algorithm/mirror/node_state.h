// The life of a mirror's node, as an observer sees it (design §7, rules 3 to 5).
//
//                +-------------- refused, left --------------------------------+
//                v                                                            |
//     away --found--> admitting --admitted--> joining --copied--> completing --named--> attached
//                                                ^                    |
//                                                +------ fell behind -+
//
// A node is attached from when an age that names it is sent until a later one without it is in
// force.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace dst::mirror {

enum class NodeState : std::uint8_t {
    away,        // nothing is sent to it
    admitting,   // it answers: claimed, and its superblock looked at
    joining,     // takes the changes where it is not stale, and is copied to where it is
    completing,  // no region is stale; it gets the bitmaps
    attached,
};
enum class NodeEvent : std::uint8_t { found, admitted, copied, fell_behind, named, left };

/// The state after `event`; nothing if that can't happen in `now`. Pure: every pair is listed.
[[nodiscard]] std::optional<NodeState> next(NodeState now, NodeEvent event);
[[nodiscard]] std::string_view to_string(NodeState state);

}  // namespace dst::mirror
