// Visitor: somebody who looks at an export once, and leaves nothing behind: a head that nobody
// knows, which displaces no session and reserves nothing.
#pragma once

#include <string>

#include "async/wait.h"
#include "block/buffer.h"
#include "io/world.h"
#include "node/remote.h"

namespace dst::cli {

class Visitor final : private node::Observer {
  public:
    Visitor(io::World world, const io::Endpoint& endpoint, const std::string& export_name);

    /// True if it is connected; else the remote's status says why it can't be. Suspends.
    async::Task<bool> connect();
    /// Must be called before it dies. Suspends.
    async::Task<void> leave();
    [[nodiscard]] node::Remote& remote() { return remote_; }

  private:
    void node_ready() override { note(is_ready_); }
    void node_lost() override {}
    void node_refused() override { note(is_refused_); }
    void note(bool& what) {
        what = true;
        changed_.wake_all();
    }

    io::World world_;
    block::BufferPool pool_;
    block::Account account_;
    bool is_ready_ = false;
    bool is_refused_ = false;
    async::WaitQueue changed_;
    node::Remote remote_;
};

}  // namespace dst::cli
