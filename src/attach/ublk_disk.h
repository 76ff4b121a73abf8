// UblkDisk: answers the requests that the kernel has for one ublk disk.
//
// A coroutine for each tag passes it to and fro. What the device does with a request is a task
// beside it, which owns the buffer: so a request can be answered with EIO, or left to the next
// daemon, although the device holds it still.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "async/scope.h"
#include "async/wait.h"
#include "attach/way.h"
#include "base/pages.h"
#include "io/uring/reactor.h"
#include "io/uring/ublk_queue.h"

namespace dst::attach {

class UblkDisk {
  public:
    /// Requests of the kernel at a time, and the most bytes of one.
    static constexpr std::uint16_t kDepth = 128;
    static constexpr std::uint32_t kRequestBytesMax = 256 << 10;

    UblkDisk(io::uring::Reactor& reactor, Shown shown, std::unique_ptr<io::uring::UblkQueue> queue);
    ~UblkDisk();
    UblkDisk(const UblkDisk&) = delete;
    UblkDisk& operator=(const UblkDisk&) = delete;

    /// Asks for requests, of which there are `depth` at most at a time. Once.
    void begin(std::uint16_t depth);
    /// Requests that wait for an answer.
    [[nodiscard]] std::size_t waiting() const { return waiting_; }
    /// True when none waits, false at `deadline`. Suspends.
    async::Task<bool> idle(io::TimePoint deadline);

    /// From now on everything fails with EIO, also what the device holds.
    void fail_all();
    /// Suspends until the kernel has taken all tags back, which it does when the disk is stopped.
    async::Task<void> taken_back() { return serving_.join(); }

    /// Closes the queue. After `taken_back`.
    void close() { queue_.reset(); }

    /// From now on what comes, or fails, is not answered: the kernel keeps it for who serves the
    /// disk next. Until `deadline` the device may answer what it has been asked. Suspends.
    async::Task<void> leave(io::TimePoint deadline);
    /// What the kernel has of it goes to the reactor, until that ends. After `leave`.
    static void abandon(std::shared_ptr<UblkDisk> disk);

    /// Suspends until the device has answered all that it was asked.
    async::Task<void> gone();

  private:
    struct Tag {
        io::uring::Operation* in_kernel = nullptr;
        /// Counts what was asked of the device: its answer to what is past is nobody's.
        std::uint32_t serial = 0;
        bool is_answered = true;
        int answer = 0;  // bytes, or a negated errno
        block::Buffer buffer;
        async::WaitQueue waiter;
    };
    class Asked;
    enum class End : std::uint8_t { none, failing, leaving };
    using Command = io::uring::UblkQueue::Command;
    using Request = io::uring::UblkQueue::Request;

    async::Task<void> serve(std::uint16_t number);
    async::Task<int> hand_over(std::uint16_t number, Command command, int answer, std::byte* data);
    async::Task<int> answer_to(std::uint16_t number, Request asked, bool wants_place);
    async::Task<void> find_place(std::uint16_t number, std::uint32_t serial, std::size_t bytes);
    async::Task<void> execute(std::uint16_t number, std::uint32_t serial, Request asked,
                              block::Buffer buffer);
    void finish(std::uint16_t number, std::uint32_t serial, int answer, block::Buffer buffer);
    void fail(Tag& tag);
    void release_when_committed(block::Buffer buffer);
    async::Task<void> release();

    io::uring::Reactor& reactor_;
    Shown shown_;
    std::unique_ptr<io::uring::UblkQueue> queue_;
    End end_ = End::none;
    std::vector<Tag> tags_;
    std::size_t waiting_ = 0;
    async::WaitQueue became_idle_;
    std::vector<block::Buffer> committed_;  // the kernel copies from them at its next turn
    Pages nowhere_;                         // where data goes that nobody wants
    async::Scope executing_;
    async::Scope releasing_;
    async::Scope serving_;  // last: its tasks use all of the above
};

}  // namespace dst::attach
