#include "io/uring/ring.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>

#include "base/check.h"
#include "io/uring/errors.h"

namespace dst::io::uring {
namespace {

// Far more than a reactor has in flight; what does not fit is kept by the kernel (FEAT_NODROP).
constexpr unsigned kCompletionsPerEntry = 16;

constexpr unsigned kBasics = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
constexpr unsigned kCooperative =
    kBasics | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
constexpr unsigned kBest = kBasics | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                           IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
/// What is tried in turn: Linux 6.1, 5.19, 5.11.
constexpr std::array<unsigned, 3> kFlags{kBest, kCooperative, kBasics};
constexpr unsigned kFeatures = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_FAST_POLL;

/// Errors after which the caller collects completions and tries again.
bool is_passing(int error) {
    return error == EINTR || error == EAGAIN || error == EBUSY || error == ETIME;
}

std::unexpected<Problem> no_ring(int error) {
    const bool forbidden = error == EPERM || error == EACCES || error == ENOSYS;
    return refuse(forbidden ? ErrorCode::not_permitted : ErrorCode::no_memory,
                  fmt::format("io_uring can't be used: {}; {}", text_of(error),
                              forbidden ? "allow it (sysctl kernel.io_uring_disabled=0, and the "
                                          "seccomp profile of a container)"
                                        : "raise the limits on locked memory and open files"));
}

}  // namespace

Outcome<std::unique_ptr<Ring>> Ring::open(unsigned entries) {
    int error = 0;
    for (const unsigned flags : kFlags) {
        io_uring ring{};
        io_uring_params params{};
        params.flags = flags;
        params.cq_entries = entries * kCompletionsPerEntry;
        error = -io_uring_queue_init_params(entries, &ring, &params);
        if (error == EINVAL) continue;
        if (error != 0) return no_ring(error);
        if ((params.features & kFeatures) != kFeatures) {
            io_uring_queue_exit(&ring);
            return no_ring(ENOSYS);
        }
        std::string warning;
        if (flags != kBest)
            warning =
                "the kernel is older than 6.1: io_uring works, but each completion costs more";
        return std::make_unique<Ring>(ring, std::move(warning));
    }
    return no_ring(error);
}

void Ring::attach() {
    if (owner_ == std::thread::id()) {
        owner_ = std::this_thread::get_id();
        // liburing 2.3 declares io_uring_enable_rings and forgets to export it.
        CHECK(io_uring_register(static_cast<unsigned>(ring_.ring_fd), IORING_REGISTER_ENABLE_RINGS,
                                nullptr, 0) == 0);
    }
    // The kernel answers nobody else, and a ring's requests end with the thread that made them.
    CHECK(owner_ == std::this_thread::get_id());
    // Saves the look-up of the descriptor at each entry; refused if there are 16 already.
    io_uring_register_ring_fd(&ring_);
}

void Ring::detach() {
    // The registration belongs to the thread, not to the ring: it has to be undone there.
    if (ring_.enter_ring_fd != ring_.ring_fd) io_uring_unregister_ring_fd(&ring_);
}

void Ring::submit() {
    const int submitted = io_uring_submit(&ring_);
    CHECK(submitted >= 0 || is_passing(-submitted));
    // Too much is complete and not collected: the kernel wants that first.
    if (submitted == -EBUSY || submitted == -EAGAIN) io_uring_get_events(&ring_);
}

void Ring::submit_and_poll() {
    const int submitted = io_uring_submit_and_get_events(&ring_);
    CHECK(submitted >= 0 || is_passing(-submitted));
}

void Ring::submit_and_wait(Duration limit) {
    io_uring_cqe* first = nullptr;
    __kernel_timespec relative{};
    if (limit != Duration::max()) {
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit);
        relative.tv_sec = seconds.count();
        relative.tv_nsec = (limit - seconds).count();
    }
    const int result = io_uring_submit_and_wait_timeout(
        &ring_, &first, 1, limit == Duration::max() ? nullptr : &relative, nullptr);
    CHECK(result >= 0 || is_passing(-result));
}

bool Ring::wants_entry() const {
    constexpr unsigned kWants = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;
    return (IO_URING_READ_ONCE(*ring_.sq.kflags) & kWants) != 0;
}

}  // namespace dst::io::uring
