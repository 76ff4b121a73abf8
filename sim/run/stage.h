// Stage: the cluster of a scenario, as hosts, processes, disks and volumes of a world.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/faults.h"
#include "sim/keeper.h"
#include "sim/run/volume.h"
#include "sim/run/workload.h"
#include "sim/scenario/scenario.h"
#include "sim/scenario/steps.h"
#include "sim/world.h"

namespace dst::sim {

class Stage {
  public:
    struct Server {
        const DaemonSpec* spec = nullptr;
        Process* process = nullptr;
    };
    struct Customer {
        const ClientSpec* spec = nullptr;
        Volume* volume = nullptr;
        std::unique_ptr<Workload> workload;
        Process* process = nullptr;  // of one inside: its daemon's
    };

    /// `scenario` outlives it. Nothing runs yet.
    Stage(const Scenario& scenario, std::uint64_t seed, Trace::Sink trace);
    Stage(const Stage&) = delete;
    Stage& operator=(const Stage&) = delete;

    [[nodiscard]] const Scenario& scenario() const { return scenario_; }
    [[nodiscard]] World& world() { return world_; }
    [[nodiscard]] Keeper& keeper() { return keeper_; }
    [[nodiscard]] Faults& faults() { return faults_; }
    [[nodiscard]] const Faults& faults() const { return faults_; }
    /// In the order of the scenario.
    [[nodiscard]] const std::vector<Server>& servers() const { return servers_; }
    [[nodiscard]] const std::vector<std::unique_ptr<Customer>>& customers() const {
        return customers_;
    }
    [[nodiscard]] const std::vector<std::unique_ptr<Volume>>& volumes() const { return volumes_; }

    /// A person has overruled what a mirror's ages say: they may go back from then on.
    void note_force() { is_forced_ = true; }
    [[nodiscard]] bool is_forced() const { return is_forced_; }

    /// What the daemon's file says.
    [[nodiscard]] static control::Config config_of(const DaemonSpec& spec);
    /// Of a daemon or a client; null if there is none.
    [[nodiscard]] Process* find_process(std::string_view name) const;
    [[nodiscard]] Host& host(std::string_view name) const;
    [[nodiscard]] Target resolve(const TargetName& name) const;
    /// All processes, in the order in which they are stopped: each before those that it needs.
    [[nodiscard]] std::vector<Process*> in_order_of_stop() const;

  private:
    [[nodiscard]] static WorldSettings settings_of(const Scenario& scenario, std::uint64_t seed,
                                                   Trace::Sink trace);
    void add_host(const HostSpec& spec);
    void add_customer(const ClientSpec& spec);
    [[nodiscard]] Volume& volume_of(const ClientSpec& spec);
    void add_server(const DaemonSpec& spec);
    void add_client(Customer& customer);
    void watch_processes();
    void watch_disks();

    const Scenario& scenario_;
    // Before the world: processes that end with it have something to say to them.
    std::vector<std::unique_ptr<Volume>> volumes_;
    std::vector<std::unique_ptr<Customer>> customers_;
    World world_;
    Keeper keeper_;
    Faults faults_;
    std::vector<Server> servers_;
    bool is_forced_ = false;
};

}  // namespace dst::sim
