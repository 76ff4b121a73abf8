#include "attach/ublk.h"

#include <fmt/format.h>

#include <bit>
#include <cerrno>

#include "attach/flushing.h"
#include "attach/ublk_disk.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "io/uring/block_claim.h"
#include "io/uring/errors.h"
#include "io/uring/ublk_control.h"
#include "io/uring/write_back.h"

namespace dst::attach {
namespace {

using io::uring::UblkControl;

constexpr std::uint64_t kNeeded = UBLK_F_NEED_GET_DATA;
constexpr std::uint64_t kRecovery = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;
constexpr std::uint64_t kWanted = kNeeded | kRecovery;
/// Discards and zeroes of more come in parts.
constexpr std::uint32_t kClearSectorsMax = (1U << 30) >> 9;
/// The kernel looks every 5 s whether who serves a disk has died.
constexpr std::chrono::seconds kRecoveryMax{8};
constexpr std::chrono::milliseconds kRecoveryPause{50};
/// How long requests and a flush may take before a detach is refused.
constexpr std::chrono::milliseconds kQuietMax{1500};
constexpr char kPrefix[] = "/dev/ublkb";

/// What the kernel keeps with the disk for us: whose it is.
std::uint64_t owner_mark(const std::string& name) {
    constexpr std::uint64_t kOurs = 0x64737400;  // "dst"
    return kOurs << 32 | crc32c(std::as_bytes(std::span(name)));
}

std::uint8_t shift_of(std::uint32_t bytes) {
    return static_cast<std::uint8_t>(std::countr_zero(bytes));
}

ublk_params parameters_of(const block::Geometry& geometry, bool read_only) {
    constexpr std::uint32_t kPageBytes = 4096;
    const std::uint32_t block = geometry.block_bytes;
    const std::uint32_t physical = std::max(block, std::min(geometry.preferred_bytes, kPageBytes));
    std::uint32_t attributes = 0;
    if (read_only || geometry.read_only) attributes |= UBLK_ATTR_READ_ONLY;
    if (geometry.rotational) attributes |= UBLK_ATTR_ROTATIONAL;
    if (geometry.can_flush) attributes |= UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA;
    return {.len = 0,
            .types = UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD,
            .basic = {.attrs = attributes,
                      .logical_bs_shift = shift_of(block),
                      .physical_bs_shift = shift_of(physical),
                      .io_opt_shift = shift_of(std::bit_floor(geometry.preferred_bytes)),
                      .io_min_shift = shift_of(physical),
                      .max_sectors = UblkDisk::kRequestBytesMax >> 9,
                      .chunk_sectors = 0,
                      .dev_sectors = geometry.size.value(),
                      .virt_boundary_mask = 0},
            .discard = {.discard_alignment = 0,
                        .discard_granularity = physical,
                        .max_discard_sectors = geometry.can_trim ? kClearSectorsMax : 0,
                        .max_write_zeroes_sectors = kClearSectorsMax,
                        .max_discard_segments = 1,
                        .reserved0 = 0}};
}

std::unexpected<Problem> no(const char* what, int result) {
    return refuse(result == -EBUSY ? ErrorCode::busy : ErrorCode::io_error,
                  fmt::format("ublk: {}: {}", what, io::uring::text_of(-result)));
}

/// Not while somebody has it open: the kernel would wait for that, -EACCES then.
int remove_unused(const UblkControl& control, std::uint32_t number) {
    ublk_params parameters{};
    if (const int read = control.parameters(number, parameters); read < 0) return read;
    parameters.types &= UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD;
    if (parameters.types != 0)
        if (const int set = control.set_parameters(number, parameters); set < 0) return set;
    return control.remove(number);
}

class UblkAttachment final : public Attachment {
  public:
    /// `unremoved`: numbers of disks that ended while somebody had them open.
    UblkAttachment(io::uring::Reactor& reactor, io::uring::HelperThreads& threads,
                   std::shared_ptr<const UblkControl> control,
                   std::shared_ptr<std::vector<std::uint32_t>> unremoved, Shown shown)
        : reactor_(reactor),
          threads_(threads),
          control_(std::move(control)),
          unremoved_(std::move(unremoved)),
          shown_(shown) {}

    async::Task<Outcome<>> make(const Spec& spec);
    async::Task<Outcome<>> take_over(std::uint32_t number, const Spec& spec);

    [[nodiscard]] const std::string& path() const override { return path_; }
    async::Task<Outcome<>> resize() override;
    async::Task<Outcome<>> detach() override;
    async::Task<void> tear_off() override;
    async::Task<void> part(io::TimePoint deadline) override;
    async::Task<void> gone() override;

  private:
    template <typename Function>
    auto run(Function function) {
        return reactor_.offload(threads_, std::move(function));
    }
    async::Task<Outcome<>> serve(std::uint16_t depth);
    async::Task<int> start();
    async::Task<void> start_task(async::Event& started, int& result);
    async::Task<void> remove();
    [[nodiscard]] bool can_recover() const { return (info_.flags & kRecovery) == kRecovery; }

    io::uring::Reactor& reactor_;
    io::uring::HelperThreads& threads_;
    const std::shared_ptr<const UblkControl> control_;
    const std::shared_ptr<std::vector<std::uint32_t>> unremoved_;
    const Shown shown_;
    ublksrv_ctrl_dev_info info_{};
    std::string path_;
    std::shared_ptr<UblkDisk> disk_;
    async::Scope tasks_;
};

async::Task<Outcome<>> UblkAttachment::make(const Spec& spec) {
    const block::Geometry geometry = shown_.device.geometry();
    if (geometry.block_bytes > 4096)
        co_return refuse(ErrorCode::unsupported,
                         fmt::format("ublk can't have blocks of {} bytes", geometry.block_bytes));
    info_.nr_hw_queues = 1;
    info_.queue_depth = UblkDisk::kDepth;
    info_.max_io_buf_bytes = UblkDisk::kRequestBytesMax;
    info_.dev_id = static_cast<std::uint32_t>(-1);
    info_.flags = kWanted;
    info_.ublksrv_flags = owner_mark(spec.name);
    const int added = co_await run([this] { return control_->add(info_); });
    if (added < 0) co_return no("no disk can be made", added);
    path_ = fmt::format("{}{}", kPrefix, info_.dev_id);
    if ((info_.flags & kNeeded) != kNeeded) {
        co_await remove();
        co_return refuse(ErrorCode::unsupported, "this kernel's ublk can't give data on demand");
    }
    auto parameters = parameters_of(geometry, spec.read_only);
    const int set =
        co_await run([&] { return control_->set_parameters(info_.dev_id, parameters); });
    Outcome<> made = set < 0 ? Outcome<>(no("the kernel refuses the disk's parameters", set))
                             : co_await serve(info_.queue_depth);
    if (made) {
        const int started = co_await start();
        if (started < 0) made = no("the disk can't be started", started);
    }
    if (!made) co_await tear_off();
    co_return made;
}

/// Opens the queue and asks for requests.
async::Task<Outcome<>> UblkAttachment::serve(std::uint16_t depth) {
    auto queue = co_await run([this, depth] {
        return io::uring::UblkQueue::open(reactor_, info_.dev_id, depth, control_->is_encoded());
    });
    if (!queue) co_return std::unexpected(std::move(queue.error()));
    disk_ = std::make_shared<UblkDisk>(reactor_, shown_, std::move(*queue));
    disk_->begin(depth);
    co_return Outcome<>{};
}

/// Its partition table is read meanwhile, so it takes as long as the device does; where that is too
/// long, what is asked fails.
async::Task<int> UblkAttachment::start() {
    async::Event started;
    int result = 0;
    tasks_.spawn(start_task(started, result));
    const io::TimePoint deadline = reactor_.now() + kAttachMax;
    while (!started.is_set())
        if (!co_await io::wait_until(reactor_, started.waiters(), deadline)) break;
    const bool in_time = started.is_set();
    if (!in_time) disk_->fail_all();
    co_await started.wait();
    co_return in_time ? result : -ETIMEDOUT;
}

async::Task<void> UblkAttachment::start_task(async::Event& started, int& result) {
    result = co_await run([this] { return control_->start(info_.dev_id); });
    started.set();
}

async::Task<Outcome<>> UblkAttachment::take_over(std::uint32_t number, const Spec& spec) {
    info_.dev_id = number;
    const int found = co_await run([this] { return control_->info(info_.dev_id, info_); });
    if (found < 0 || info_.ublksrv_flags != owner_mark(spec.name))
        co_return refuse(ErrorCode::not_found, fmt::format("{}{} is gone", kPrefix, number));
    path_ = fmt::format("{}{}", kPrefix, number);
    if (!can_recover() || info_.state == UBLK_S_DEV_DEAD) {
        co_await remove();
        co_return refuse(ErrorCode::not_found, fmt::format("{} had ended", path_));
    }
    ublk_params parameters{};
    const int read = co_await run([&] { return control_->parameters(info_.dev_id, parameters); });
    if (read < 0) co_return no("the disk's parameters can't be read", read);
    if (parameters.basic.dev_sectors > shown_.device.geometry().size.value())
        co_return refuse(ErrorCode::out_of_range,
                         fmt::format("{} has {} sectors, more than the device now; 'dst detach "
                                     "--force', then attach it anew",
                                     path_, parameters.basic.dev_sectors));
    const io::TimePoint deadline = reactor_.now() + kRecoveryMax;
    int begun = 0;
    while ((begun = co_await run([this] { return control_->begin_recovery(info_.dev_id); })) ==
               -EBUSY &&
           reactor_.now() < deadline)
        co_await io::sleep_for(reactor_, kRecoveryPause);
    if (begun < 0) co_return no("the disk can't be taken over", begun);
    CO_TRY_VOID(co_await serve(info_.queue_depth));
    const int ended = co_await run([this] { return control_->end_recovery(info_.dev_id); });
    if (ended < 0) {
        co_await tear_off();
        co_return no("the disk can't be taken over", ended);
    }
    log::info("{}: taken over from a daemon that has ended", path_);
    co_return Outcome<>{};
}

async::Task<Outcome<>> UblkAttachment::resize() {
    const std::uint64_t sectors = shown_.device.geometry().size.value();
    const int set = co_await run([&] { return control_->set_size(info_.dev_id, sectors); });
    if (set == -EOPNOTSUPP)
        co_return refuse(ErrorCode::unsupported,
                         fmt::format("{} keeps its size: this kernel's ublk can't change it; "
                                     "detach and attach it",
                                     path_));
    if (set < 0) co_return no("the size can't be changed", set);
    co_return Outcome<>{};
}

async::Task<Outcome<>> UblkAttachment::detach() {
    // Claimed until it has ended, so that nobody mounts it meanwhile.
    auto claim = co_await run([this] { return io::uring::BlockClaim::take(path_); });
    if (!claim) co_return std::unexpected(std::move(claim.error()));
    const io::TimePoint deadline = reactor_.now() + kQuietMax;
    if (!co_await disk_->idle(deadline)) co_return busy(path_, disk_->waiting());
    CO_TRY_VOID(co_await flush_until(shown_.device, reactor_, deadline, tasks_));
    const int stopped = co_await run([this] { return control_->stop(info_.dev_id); });
    if (stopped < 0) co_return no("the disk can't be stopped", stopped);
    co_await disk_->taken_back();
    claim->release();
    co_await remove();
    co_return Outcome<>{};
}

async::Task<void> UblkAttachment::tear_off() {
    if (disk_) disk_->fail_all();
    const int stopped = co_await run([this] { return control_->stop(info_.dev_id); });
    if (stopped < 0) log::error("{}: can't be stopped: {}", path_, io::uring::text_of(-stopped));
    if (disk_) co_await disk_->taken_back();
    co_await remove();
}

async::Task<void> UblkAttachment::remove() {
    // The kernel waits until it is closed.
    if (disk_) disk_->close();
    const int removed = co_await run([this] { return remove_unused(*control_, info_.dev_id); });
    if (removed == -EACCES) {
        unremoved_->push_back(info_.dev_id);
        log::warning("{}: somebody has it open still; the kernel forgets it at a later attach",
                     path_);
    } else if (removed < 0) {
        log::warning("{}: can't be removed: {}", path_, io::uring::text_of(-removed));
    }
}

async::Task<void> UblkAttachment::part(io::TimePoint deadline) {
    if (!can_recover()) {
        (void)co_await disk_->idle(deadline);
        const Outcome<> flushed = co_await flush_until(shown_.device, reactor_, deadline, tasks_);
        if (!flushed) log::error("{}: {}", path_, flushed.error().text);
        co_await tear_off();
        co_return;
    }
    co_await disk_->leave(deadline);
    UblkDisk::abandon(disk_);
}

async::Task<void> UblkAttachment::gone() {
    if (disk_) co_await disk_->gone();
    co_await tasks_.join();
}

}  // namespace

async::Task<std::string> Ublk::obstacle() {
    const auto opened = co_await reactor_.offload(threads_, [] { return UblkControl::open(); });
    co_return opened ? std::string() : opened.error().text;
}

/// Those that nobody has open any more.
async::Task<void> Ublk::remove_closed(std::shared_ptr<const UblkControl> control) {
    std::vector<std::uint32_t> numbers = std::exchange(*unremoved_, {});
    for (const std::uint32_t number : numbers) {
        const int removed =
            co_await reactor_.offload(threads_, [&] { return remove_unused(*control, number); });
        if (removed == -EACCES) unremoved_->push_back(number);
    }
}

async::Task<Outcome<>> Ublk::discard(const Spec& wanted, bool force) {
    const Spec spec = wanted;
    const auto number = number_of(spec.device, kPrefix);
    if (!number) co_return Outcome<>{};
    co_return co_await reactor_.offload(threads_, [&]() -> Outcome<> {
        const auto control = UblkControl::open();
        if (!control) return {};  // no kernel, no disk
        ublksrv_ctrl_dev_info info{};
        if (control->info(*number, info) < 0 || info.ublksrv_flags != owner_mark(spec.name))
            return {};
        if (!force) TRY_VOID(io::uring::BlockClaim::take(spec.device));
        if (const int stopped = control->stop(*number); stopped < 0)
            return no("the disk can't be stopped", stopped);
        if (const int removed = remove_unused(*control, *number); removed < 0)
            log::warning("{}: is not removed: {}", spec.device, io::uring::text_of(-removed));
        return {};
    });
}

async::Task<Outcome<std::unique_ptr<Attachment>>> Ublk::attach(
    const Spec& wanted, Shown shown, std::unique_ptr<Attachment>& failed) {
    const Spec spec = wanted;
    if (const std::string missing = io::uring::lock_memory(shown.arena); !missing.empty())
        log::warning("{}: {}", spec.name, missing);
    auto opened = co_await reactor_.offload(threads_, [] { return UblkControl::open(); });
    if (!opened) co_return std::unexpected(std::move(opened.error()));
    const auto control = std::make_shared<const UblkControl>(std::move(*opened));
    co_await remove_closed(control);
    if (const auto number = number_of(spec.device, kPrefix)) {
        auto kept =
            std::make_unique<UblkAttachment>(reactor_, threads_, control, unremoved_, shown);
        const Outcome<> taken = co_await kept->take_over(*number, spec);
        if (taken) co_return kept;
        if (taken.error().code != ErrorCode::not_found) co_return std::unexpected(taken.error());
        log::warning("{}: {}; it is attached anew", spec.name, taken.error().text);
    }
    auto made = std::make_unique<UblkAttachment>(reactor_, threads_, control, unremoved_, shown);
    if (Outcome<> done = co_await made->make(spec); !done) {
        failed = std::move(made);
        co_return std::unexpected(std::move(done.error()));
    }
    co_return made;
}

}  // namespace dst::attach
