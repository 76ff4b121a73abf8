// The daemon: everything that one head does, from the first line of its configuration to the last
// flush of its shutdown.
#pragma once

#include <memory>
#include <string>

#include "algorithm/registry.h"
#include "async/scope.h"
#include "async/wait.h"
#include "control/config.h"
#include "control/daemon_options.h"
#include "control/engine.h"
#include "control/operations.h"
#include "control/state_file.h"

namespace dst::control {

/// What is configured, what was changed since, and what runs: keeps the three in step.
///
/// A change is first done, then noted durably; if it can't be noted it is undone and refused. One
/// change at a time.
class Daemon final : public Operations {
  public:
    /// `file` is the configuration as read, `state` what was changed since; both are checked.
    Daemon(io::World world, Config file, RuntimeState state, node::HeadIdentity head);
    ~Daemon() override;

    /// Loads algorithms, makes storages (which form in the background), opens exports, listens.
    /// Refuses with the setting that is in the way. Suspends.
    async::Task<Outcome<>> start();
    /// Ends within `kStopMax`, whatever hangs; `commands` are those under way. Suspends.
    async::Task<void> stop(async::Scope& commands);

    static constexpr std::chrono::seconds kStopMax{8};

    /// What runs: for whoever serves its devices in another way than over the network.
    [[nodiscard]] Engine& engine() { return engine_; }

    async::Task<Outcome<Status>> status() override;
    async::Task<Outcome<>> storage_create(StorageSpec spec, bool start) override;
    async::Task<Outcome<>> storage_assemble(StorageSpec spec) override;
    async::Task<Outcome<>> storage_start(std::string name, Starting how) override;
    async::Task<Outcome<>> storage_verify(std::string name, bool repair) override;
    async::Task<Outcome<>> storage_set_resync(std::string name, ResyncChange change) override;
    async::Task<Outcome<>> storage_stop(std::string name) override;
    async::Task<Outcome<>> storage_remove(std::string name) override;
    async::Task<Outcome<>> node_add(std::string storage, NodeSpec node, Adding how) override;
    async::Task<Outcome<>> node_remove(std::string storage, std::string node) override;
    async::Task<Outcome<>> node_replace(std::string storage, std::string node, NodeSpec by,
                                        Adding how) override;
    async::Task<Outcome<>> node_mark(std::string storage, std::string node, NodeMark mark) override;
    async::Task<Outcome<>> export_add(ExportSpec spec) override;
    async::Task<Outcome<>> export_remove(std::string name) override;
    async::Task<Outcome<std::vector<ExportStatus>>> export_list() override;
    async::Task<Outcome<AlgorithmStatus>> algorithm_load(std::string file) override;
    async::Task<Outcome<std::vector<AlgorithmStatus>>> algorithm_list() override;
    async::Task<Outcome<>> algorithm_unload(std::string name) override;

  private:
    /// What there shall be after a change that is under way.
    struct Change {
        Config config;
        RuntimeState state;
    };
    [[nodiscard]] Change change() const { return {config_, state_}; }
    [[nodiscard]] Outcome<> commit(Change change);
    [[nodiscard]] Outcome<> note(const Change& change);
    void adopt(Change change);
    [[nodiscard]] Outcome<> take_back(Problem why);
    [[nodiscard]] Outcome<StorageSpec*> find_storage(Change& change, const std::string& name) const;
    [[nodiscard]] std::vector<const StorageSpec*> in_order_of_need() const;
    Outcome<> start_algorithms();
    Outcome<> start_storages();
    async::Task<Outcome<>> start_exports();
    [[nodiscard]] std::vector<AlgorithmStatus> algorithms() const;
    [[nodiscard]] std::vector<std::string> warnings() const;
    async::Task<Outcome<>> create(StorageSpec spec, bool is_there);
    [[nodiscard]] Outcome<> check_known(const std::string& name) const;

    io::World world_;
    const Config file_;
    RuntimeState state_;
    Config config_;  // what is in force
    algorithm::Registry registry_;
    Engine engine_;
    async::Semaphore changing_{1};
};

/// Runs a daemon until it is told to end; the program's exit code.
int daemon_main(const DaemonOptions& options);

}  // namespace dst::control
