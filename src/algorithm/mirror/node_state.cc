#include "algorithm/mirror/node_state.h"

namespace dst::mirror {

std::optional<NodeState> next(NodeState now, NodeEvent event) {
    using S = NodeState;
    using E = NodeEvent;
    switch (now) {
        case S::away:
            if (event == E::found) return S::admitting;
            break;
        case S::admitting:
            if (event == E::admitted) return S::joining;
            if (event == E::left) return S::away;
            // The source of an assembling, and all nodes of a new storage, need no copying.
            if (event == E::named) return S::attached;
            break;
        case S::joining:
            if (event == E::copied) return S::completing;
            if (event == E::left) return S::away;
            break;
        case S::completing:
            if (event == E::named) return S::attached;
            if (event == E::fell_behind) return S::joining;
            if (event == E::left) return S::away;
            break;
        case S::attached:
            if (event == E::left) return S::away;
            break;
    }
    return std::nullopt;
}

std::string_view to_string(NodeState state) {
    switch (state) {
        case NodeState::away:
            return "away";
        case NodeState::admitting:
            return "admitting";
        case NodeState::joining:
            return "joining";
        case NodeState::completing:
            return "completing";
        case NodeState::attached:
            return "attached";
    }
    return "unknown";
}

}  // namespace dst::mirror
