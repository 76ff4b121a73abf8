// The tree at `<run_dir>/sysfs`, from its mount to its unmounting.
#pragma once

#include <memory>
#include <string>

#include "async/scope.h"
#include "base/result.h"
#include "control/attribute_tree.h"
#include "control/config.h"
#include "io/uring/fuse_mount.h"
#include "tree/server.h"

namespace dst::control {

class TreeMount {
  public:
    /// Mounts and serves. Where that can't be, says so in one warning, and all the rest works.
    /// `writes` has what is written there, until it is done; it and `content` outlive this. Blocks:
    /// for start-up, before the reactor runs.
    TreeMount(io::uring::Reactor& reactor, const Config& config, tree::Content& content,
              async::Scope& writes);
    ~TreeMount();

    /// Something that it shows may have changed.
    void changed();
    /// Unmounts. Who still waits for a write is told (ESHUTDOWN); what it asked for goes on. Not
    /// from within a coroutine.
    void close();

  private:
    io::uring::Reactor& reactor_;
    tree::Server server_;
    std::unique_ptr<io::uring::FuseMount> mount_;  // null: there is none
    async::Scope scope_;
};

/// `<run_dir>/sysfs`
[[nodiscard]] std::string tree_path(const Config& config);

}  // namespace dst::control
