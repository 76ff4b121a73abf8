// Clients as programs of simulated processes: a head of its own with one node, or a plain NBD
// client. Their requests come from a load.
#pragma once

#include <optional>
#include <string>

#include "base/units.h"
#include "io/net.h"
#include "node/remote.h"
#include "sim/load.h"
#include "sim/process.h"

namespace dst::sim {

/// A client whose load begins once there is a device with a size.
class ClientProgram : public Program {
  public:
    /// What the node says of itself; nothing for a plain client.
    [[nodiscard]] virtual const node::Remote* node() const { return nullptr; }
    [[nodiscard]] virtual bool is_connected() const = 0;
};

struct NodeClientSettings {
    io::Endpoint endpoint;
    std::string export_name;
    ByteCount replay_window{4 << 20};
    std::optional<io::Duration> hold{};
    bool checksums = true;
    /// Where its identity lies, among the host's small files.
    std::string state_dir = "/var/lib/client";
};
/// Requests wait while the peer is away, and are sent again.
[[nodiscard]] Process::Main node_client(NodeClientSettings settings, MakeLoad make_load);

struct PlainClientSettings {
    io::Endpoint endpoint;
    std::string export_name;
    bool structured_replies = true;
};
/// Requests fail with `node_lost` when their connection breaks; it connects again.
[[nodiscard]] Process::Main plain_client(PlainClientSettings settings, MakeLoad make_load);

}  // namespace dst::sim
