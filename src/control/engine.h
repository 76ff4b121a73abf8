// Engine: the storages and exports of one reactor, and what they share.
//
// It knows specs and devices, no files, no API: the daemon tells it what there shall be.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "algorithm/registry.h"
#include "async/scope.h"
#include "attach/attachments.h"
#include "block/buffer.h"
#include "control/attributes.h"
#include "control/config.h"
#include "control/metrics.h"
#include "control/operations.h"
#include "control/status.h"
#include "control/what_if.h"
#include "export/exporter.h"
#include "io/world.h"
#include "storage/storage.h"

namespace dst::control {

class Engine {
  public:
    /// How long a command waits for the nodes that it names.
    static constexpr std::chrono::seconds kCommandMax{10};

    /// `memory`: what buffers may take, in bytes. `state_dir`: where reservations are kept. The
    /// registry outlives the engine.
    Engine(io::World world, algorithm::Registry& registry, node::HeadIdentity head,
           ByteCount memory, const std::string& state_dir);
    ~Engine();

    [[nodiscard]] exporter::Exporter& exporter() { return exporter_; }

    /// Makes a storage; starts it unless it is to be stopped. Does not wait for its nodes. The
    /// storages below it must be there.
    /// `is_there`: nothing is made anew, what its nodes say is formed.
    Outcome<> add_storage(const StorageSpec& spec, ByteCount replay_window, bool is_there = false);
    /// Waits for its nodes, as long as a command may take. Suspends.
    async::Task<Outcome<>> wait_formed(std::string name);
    Outcome<> start_storage(const std::string& name, const Starting& how);
    [[nodiscard]] bool is_started(const std::string& name) const;
    /// It can be used now.
    [[nodiscard]] bool is_ready(const std::string& name) const;
    /// May it be stopped or removed? Not while it is in use.
    [[nodiscard]] Outcome<> check_unused(const std::string& name) const;
    /// Done in any case; the text says what acknowledged changes were lost in doing so. Suspends.
    async::Task<Outcome<>> stop_storage(std::string name, io::TimePoint deadline);
    async::Task<Outcome<>> remove_storage(std::string name);
    /// Writes down what is about to be done (storage::Adding::note).
    using Noting = std::function<Outcome<>()>;
    async::Task<Outcome<>> add_node(std::string storage, NodeSpec node, Adding how, Noting note);
    /// The type of the node, as its spec is written, comes with the removal.
    async::Task<Outcome<std::string>> remove_node(std::string storage, std::string node,
                                                  bool force);
    /// One of its nodes is of that type. (A place that is no node does not count.)
    [[nodiscard]] bool has_node(const std::string& storage, const std::string& type) const;
    /// What the configuration calls the node. Refused if there is no such node.
    [[nodiscard]] Outcome<std::string> type_of(const std::string& storage,
                                               const std::string& node) const;
    /// The node has metadata alone. Refused if there is no such node.
    [[nodiscard]] Outcome<bool> is_witness(const std::string& storage,
                                           const std::string& node) const;
    async::Task<Outcome<std::string>> replace_node(std::string storage, std::string node,
                                                   NodeSpec spec, Adding how, Noting note);
    async::Task<Outcome<>> mark_node(std::string storage, std::string node, NodeMark mark,
                                     bool force);
    Outcome<> begin_comparison(const std::string& storage, bool repair);
    async::Task<Outcome<>> grow_storage(std::string storage);
    /// Refused unless it is formed, with what is in the way.
    [[nodiscard]] Outcome<WhatIf> what_if(const std::string& storage) const;
    Outcome<> set_resync(const std::string& storage, const ResyncChange& change);
    /// What a storage that is stopped is made of at its next start.
    Outcome<> set_storage(const StorageSpec& spec, ByteCount replay_window);

    /// Opens the device and shows it. Suspends.
    async::Task<Outcome<>> add_export(ExportSpec spec);
    /// Closes its connections. Requests that wait for their device don't hold this up for longer
    /// than `kPartingMax`; their memory and an own device go when they are done. Suspends.
    async::Task<Outcome<>> remove_export(std::string name);
    static constexpr std::chrono::seconds kPartingMax{2};

    /// Shows a storage to the local kernel, once it is formed. Suspends.
    async::Task<Outcome<AttachmentStatus>> attach(attach::Spec spec);
    [[nodiscard]] attach::Attachments& attachments() { return attachments_; }
    [[nodiscard]] std::vector<AttachmentStatus> attached() const;

    /// Commands that wait for nodes give up; `hurry`: those that stop a storage, too.
    void interrupt(bool hurry);
    /// Ends everything: requests finished and flushed if that can be until `deadline`. Suspends.
    async::Task<void> shut_down(io::TimePoint deadline);

    /// `config` says in which order.
    void report(const Config& config, Status& status) const;
    /// Adds what was counted.
    void measure(Figures& figures) const;
    /// Nothing if there is no storage of that name.
    [[nodiscard]] std::optional<StorageStatus> report(std::string_view storage) const;
    /// Woken whenever something that is reported may have changed.
    [[nodiscard]] async::WaitQueue& changes() { return around_.any_change; }
    [[nodiscard]] bool has_storage(const std::string& name) const {
        return storages_.contains(name);
    }

  private:
    /// An export that was removed, until the requests of its clients are done.
    struct Leaving;
    /// An export's own device, and its share of the buffers. Goes after its export.
    struct Shown {
        ExportSpec spec;
        std::unique_ptr<block::Device> device;
        block::Share account;
    };
    [[nodiscard]] Outcome<storage::Settings> settings_of(const StorageSpec& spec,
                                                         ByteCount replay_window) const;
    [[nodiscard]] Outcome<storage::MemberSpec> member_of(const NodeSpec& node) const;
    [[nodiscard]] Outcome<storage::MirrorSettings> mirror_settings(const StorageSpec& spec) const;
    [[nodiscard]] Outcome<storage::NodeStatus> find_node(const std::string& storage,
                                                         const std::string& node) const;
    [[nodiscard]] std::string user_of(const std::string& storage) const;
    async::Task<void> let_go(std::shared_ptr<Leaving> leaving);
    async::Task<Outcome<std::unique_ptr<block::Device>>> open_device(const ExportSpec& spec);

    block::BufferPool pool_;
    block::Account node_connections_;  // of the nodes alone: clients wait for nodes
    block::Account connections_;
    storage::Surroundings around_;
    std::map<std::string, Shown> shown_;
    std::map<std::string, std::unique_ptr<storage::Storage>, std::less<>> storages_;
    attach::Attachments attachments_;
    async::Scope leaving_;         // has the devices of exports that were removed
    exporter::Exporter exporter_;  // last: its sessions use all of the above
};

}  // namespace dst::control
