// The way `ublk`: the kernel's block driver in user space, Linux 6.0. Its requests come through the
// reactor's own ring. The disk outlives the daemon: requests wait in the kernel until the next one
// takes them over, so a crash or an upgrade fails nothing.
#pragma once

#include <memory>
#include <vector>

#include "attach/way.h"
#include "io/uring/helper_threads.h"
#include "io/uring/reactor.h"

namespace dst::io::uring {
class UblkControl;
}

namespace dst::attach {

class Ublk final : public Way {
  public:
    explicit Ublk(io::uring::Reactor& reactor) : reactor_(reactor), threads_(kThreadsMax) {}

    [[nodiscard]] Kind kind() const override { return Kind::ublk; }
    async::Task<std::string> obstacle() override;
    /// A `spec.device` that the kernel has still, of this name, is taken over, with its size.
    async::Task<Outcome<std::unique_ptr<Attachment>>> attach(
        const Spec& spec, Shown shown, std::unique_ptr<Attachment>& failed) override;
    async::Task<Outcome<>> discard(const Spec& spec, bool force) override;

  private:
    /// Commands block, each for as long as its disk is busy.
    static constexpr std::size_t kThreadsMax = 4;

    async::Task<void> remove_closed(std::shared_ptr<const io::uring::UblkControl> control);

    io::uring::Reactor& reactor_;
    /// Disks that ended while somebody had them open; attachments add to it.
    const std::shared_ptr<std::vector<std::uint32_t>> unremoved_ =
        std::make_shared<std::vector<std::uint32_t>>();
    io::uring::HelperThreads threads_;
};

}  // namespace dst::attach
