// What can be lost of a storage: each node, the link to each host, each host.
#pragma once

#include <string>
#include <vector>

#include "storage/storage.h"

namespace dst::storage {

/// A node, and where it is.
struct Located {
    node::Cookie cookie = 0;
    std::string type;
    /// Empty: this one, where the head is.
    std::string host;
};
/// The host that a place is on, as the configuration calls it; empty: this one.
[[nodiscard]] std::string host_of(const MemberSpec& spec);

/// Each thing that can be lost, with what goes with it; nothing is said of what follows. The nodes
/// first, in their order; of this host the link to all others, and the host.
[[nodiscard]] std::vector<Loss> what_can_be_lost(const std::vector<Located>& nodes);

/// This host goes: the head, too.
[[nodiscard]] inline bool takes_head(const Loss& loss) {
    return loss.kind == Loss::Kind::host && loss.name.empty();
}

}  // namespace dst::storage
