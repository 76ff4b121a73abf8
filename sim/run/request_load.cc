// The load of a workload: its requests, each recorded from its begin to its answer.
#include <array>
#include <optional>
#include <span>
#include <utility>

#include "async/range_lock.h"
#include "async/scope.h"
#include "sim/run/workload.h"

namespace dst::sim {

using block::Op;

/// One request in the history. Lost, if it is destroyed before it was answered.
class Recorded {
  public:
    Recorded(Workload& workload, const block::Request& request)
        : workload_(workload), number_(begin(workload, request)) {
        workload_.world_.trace(workload_.spec_.name, "{} #{} {}+{}{}: asks",
                               block::to_string(request.op), number_, request.range.first.value(),
                               request.range.count.value(), request.fua ? " (fua)" : "");
    }
    ~Recorded() {
        if (!is_ended_) workload_.history_.lost(number_, workload_.world_.now());
    }
    Recorded(const Recorded&) = delete;
    Recorded& operator=(const Recorded&) = delete;

    [[nodiscard]] check::History::Number number() const { return number_; }

    void end(const Result<>& done) {
        const io::TimePoint now = workload_.world_.now();
        if (workload_.on_note_) workload_.on_note_();
        is_ended_ = true;
        ++workload_.answered_;
        if (done)
            workload_.history_.done(number_, now);
        else if (is_loss(done.error().code) ||
                 (workload_.on_note_ && done.error().code == ErrorCode::io_error))
            workload_.history_.lost(number_, now);
        else
            workload_.history_.failed(number_, done.error().code, now);
        if (!done) ++workload_.failed_;
        if (done && workload_.on_success_)
            workload_.on_success_(workload_.history_.operation(number_).begin);
        workload_.world_.trace(workload_.spec_.name, "#{}: {}", number_,
                               done ? "done" : to_string(done.error().code));
        if (workload_.on_answer_) workload_.on_answer_();
    }

  private:
    static check::History::Number begin(Workload& workload, const block::Request& request) {
        if (workload.on_note_) workload.on_note_();
        return workload.history_.begin(workload.spec_.name, request, workload.world_.now());
    }
    /// Nobody has answered; the request may have been executed or not, or will be.
    static bool is_loss(ErrorCode code) {
        return code == ErrorCode::node_lost || code == ErrorCode::cancelled ||
               code == ErrorCode::shutting_down;
    }

    Workload& workload_;
    const check::History::Number number_;
    bool is_ended_ = false;
};

class RequestLoad final : public Load {
  public:
    explicit RequestLoad(Workload& workload) : workload_(workload) {}

    async::Task<void> run(Site site) override {
        async::Scope workers;
        for (unsigned count = 0; count < workload_.spec_.depth; ++count) workers.spawn(work(site));
        co_await workers.join();
    }
    void end() override { is_ending_ = true; }

  private:
    /// Counts what was drawn and has not ended.
    class Busy {
      public:
        explicit Busy(Workload& workload) : workload_(workload) { ++workload_.under_way_; }
        ~Busy() { --workload_.under_way_; }
        Busy(const Busy&) = delete;
        Busy& operator=(const Busy&) = delete;

      private:
        Workload& workload_;
    };

    /// How long a worker that has nothing to do sleeps before it looks again.
    static constexpr io::Duration kIdlePause = std::chrono::milliseconds(50);
    static constexpr io::Duration kAgainPause = std::chrono::milliseconds(20);
    static constexpr std::uint64_t kBurst = 8;
    static constexpr std::size_t kExtents = 64;

    [[nodiscard]] io::TimePoint world_now() const { return workload_.world_.now(); }

    async::Task<void> work(Site site) {
        io::Clock& clock = site.world.clock;
        while (!is_ending_) {
            block::Request request;
            if (!workload_.next(request, site.device.geometry())) {
                co_await io::sleep_for(clock, kIdlePause);
                continue;
            }
            const Busy busy(workload_);
            // In bursts, so that faults meet every state, and the end of the load.
            if (workload_.random_.one_in(kBurst))
                co_await io::sleep_for(clock, workload_.random_.up_to(2 * workload_.burst_pause_));
            while (world_now() < workload_.rests_until_ && !is_ending_)
                co_await io::sleep_for(clock, workload_.rests_until_ - world_now());
            if (site.connected) co_await site.connected();
            if (is_ending_) break;
            const Result<> done = co_await in_order(site, request);
            // Who is told at once that nothing works does not ask again at once.
            if (!done) co_await io::sleep_for(clock, kAgainPause);
        }
    }

    /// One after the other where they overlap and must not be in flight together.
    async::Task<Result<>> in_order(Site site, block::Request& request) {
        using Mode = async::RangeLock::Mode;
        const bool is_change = block::is_change(request.op);
        const bool waits = request.op != Op::flush && workload_.spec_.overlap != Overlap::all &&
                           (is_change || workload_.spec_.overlap == Overlap::none);
        if (!waits) co_return co_await execute(site, request);
        async::RangeLock::Hold hold(order_, request.range,
                                    is_change ? Mode::exclusive : Mode::shared);
        co_await hold.granted();
        co_return co_await execute(site, request);
    }

    async::Task<Result<>> execute(Site site, block::Request& request) {
        switch (request.op) {
            case Op::read:
            case Op::write:
                return transfer(site, request);
            case Op::block_status:
                return describe(site, request);
            default:
                return change(site, request);
        }
    }

    async::Task<Result<>> transfer(Site site, block::Request& request) {
        const std::size_t bytes = to_bytes(request.range.count).value();
        block::Buffer buffer = co_await site.payloads.allocate(bytes);
        request.data = buffer.bytes().first(bytes);
        Recorded recorded(workload_, request);
        if (request.op == Op::write) {
            workload_.history_.fill(recorded.number(), request.data);
            request.buffer = &buffer;
        }
        const Result<> done = co_await site.device.execute(request);
        if (done && request.op == Op::read) workload_.history_.saw(recorded.number(), request.data);
        recorded.end(done);
        co_return done;
    }

    async::Task<Result<>> describe(Site site, block::Request& request) {
        std::array<block::Extent, kExtents> room;
        block::ExtentList extents(room);
        request.extents = &extents;
        Recorded recorded(workload_, request);
        const Result<> done = co_await site.device.execute(request);
        SectorIndex at = request.range.first;
        for (const block::Extent& extent : extents.extents()) {
            if (!done || at >= request.range.end()) break;
            const SectorCount count = std::min(extent.count, request.range.end() - at);
            if (extent.zero) workload_.history_.saw_zeroes(recorded.number(), {at, count});
            at = at + count;
        }
        recorded.end(done);
        co_return done;
    }

    async::Task<Result<>> change(Site site, block::Request& request) {
        Recorded recorded(workload_, request);
        const Result<> done = co_await site.device.execute(request);
        recorded.end(done);
        co_return done;
    }

    Workload& workload_;
    bool is_ending_ = false;
    async::RangeLock order_;
};

std::unique_ptr<Load> Workload::make_load() { return std::make_unique<RequestLoad>(*this); }

}  // namespace dst::sim
