// The life of a remote node's connection, as an observer sees it (design §5).
//
//   stopped --start--> connecting --connected--> handshake --accepted--> replaying --replayed-->
//   ready
//                          ^  ^ |                    |                       | | |  | +--failed--+
//                          | failed/refused        | broken               | broken |
//                          +------------|---------+-----------------------+----------------------+
//                          +---- retry -- lost
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace dst::node {

enum class LinkState : std::uint8_t { stopped, connecting, handshake, replaying, ready, lost };
enum class LinkEvent : std::uint8_t { start, connected, accepted, replayed, broken, retry, stop };

/// The state after `event`; nothing if that can't happen in `now`. Pure: every pair is listed.
[[nodiscard]] std::optional<LinkState> next(LinkState now, LinkEvent event);
[[nodiscard]] std::string_view to_string(LinkState state);

}  // namespace dst::node
