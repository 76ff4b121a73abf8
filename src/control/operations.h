// What can be done to a running daemon, by whoever asks: API, command line, tree.
//
// Each operation is a coroutine on the reactor's thread; it takes values, because who asked may be
// gone before it ends. A refusal is one line for a person (what, why, what to do) and leaves
// nothing changed. What an operation changes survives a restart (state_file.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/task.h"
#include "attach/way.h"
#include "base/result.h"
#include "control/config.h"
#include "control/status.h"

namespace dst::control {

/// What a person says about a storage that waits.
struct Starting {
    bool force = false;
    std::string keep{};  // a node, where sides have diverged
};

/// How a node is taken in.
struct Adding {
    bool is_witness = false;
    /// Whatever lies where its metadata will be is overwritten.
    bool force = false;
};

enum class NodeMark : std::uint8_t { dirty, clean };

/// What is not given stays.
struct ResyncChange {
    std::optional<SectorCount> size{};
    std::optional<std::chrono::milliseconds> timeout{};
};

class Operations {
  public:
    virtual ~Operations() = default;

    virtual async::Task<Outcome<Status>> status() = 0;
    /// {"file", "in_force"}: TOML, as the daemon has read it, and with what was changed since;
    /// {"differences"} between the two (config_diff.h), and {"stopped": [names of storages]}.
    virtual async::Task<Outcome<std::string>> config() = 0;
    /// What it takes to run what `wanted` says, as JSON (apply_plan.h). Changes nothing.
    virtual async::Task<Outcome<std::string>> plan(Config wanted, bool prune) = 0;
    /// The page for Prometheus.
    virtual async::Task<Outcome<std::string>> metrics() = 0;
    /// {"last": N, "events": [...]}, those after number `after` (events.h). `wait`: not before
    /// there is one, or some seconds have passed.
    virtual async::Task<Outcome<std::string>> events(std::uint64_t after, bool wait) = 0;

    /// `start`: form it at once; else it is there, stopped.
    virtual async::Task<Outcome<>> storage_create(StorageSpec spec, bool start) = 0;
    /// Makes a storage known whose nodes have its metadata; makes nothing anew.
    virtual async::Task<Outcome<>> storage_assemble(StorageSpec spec) = 0;
    /// One that is stopped; or one that waits, if `how` says something about that.
    virtual async::Task<Outcome<>> storage_start(std::string name, Starting how) = 0;
    /// Finishes its requests and flushes.
    virtual async::Task<Outcome<>> storage_stop(std::string name) = 0;
    /// Refused (`busy`) while it is exported, attached, or a node of another.
    virtual async::Task<Outcome<>> storage_remove(std::string name) = 0;
    /// Begins to compare its copies, and to make them equal if `repair`; the status has the result.
    virtual async::Task<Outcome<>> storage_verify(std::string name, bool repair) = 0;
    /// Takes the size that its nodes allow, which have grown.
    virtual async::Task<Outcome<>> storage_grow(std::string name) = 0;
    /// What the loss of each of its nodes, links and hosts would mean now, as JSON (what_if.h).
    virtual async::Task<Outcome<std::string>> storage_what_if(std::string name) = 0;
    virtual async::Task<Outcome<>> storage_set_resync(std::string name, ResyncChange change) = 0;

    // `node` is a cookie (16 hex digits), the name of its directory in the tree, or its type.

    virtual async::Task<Outcome<>> node_add(std::string storage, NodeSpec spec, Adding how) = 0;
    /// `force`: although it has the last clean copy.
    virtual async::Task<Outcome<>> node_remove(std::string storage, std::string node,
                                               bool force) = 0;
    virtual async::Task<Outcome<>> node_replace(std::string storage, std::string node,
                                                NodeSpec spec, Adding how) = 0;
    /// `force`: dirty, although it has the last clean copy; clean, although there is a better one.
    virtual async::Task<Outcome<>> node_mark(std::string storage, std::string node, NodeMark mark,
                                             bool force) = 0;
    /// The storage stays, stopped and empty. Refused (`busy`) as `storage_remove` is.
    virtual async::Task<Outcome<>> remove_all_nodes(std::string storage) = 0;

    /// What the tree has at `path` (attribute_tree.h), as JSON: {"value": "sync"} of a file,
    /// {"entries": ["alg", ...]} of a folder.
    virtual async::Task<Outcome<std::string>> tree_read(std::string path) = 0;
    virtual async::Task<Outcome<>> tree_write(std::string path, std::string value) = 0;

    virtual async::Task<Outcome<>> export_add(ExportSpec spec) = 0;
    /// Closes its connections.
    virtual async::Task<Outcome<>> export_remove(std::string name) = 0;
    virtual async::Task<Outcome<std::vector<ExportStatus>>> export_list() = 0;

    /// Shows a storage to the local kernel. Waits for one that is still forming.
    virtual async::Task<Outcome<AttachmentStatus>> attach(attach::Spec spec) = 0;
    /// Refused (`busy`) while it is in use or requests wait; with `force` those fail.
    virtual async::Task<Outcome<>> detach(std::string name, bool force) = 0;
    virtual async::Task<Outcome<std::vector<AttachmentStatus>>> attach_list() = 0;

    /// `file` is an absolute path. What was loaded, as it is listed.
    virtual async::Task<Outcome<AlgorithmStatus>> algorithm_load(std::string file) = 0;
    virtual async::Task<Outcome<std::vector<AlgorithmStatus>>> algorithm_list() = 0;
    /// Refused (`busy`) while a storage uses it.
    virtual async::Task<Outcome<>> algorithm_unload(std::string name) = 0;
};

/// What can be seen of a running daemon at once, on the reactor's thread.
class View {
  public:
    [[nodiscard]] virtual std::vector<std::string> storage_names() const = 0;
    /// Null if there is none of that name. A picture of now: it does not change.
    [[nodiscard]] virtual std::shared_ptr<const StorageStatus> storage(
        std::string_view name) const = 0;

  protected:
    ~View() = default;
};

/// Calls `make` on the reactor's thread, and runs there the task that it makes. May itself be
/// called on any thread, and does not wait. `make` makes the task there, not here, because a
/// frame is freed by the thread that allocated it. If the reactor ends first, `make` or the task
/// is destroyed; whoever waits for it learns of that.
using SpawnOnReactor = std::function<void(std::function<async::Task<void>()> make)>;

}  // namespace dst::control
