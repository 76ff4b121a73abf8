// Ring: one io_uring, and the few ways in which a reactor enters it.
//
// It is made disabled and belongs to the thread that first attaches to it: the kernel lets only
// that thread submit (IORING_SETUP_SINGLE_ISSUER) and does the work of completions only when that
// thread asks for them (DEFER_TASKRUN), so nothing interrupts running code.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "base/result.h"
#include "io/clock.h"

namespace dst::io::uring {

class Ring {
  public:
    /// `entries`: how many requests are handed over at once at most; a power of two.
    static Outcome<std::unique_ptr<Ring>> open(unsigned entries);
    Ring(io_uring ring, std::string warning) : ring_(ring), warning_(std::move(warning)) {}
    ~Ring() { io_uring_queue_exit(&ring_); }
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    /// What the kernel lacks, for the log; empty if it lacks nothing.
    [[nodiscard]] const std::string& warning() const { return warning_; }

    /// To be called by the owning thread before it enters, and when it goes on to other work.
    void attach();
    void detach();

    /// A free entry, zeroed; null if the queue is full: submit, then ask again.
    [[nodiscard]] io_uring_sqe* next_entry() { return io_uring_get_sqe(&ring_); }
    /// Hands over what is queued; does not wait.
    void submit();
    /// Hands over what is queued and collects what is complete, in one system call.
    void submit_and_poll();
    /// The same, but sleeps until something is complete or `limit` has passed; max(): for ever.
    void submit_and_wait(Duration limit);
    /// True if something is complete; no system call.
    [[nodiscard]] bool has_answers() const { return io_uring_cq_ready(&ring_) != 0; }
    /// True if the kernel has something to complete, and waits to be entered; no system call.
    [[nodiscard]] bool wants_entry() const;
    /// Calls `visit(user_data, result, flags)` for what is complete; returns how many there were.
    template <typename Visit>
    unsigned reap(Visit visit) {
        unsigned head = 0;
        unsigned count = 0;
        io_uring_cqe* entry = nullptr;
        io_uring_for_each_cqe(&ring_, head, entry) {
            ++count;
            visit(entry->user_data, entry->res, entry->flags);
        }
        io_uring_cq_advance(&ring_, count);
        return count;
    }

  private:
    io_uring ring_;
    std::string warning_;
    std::thread::id owner_;
};

}  // namespace dst::io::uring
