// The daemon as a program of a simulated process: the whole of the real one, from its configuration
// on, but for the API's socket. Its state and its identity lie in the host's small files.
//
//     far.add_process("exporter", sim::daemon(config));
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/scope.h"
#include "block/buffer.h"
#include "control/config.h"
#include "control/daemon.h"
#include "sim/load.h"
#include "sim/process.h"

namespace dst::sim {

/// A load inside the daemon, at the storage that the export shows.
struct InnerLoad {
    std::string export_name;
    MakeLoad make;
};
/// Where `config` says nothing of them the daemon listens on port 10809 of every address, lets
/// everybody read and write, and has 40 MiB of memory.
[[nodiscard]] Process::Main daemon(control::Config config, std::vector<InnerLoad> loads = {});

/// Lets everybody in, unless somebody else was named.
void open_to_all(control::ExportSpec& spec);

class DaemonProgram final : public Program {
  public:
    DaemonProgram(io::World world, control::Config config, const std::vector<InnerLoad>& loads);
    ~DaemonProgram() override;

    async::Task<Outcome<>> start() override;
    async::Task<void> stop() override;

    /// What a client of the API would ask for: starts `make(daemon)`. As code of the process: from
    /// a load, or within `Process::call`. Once it has started.
    using Command = std::function<async::Task<void>(control::Daemon& daemon)>;
    void command(const Command& make);
    /// Once it has started.
    [[nodiscard]] control::Daemon& daemon() const { return *daemon_; }
    /// The device that an export shows; null if there is none.
    [[nodiscard]] block::Device* shown(const std::string& export_name);
    /// The same device as far as it can be used now; null if it can't.
    [[nodiscard]] block::Device* usable(const std::string& export_name);

  private:
    struct Running;
    async::Task<void> run_load(Running& running);
    static async::Task<void> attach_anew(Running& running);
    async::Task<void> until_formed(const Running& running) const;

    io::World world_;
    const control::Config config_;
    block::BufferPool pool_;
    block::Account payloads_;
    std::unique_ptr<control::Daemon> daemon_;
    std::vector<std::unique_ptr<Running>> loads_;
    bool is_ending_ = false;
    async::Scope commands_;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace dst::sim
