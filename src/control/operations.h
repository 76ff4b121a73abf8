// What can be done to a running daemon, by whoever asks: API, command line, tree.
//
// Each operation is a coroutine on the reactor's thread; it takes values, because who asked may be
// gone before it ends. A refusal is one line for a person (what, why, what to do) and leaves
// nothing changed. What an operation changes survives a restart (state_file.h).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/result.h"
#include "control/config.h"
#include "control/status.h"

namespace dst::control {

class Operations {
  public:
    virtual ~Operations() = default;

    virtual async::Task<Outcome<Status>> status() = 0;

    /// `start`: form it at once; else it is there, stopped.
    virtual async::Task<Outcome<>> storage_create(StorageSpec spec, bool start) = 0;
    virtual async::Task<Outcome<>> storage_start(std::string name) = 0;
    /// Finishes its requests and flushes.
    virtual async::Task<Outcome<>> storage_stop(std::string name) = 0;
    /// Refused (`busy`) while it is exported, attached, or a node of another.
    virtual async::Task<Outcome<>> storage_remove(std::string name) = 0;
    virtual async::Task<Outcome<>> node_add(std::string storage, NodeSpec node) = 0;

    virtual async::Task<Outcome<>> export_add(ExportSpec spec) = 0;
    /// Closes its connections.
    virtual async::Task<Outcome<>> export_remove(std::string name) = 0;
    virtual async::Task<Outcome<std::vector<ExportStatus>>> export_list() = 0;

    /// `file` is an absolute path. What was loaded, as it is listed.
    virtual async::Task<Outcome<AlgorithmStatus>> algorithm_load(std::string file) = 0;
    virtual async::Task<Outcome<std::vector<AlgorithmStatus>>> algorithm_list() = 0;
    /// Refused (`busy`) while a storage uses it.
    virtual async::Task<Outcome<>> algorithm_unload(std::string name) = 0;
};

/// Calls `make` on the reactor's thread, and runs there the task that it makes. May itself be
/// called on any thread, and does not wait. `make` makes the task there, not here, because a
/// frame is freed by the thread that allocated it. If the reactor ends first, `make` or the task
/// is destroyed; whoever waits for it learns of that.
using SpawnOnReactor = std::function<void(std::function<async::Task<void>()> make)>;

}  // namespace dst::control
