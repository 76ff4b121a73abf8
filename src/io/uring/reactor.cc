#include "io/uring/reactor.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/check.h"
#include "io/uring/errors.h"
#include "io/uring/files.h"
#include "io/uring/network.h"

namespace dst::io::uring {
namespace {

// user_data of what is not an Operation.
constexpr std::uint64_t kIgnored = 0;
constexpr std::uint64_t kWakeEvent = 1;

constexpr std::size_t kHelpersMax = 2;
/// After so many coroutines in a row the kernel is asked for answers, even if more are ready.
constexpr unsigned kResumesPerTurnMax = 4096;
constexpr int kSpinPays = 4;
/// A budget below this buys nothing.
constexpr Duration kSpinMin = std::chrono::microseconds(1);

/// Timers are as exact as the kernel can make them: a pause of some ten microseconds shall not last
/// a hundred. (The default slack is 50 us.)
constexpr unsigned long kTimerSlackNs = 1000;

Duration read_clock(clockid_t clock) {
    timespec time{};
    CHECK(clock_gettime(clock, &time) == 0);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

/// While it lives this thread is the reactor's.
class Reactor::OnThread {
  public:
    explicit OnThread(Reactor& reactor) : reactor_(reactor), enter_(reactor.queue_) {
        CHECK(!reactor.is_running_);
        reactor.is_running_ = true;
        CHECK(::prctl(PR_SET_TIMERSLACK, kTimerSlackNs, 0, 0, 0) == 0);
        reactor.ring_->attach();
        reactor.turn_time_ = reactor.now();
        if (!reactor.is_watched_) reactor.watch_wake_event();
    }
    OnThread(const OnThread&) = delete;
    OnThread& operator=(const OnThread&) = delete;
    ~OnThread() {
        reactor_.ring_->detach();
        reactor_.is_running_ = false;
    }

  private:
    Reactor& reactor_;
    const async::RunQueue::Enter enter_;
};

Outcome<std::unique_ptr<Reactor>> Reactor::create(ReactorOptions options) {
    TRY(auto ring, Ring::open(options.entries));
    UniqueFd wake_event(eventfd(0, EFD_CLOEXEC));
    if (!wake_event.is_open())
        return refuse(ErrorCode::no_memory,
                      fmt::format("no eventfd can be made: {}; raise the limit on open files",
                                  text_of(errno)));
    return std::unique_ptr<Reactor>(new Reactor(options, std::move(ring), std::move(wake_event)));
}

Reactor::Reactor(ReactorOptions options, std::unique_ptr<Ring> ring, UniqueFd wake_event)
    : ring_(std::move(ring)),
      spin_max_(options.spin),
      spin_now_(options.spin),
      wake_event_(std::move(wake_event)),
      helpers_(kHelpersMax),
      files_(std::make_unique<Files>(*this)),
      network_(std::make_unique<Sockets>(*this)) {}

Reactor::~Reactor() {
    CHECK(!is_running_);
    CHECK(in_flight_ == 0);
    CHECK(timers_.empty());
}

void Reactor::run() {
    run_until(is_stopping_);
    is_stopping_ = false;
}

void Reactor::run_until(const bool& done) {
    const OnThread on_thread(*this);
    do {
        turn(done);
    } while (!done);
}

void Reactor::run_task(async::Task<void> task, const bool& done) {
    async::Scope scope;
    {
        const OnThread on_thread(*this);
        scope.spawn(std::move(task));
    }
    run_until(done);
}

void Reactor::turn(const bool& done) {
    for (unsigned count = 0; count < kResumesPerTurnMax && queue_.run_one(); ++count) {
    }
    if (done) return;
    wait();
    turn_time_ = now();
    reap();
    if (is_woken_) run_posted();
    if (!timers_.empty()) timers_.fire(turn_time_);
}

void Reactor::wait() {
    if (!queue_.empty()) {
        ring_->submit_and_poll();
        return;
    }
    const TimePoint due = timers_.next();
    TimePoint time = now();
    if (spin_now_ >= kSpinMin && time < last_answer_ + spin_now_) {
        if (spin(std::min(due, last_answer_ + spin_now_))) return;
        time = now();
    }
    if (due <= time) {
        ring_->submit_and_poll();
        return;
    }
    const Duration limit = due == TimePoint::max() ? Duration::max() : due - time;
    ring_->submit_and_wait(limit);
}

/// Polls; true if there is something to collect.
bool Reactor::spin(TimePoint until) {
    ring_->submit_and_poll();
    while (!ring_->has_answers()) {
        if (ring_->wants_entry()) {
            ring_->submit_and_poll();
        } else if (now() >= until) {
            return false;
        }
    }
    return true;
}

/// Polling pays if answers come about as fast as it lasts. (Those that had to wake both sides come
/// later than they would otherwise: hence the factor.)
void Reactor::note_gap(TimePoint time) {
    spin_now_ = time - last_answer_ <= kSpinPays * spin_max_ ? spin_max_ : spin_now_ / 2;
    last_answer_ = time;
}

void Reactor::reap() {
    const unsigned answers =
        ring_->reap([this](std::uint64_t user_data, int result, std::uint32_t flags) {
            if (user_data == kIgnored) return;
            if (user_data == kWakeEvent) {
                is_woken_ = true;
                return;
            }
            // NOLINTNEXTLINE(performance-no-int-to-ptr): it was one before (`start`)
            auto& operation = *reinterpret_cast<Operation*>(user_data);
            CHECK(operation.is_in_flight_);
            operation.is_in_flight_ = false;
            operation.result_ = result;
            operation.flags_ = flags;
            if (!operation.is_abandoned_) --in_flight_;
            operation.wake();
        });
    if (answers > 0 && spin_max_ > Duration::zero()) note_gap(now());
}

void Reactor::post(std::function<void()> function) {
    bool was_empty = false;
    {
        const std::lock_guard lock(posted_mutex_);
        was_empty = posted_.empty();
        posted_.push_back(std::move(function));
    }
    if (!was_empty) return;  // whoever posted first has woken it
    const std::uint64_t one = 1;
    CHECK(::write(wake_event_.get(), &one, sizeof one) == sizeof one);
}

void Reactor::run_posted() {
    is_woken_ = false;
    watch_wake_event();
    {
        const std::lock_guard lock(posted_mutex_);
        taken_.swap(posted_);
    }
    for (std::function<void()>& function : taken_) function();
    taken_.clear();
}

void Reactor::watch_wake_event() {
    is_watched_ = true;
    io_uring_sqe& entry = next_entry();
    io_uring_prep_read(&entry, wake_event_.get(), &wake_count_, sizeof wake_count_, 0);
    io_uring_sqe_set_data64(&entry, kWakeEvent);
}

io_uring_sqe& Reactor::next_entry() {
    while (true) {
        if (io_uring_sqe* const entry = ring_->next_entry(); entry != nullptr) return *entry;
        ring_->submit();
        reap();  // makes room for answers; wakes, and resumes nobody
    }
}

void Reactor::start(Operation& operation, io_uring_sqe& entry) {
    io_uring_sqe_set_data(&entry, &operation);
    operation.is_in_flight_ = true;
    ++in_flight_;
}

void Reactor::cancel(Operation& operation) {
    if (!operation.is_in_flight_) return;
    io_uring_sqe& entry = next_entry();
    // Requests are started in order, so this can't meet a later one at the same address.
    io_uring_prep_cancel64(&entry, reinterpret_cast<std::uint64_t>(&operation), 0);
    io_uring_sqe_set_data64(&entry, kIgnored);
}

void Reactor::abandon(Operation& operation) {
    CHECK(operation.is_in_flight_ && !operation.is_abandoned_);
    operation.is_abandoned_ = true;
    --in_flight_;
}

TimePoint Reactor::now() const { return TimePoint(read_clock(CLOCK_MONOTONIC)); }

WallTime Reactor::wall_now() const { return WallTime(read_clock(CLOCK_REALTIME)); }

}  // namespace dst::io::uring
