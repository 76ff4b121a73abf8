// NbdAttachment: one disk of the kernel's NBD client, and the session that serves it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "async/scope.h"
#include "async/wait.h"
#include "attach/way.h"
#include "io/uring/helper_threads.h"
#include "io/uring/nbd_netlink.h"
#include "io/uring/reactor.h"
#include "io/uring/unique_fd.h"
#include "nbd/server_session.h"

namespace dst::attach {

/// What the kernel keeps with a disk for us: whose it is.
[[nodiscard]] std::string owner_name(const std::string& name);

class NbdAttachment final : public Attachment, private nbd::ExportSource {
  public:
    NbdAttachment(io::uring::Reactor& reactor, io::uring::HelperThreads& threads, Spec spec,
                  Shown shown);
    ~NbdAttachment() override;

    /// As a new disk. Suspends.
    async::Task<Outcome<>> make();
    /// As disk `number`, which the kernel has still; `not_found` if not. Suspends.
    async::Task<Outcome<>> take_over(std::uint32_t number);

    [[nodiscard]] const std::string& path() const override { return path_; }
    [[nodiscard]] std::string trouble() const override { return trouble_; }
    async::Task<Outcome<>> resize() override;
    async::Task<Outcome<>> detach() override;
    async::Task<void> tear_off() override;
    async::Task<void> part(io::TimePoint deadline) override;
    async::Task<void> gone() override;

  private:
    class Counted;
    class Client;

    template <typename Function>
    auto on_netlink(Function function);
    async::Task<Outcome<io::uring::UniqueFd>> connection();
    async::Task<void> serve(std::unique_ptr<io::Stream> stream);
    async::Task<void> reconnect();
    [[nodiscard]] io::uring::NbdNetlink::Disk disk() const;
    [[nodiscard]] nbd::ExportInfo info() const;

    std::vector<nbd::ExportListing> list(const io::Address& peer) override;
    async::Task<std::expected<std::unique_ptr<nbd::Served>, nbd::Refusal>> select(
        std::string name, nbd::ServerSession& session) override;
    async::Task<std::expected<nbd::HelloAnswer, nbd::Refusal>> hello(
        nbd::Hello hello, nbd::ServerSession& session) override;

    io::uring::Reactor& reactor_;
    io::uring::HelperThreads& threads_;
    io::World world_;
    const Spec spec_;
    const Shown shown_;
    const std::unique_ptr<Counted> device_;
    /// Kept for life: the kernel may wait for a new connection when there is no other memory.
    block::Buffer receive_buffer_;
    std::uint32_t number_ = 0;
    std::string path_;
    std::string trouble_;
    std::uint16_t flags_ = 0;
    bool is_ending_ = false;
    std::vector<nbd::ServerSession*> sessions_;
    async::WaitQueue session_ended_;
    async::Scope tasks_;  // last: they use all of the above
};

}  // namespace dst::attach
