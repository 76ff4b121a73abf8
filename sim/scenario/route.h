// Route: what lies between the device that an export shows and the disks.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"

namespace dst::sim {

struct Route {
    struct DiskAt {
        const HostSpec* host = nullptr;
        const DiskSpec* disk = nullptr;
        bool is_own = false;  // of the first daemon, without a node between
        friend bool operator==(const DiskAt&, const DiskAt&) = default;
    };
    /// The first one shows the device; each other is reached by nodes of those before it.
    std::vector<const DaemonSpec*> daemons;
    std::vector<DiskAt> disks;
    bool is_mirror = false;         // what the first daemon shows
    bool is_storage = false;        // else the first daemon shows a disk, or memory
    bool has_own_memory = false;    // part of it is gone with the first daemon
    bool has_far_memory = false;    // part of it is gone with another one
    bool has_plain_server = false;  // behind a node: nobody fences its old connections
    bool has_hold = false;          // requests may fail because they have waited
};

/// Of DAEMON/EXPORT.
[[nodiscard]] std::pair<std::string_view, std::string_view> split_at(std::string_view at);

/// `at`: DAEMON/EXPORT. Refuses, with a text, what leads nowhere.
[[nodiscard]] Outcome<Route> find_route(const Scenario& scenario, std::string_view at);

/// What lies behind such nodes of `daemon`.
[[nodiscard]] Outcome<Route> find_nodes(const Scenario& scenario, const DaemonSpec& daemon,
                                        const std::vector<control::NodeSpec>& nodes);

/// The daemons that nodes and witnesses of `daemon` lead to.
[[nodiscard]] std::vector<const DaemonSpec*> needed_by(const Scenario& scenario,
                                                       const DaemonSpec& daemon);

/// The port that its exports are served at.
[[nodiscard]] std::uint16_t port_of(const DaemonSpec& daemon);

}  // namespace dst::sim
