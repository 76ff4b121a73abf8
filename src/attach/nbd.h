// The way `nbd`: the kernel's own NBD client, over a socket whose other end is a session of ours.
//
// It has one connection. Several would all end on this reactor, and the kernel takes a request that
// waits for 30 s on one of several for a sign that the connection is dead; one that waits on the
// only connection just waits. If the daemon dies the kernel waits for the next one, which connects
// the disk again; what was in flight is sent again 30 s after it was sent first.
#pragma once

#include "attach/way.h"
#include "io/uring/helper_threads.h"
#include "io/uring/reactor.h"

namespace dst::attach {

class Nbd final : public Way {
  public:
    explicit Nbd(io::uring::Reactor& reactor) : reactor_(reactor), threads_(kThreadsMax) {}

    [[nodiscard]] Kind kind() const override { return Kind::nbd; }
    async::Task<std::string> obstacle() override;
    /// A `spec.device` that the kernel has still, of this name, is connected again.
    async::Task<Outcome<std::unique_ptr<Attachment>>> attach(
        const Spec& spec, Shown shown, std::unique_ptr<Attachment>& failed) override;
    async::Task<Outcome<>> discard(const Spec& spec, bool force) override;

  private:
    static constexpr std::size_t kThreadsMax = 4;

    io::uring::Reactor& reactor_;
    io::uring::HelperThreads threads_;
};

}  // namespace dst::attach
