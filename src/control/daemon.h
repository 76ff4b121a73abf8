// The daemon: everything that one head does, from the first line of its configuration to the last
// flush of its shutdown.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "algorithm/registry.h"
#include "async/scope.h"
#include "async/wait.h"
#include "control/attribute_tree.h"
#include "control/config.h"
#include "control/daemon_options.h"
#include "control/engine.h"
#include "control/events.h"
#include "control/metrics_listener.h"
#include "control/operations.h"
#include "control/state_file.h"

namespace dst::control {

/// What is configured, what was changed since, and what runs: keeps the three in step.
///
/// A change is first done, then noted durably; if it can't be noted it is undone and refused. One
/// change at a time.
class Daemon final : public Operations, public View {
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
    /// How often it looks for changes while a storage does not run as it should.
    static constexpr std::chrono::seconds kLookEach{1};
    /// What is seen is no older than this, nor than the last change.
    static constexpr std::chrono::milliseconds kLookLasts{20};
    /// How long who asks for events waits for one; and how many may, others are told at once.
    static constexpr std::chrono::seconds kEventWait{20};
    static constexpr std::size_t kEventWaitersMax = 4;

    /// What runs: for whoever serves its devices in another way than over the network.
    [[nodiscard]] Engine& engine() { return engine_; }
    /// What can be seen and steered, as a tree. Lives as long as the daemon.
    [[nodiscard]] AttributeTree& tree() { return tree_; }
    /// `told` is called whenever what is seen may have changed, between coroutines, from `start`
    /// on until `stop`.
    void on_change(std::function<void()> told) { told_ = std::move(told); }

    [[nodiscard]] std::vector<std::string> storage_names() const override;
    [[nodiscard]] std::shared_ptr<const StorageStatus> storage(
        std::string_view name) const override;

    async::Task<Outcome<Status>> status() override;
    async::Task<Outcome<std::string>> config() override;
    async::Task<Outcome<std::string>> plan(Config wanted, bool prune) override;
    async::Task<Outcome<std::string>> metrics() override;
    async::Task<Outcome<std::string>> events(std::uint64_t after, bool wait) override;
    async::Task<Outcome<>> storage_create(StorageSpec spec, bool start) override;
    async::Task<Outcome<>> storage_assemble(StorageSpec spec) override;
    async::Task<Outcome<>> storage_start(std::string name, Starting how) override;
    async::Task<Outcome<>> storage_verify(std::string name, bool repair) override;
    async::Task<Outcome<>> storage_grow(std::string name) override;
    async::Task<Outcome<std::string>> storage_what_if(std::string name) override;
    async::Task<Outcome<>> storage_set_resync(std::string name, ResyncChange change) override;
    async::Task<Outcome<>> storage_stop(std::string name) override;
    async::Task<Outcome<>> storage_remove(std::string name) override;
    async::Task<Outcome<>> node_add(std::string storage, NodeSpec node, Adding how) override;
    async::Task<Outcome<>> node_remove(std::string storage, std::string node, bool force) override;
    async::Task<Outcome<>> node_replace(std::string storage, std::string node, NodeSpec by,
                                        Adding how) override;
    async::Task<Outcome<>> node_mark(std::string storage, std::string node, NodeMark mark,
                                     bool force) override;
    async::Task<Outcome<>> remove_all_nodes(std::string storage) override;
    async::Task<Outcome<std::string>> tree_read(std::string path) override;
    async::Task<Outcome<>> tree_write(std::string path, std::string value) override;
    async::Task<Outcome<>> export_add(ExportSpec spec) override;
    async::Task<Outcome<>> export_remove(std::string name) override;
    async::Task<Outcome<std::vector<ExportStatus>>> export_list() override;
    async::Task<Outcome<AttachmentStatus>> attach(attach::Spec spec) override;
    async::Task<Outcome<>> detach(std::string name, bool force) override;
    async::Task<Outcome<std::vector<AttachmentStatus>>> attach_list() override;
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
    async::Task<void> attach_again(attach::Spec spec);
    async::Task<Outcome<AttachmentStatus>> attach_now(attach::Spec spec, bool is_new);
    [[nodiscard]] Outcome<> forget_attachment(const std::string& name);
    [[nodiscard]] Outcome<> store_attachments(const std::vector<attach::Spec>& attached);
    [[nodiscard]] std::vector<AlgorithmStatus> algorithms() const;
    [[nodiscard]] std::vector<std::string> warnings() const;
    async::Task<Outcome<>> create(StorageSpec spec, bool is_there);
    [[nodiscard]] Outcome<> check_known(const std::string& name) const;
    async::Task<void> watch();
    void look();
    [[nodiscard]] Status picture() const;
    [[nodiscard]] std::string metrics_page() const;

    io::World world_;
    const Config file_;
    RuntimeState state_;
    Config config_;  // what is in force
    algorithm::Registry registry_;
    Engine engine_;
    async::Semaphore changing_{1};
    AttributeTree tree_{*this, *this};
    std::function<void()> told_;
    /// The picture of a storage that was taken last: who walks the tree asks again and again.
    mutable std::shared_ptr<const StorageStatus> last_look_;
    mutable io::TimePoint last_look_at_;
    /// What is attached, or shall be again (attach_record.h).
    std::vector<attach::Spec> attached_;
    /// By name, why those that were attached are not again.
    std::map<std::string, std::string> not_attached_;
    EventLog events_;
    async::WaitQueue new_events_;
    std::size_t event_waiters_ = 0;
    MetricsListener metrics_{world_, [this] { return metrics_page(); }};
    bool is_ending_ = false;   // a stop has begun
    bool is_stopped_ = false;  // nothing changes any more
    async::Scope watching_;
    async::Scope attaching_;  // again, what an earlier life had attached
};

/// Runs a daemon until it is told to end; the program's exit code.
int daemon_main(const DaemonOptions& options);

}  // namespace dst::control
