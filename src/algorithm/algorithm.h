// Algorithm: how nodes become one storage. The seed's `dst_alg_ops` (seed/algorithms.txt).
//
// One instance serves one storage, on that storage's reactor; it needs no locks of its own. The
// storage has ordered overlapping requests before (design §4) and has checked their bounds.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/task.h"
#include "base/result.h"
#include "block/device.h"
#include "block/request.h"
#include "node/node.h"

namespace dst::algorithm {

enum class Recovery : std::uint8_t { fixed, not_fixed };

/// Settings of a storage that are its algorithm's own: `[storage.options]`, as text.
using Options = std::vector<std::pair<std::string, std::string>>;

class Algorithm {
  public:
    virtual ~Algorithm() = default;

    /// Places a node that is initialised and reachable: sets its start, adds it to the map. On
    /// error nothing has changed, and the text says why. Requests may be in flight: none of them
    /// may move. The node outlives the algorithm or leaves by `del_node`.
    virtual Outcome<> add_node(node::Node& node) = 0;
    /// May `node` leave while the storage lives? Asked before anything is changed; the text says
    /// why not. A storage that is taken down as a whole does not ask.
    [[nodiscard]] virtual Outcome<> can_del_node(const node::Node& /*node*/) const { return {}; }
    /// The node's last reference is gone, no request uses it; nothing of it has been cleaned yet.
    virtual void del_node(node::Node& node) = 0;
    /// The geometry of the node's device may have changed: it has reconnected.
    virtual void node_changed(node::Node& /*node*/) {}
    /// Turns one request on the storage into requests on nodes, and answers when they are done.
    /// `request.range` lies within `geometry().size`; a flush goes to every node that has a cache.
    /// The task dies before the algorithm does. Suspends.
    virtual async::Task<Result<>> remap(block::Request& request) = 0;
    /// A node's connection or request failed. `fixed`: the failure is dealt with (a lost
    /// connection: keep the queue and wait). Suspends.
    virtual async::Task<Recovery> error(node::Node& node, Error error) = 0;
    /// What the nodes make together. Of no size while there is no node. Asked for each request.
    [[nodiscard]] virtual block::Geometry geometry() const = 0;
};

/// Makes an instance for a new storage, or refuses its options with a text that says why.
using Factory = std::function<Outcome<std::unique_ptr<Algorithm>>(const Options& options)>;

}  // namespace dst::algorithm
