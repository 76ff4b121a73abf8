#include "node/link_state.h"

namespace dst::node {

std::optional<LinkState> next(LinkState now, LinkEvent event) {
    using enum LinkState;
    if (event == LinkEvent::stop) return stopped;
    switch (now) {
        case stopped:
            if (event == LinkEvent::start) return connecting;
            break;
        case connecting:
            if (event == LinkEvent::connected) return handshake;
            if (event == LinkEvent::broken) return lost;
            break;
        case handshake:
            if (event == LinkEvent::accepted) return replaying;
            if (event == LinkEvent::broken) return lost;
            if (event == LinkEvent::fenced) return fenced;
            break;
        case replaying:
            if (event == LinkEvent::replayed) return ready;
            if (event == LinkEvent::broken) return lost;
            break;
        case ready:
            if (event == LinkEvent::broken) return lost;
            break;
        case lost:
            if (event == LinkEvent::retry) return connecting;
            break;
        case fenced:
            if (event == LinkEvent::readmitted) return connecting;
            break;
    }
    return std::nullopt;
}

std::string_view to_string(LinkState state) {
    switch (state) {
        case LinkState::stopped:
            return "stopped";
        case LinkState::connecting:
            return "connecting";
        case LinkState::handshake:
            return "handshake";
        case LinkState::replaying:
            return "replaying";
        case LinkState::ready:
            return "ready";
        case LinkState::lost:
            return "lost";
        case LinkState::fenced:
            return "fenced";
    }
    return "unknown";
}

}  // namespace dst::node
