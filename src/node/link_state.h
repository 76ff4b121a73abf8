// The life of a remote node's connection, as an observer sees it (design §5).
//
//   stopped -start-> connecting -connected-> handshake -accepted-> replaying -replayed-> ready
//                     ^      |                 |   |                   |                   |
//                     |    broken           broken |                 broken              broken
//                     |      v                 v   |                   v                   v
//                     +-retry---------------- lost |
//                     +-readmitted--- fenced <-fenced
//
// and `stop` leads from everywhere to `stopped`. In `handshake` the gate is asked, too.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace dst::node {

enum class LinkState : std::uint8_t {
    stopped,
    connecting,
    handshake,
    replaying,
    ready,
    lost,
    fenced,  // the gate said no: nothing is tried until somebody readmits the node
};
enum class LinkEvent : std::uint8_t {
    start,
    connected,
    accepted,
    replayed,
    broken,
    retry,
    fenced,
    readmitted,
    stop,
};

/// The state after `event`; nothing if that can't happen in `now`. Pure: every pair is listed.
[[nodiscard]] std::optional<LinkState> next(LinkState now, LinkEvent event);
[[nodiscard]] std::string_view to_string(LinkState state);

}  // namespace dst::node
