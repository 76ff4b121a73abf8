// Programs made of the product's own classes, to build clusters of.
//
//     far.add_process("exporter", sim::daemon(sim::config().show(sim::file("disk0", "/disk"))));
//     head.add_process("head", sim::daemon(sim::config()
//         .make(sim::linear("vol0", {"R: 10.0.0.1/disk0", "L: /local"}))
//         .show(sim::storage("vol0"))));
//     near.add_process("client", sim::client({.endpoint = head.endpoint(10809),
//                                             .export_name = "vol0"}, make_load));
//
// A daemon is the whole of the real one, from its configuration on, but for the API's socket: its
// state and its identity lie in the host's small files. An exporter is a daemon with exports of
// files or memory; a head is one with storages. Requests come from a `Load`: through a node (a
// head of its own), as a plain NBD client, or inside the daemon at the device that an export shows.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/scope.h"
#include "block/buffer.h"
#include "block/device.h"
#include "control/config.h"
#include "control/daemon.h"
#include "node/remote.h"
#include "sim/process.h"

namespace dst::sim {

/// Where a load is to send its requests. References outlive the load.
struct Site {
    io::World& world;
    block::Device& device;
    block::Account& payloads;
};

/// Sends requests. An object of the process: gone when that is killed. What it knows of answers
/// that must not be forgotten it tells to somebody outside, at once.
class Load {
  public:
    virtual ~Load() = default;
    /// Returns when everything was sent and answered. Suspends.
    virtual async::Task<void> run(Site site) = 0;
    /// Sends nothing new from now on.
    virtual void end() = 0;
};
using MakeLoad = std::function<std::unique_ptr<Load>()>;

// Daemons ----------------------------------------------------------------------------------------

/// A configuration under construction: control::Config with what a simulation wants.
struct ConfigBuilder {
    control::Config config;

    ConfigBuilder& show(control::ExportSpec spec) {
        config.exports.push_back(std::move(spec));
        return *this;
    }
    ConfigBuilder& make(control::StorageSpec spec) {
        config.storages.push_back(std::move(spec));
        return *this;
    }
    ConfigBuilder& memory(ByteCount bytes) {
        config.memory = bytes;
        return *this;
    }
};
/// Listens on port 10809 of every address, has 40 MiB of memory.
[[nodiscard]] ConfigBuilder config();
/// Exports that anybody may read and write.
[[nodiscard]] control::ExportSpec file(std::string name, std::string path);
[[nodiscard]] control::ExportSpec memory(std::string name, ByteCount size);
[[nodiscard]] control::ExportSpec storage(std::string name);
/// `nodes` as an administrator writes them: "R: 10.0.0.1/disk0", "L: /disk".
[[nodiscard]] control::StorageSpec linear(std::string name, const std::vector<std::string>& nodes);

/// A load inside the daemon, at the device that the export shows, which is a storage.
struct InnerLoad {
    std::string export_name;
    MakeLoad make;
};
[[nodiscard]] Process::Main daemon(const ConfigBuilder& builder, std::vector<InnerLoad> loads = {});

class DaemonProgram final : public Program {
  public:
    DaemonProgram(io::World world, control::Config config, const std::vector<InnerLoad>& loads);
    ~DaemonProgram() override;

    async::Task<Outcome<>> start() override;
    async::Task<void> stop() override;
    void on_kill() override;

    /// What a client of the API would ask for: starts `make(daemon)`. As code of the process: from
    /// a load, or within `Process::call`. Once it has started.
    using Command = std::function<async::Task<void>(control::Daemon& daemon)>;
    void command(const Command& make);
    /// The device that an export shows; null if there is none.
    [[nodiscard]] block::Device* shown(const std::string& export_name);

  private:
    struct Running;
    async::Task<void> run_load(Running& running);

    io::World world_;
    const control::Config config_;
    block::BufferPool pool_;
    block::Account payloads_;
    std::unique_ptr<control::Daemon> daemon_;
    std::vector<std::unique_ptr<Running>> loads_;
    async::Scope commands_;
    async::Scope scope_;  // last: its tasks use all of the above
};

// Clients ----------------------------------------------------------------------------------------

struct ClientSettings {
    io::Endpoint endpoint;
    std::string export_name;
    /// A head of its own with a node (sessions, replay); else a plain NBD client, whose requests
    /// fail with `node_lost` when their connection breaks, and which connects again.
    bool is_node = true;
    bool checksums = true;
    bool structured_replies = true;  // of a plain client
    ByteCount replay_window{4 << 20};
    std::optional<io::Duration> hold{};
    ByteCount memory{16 << 20};
};
[[nodiscard]] Process::Main client(ClientSettings settings, MakeLoad make_load);

/// A client whose load begins once there is a device with a size.
class ClientProgram : public Program {
  public:
    /// What the node says of itself; nothing for a plain client.
    [[nodiscard]] virtual const node::Remote* node() const { return nullptr; }
    [[nodiscard]] virtual bool is_connected() const = 0;
};

}  // namespace dst::sim
