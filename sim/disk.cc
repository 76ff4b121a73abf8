#include "sim/disk.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/check.h"
#include "sim/host.h"
#include "sim/life.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using Kind = DiskRequest::Kind;

constexpr std::string_view name_of(Kind kind) {
    constexpr std::array<std::string_view, 7> kNames{"read",    "write", "durable write", "sync",
                                                     "discard", "zero",  "unmap"};
    return kNames[static_cast<std::size_t>(kind)];
}

/// One request in so many takes much longer than usual.
constexpr std::uint64_t kLateOneIn = 400;
constexpr int kLateFactor = 30;

}  // namespace

DiskLock::~DiskLock() { disk_.unlock(is_shared_); }

Disk::Disk(Host& host, std::string path, DiskSettings settings)
    : host_(host),
      world_(host.world()),
      path_(std::move(path)),
      settings_(settings),
      medium_(new_medium(settings.size)) {}

Disk::~Disk() { CHECK(users_ == 0); }

std::unique_ptr<Medium> Disk::new_medium(SectorCount size) {
    // The same for every seed, so that a run can be read: which host, which path, which medium.
    std::uint64_t identity = 0xd15c;
    for (const char letter : host_.name() + path_)
        identity = (identity ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
    identity += ++media_;
    return std::make_unique<Medium>(world_.random(), size, settings_.block_bytes,
                                    split_mix(identity) | 1);
}

void Disk::set_faults(DiskFaults faults) {
    faults_ = faults;
    if (!faults_.hangs) release_parked();
}

void Disk::exchange(SectorCount size) {
    CHECK(!is_open() && shelf_ == nullptr);
    shelf_ = std::move(medium_);
    medium_ = new_medium(size);
}

void Disk::put_back() {
    CHECK(!is_open() && shelf_ != nullptr);
    medium_ = std::move(shelf_);
}

std::unique_ptr<DiskLock> Disk::try_lock(bool is_shared) {
    if (has_writer_ || (!is_shared && users_ > 0)) return nullptr;
    ++users_;
    has_writer_ = !is_shared;
    return std::make_unique<DiskLock>(*this, is_shared);
}

void Disk::unlock(bool is_shared) {
    --users_;
    if (is_shared) return;
    has_writer_ = false;
    drop_lost();
}

void Disk::drop_lost() {
    if (!lost_until_) return;
    medium_->give_up(*std::exchange(lost_until_, std::nullopt));
    tell(Loss::failed_flush);
}

void Disk::lose_power() {
    CHECK(!is_open());
    world_.trace(host_.name(), "{} loses up to {} changes", path_, medium_->unsynced());
    medium_->lose_unsynced();
    lost_until_.reset();
    tell(Loss::power_cut);
}

void Disk::tell(Loss loss) const {
    if (watcher_) watcher_(loss);
}

bool Disk::is_stuck() const {
    return in_flight_ > 0 && (faults_.hangs || world_.now() < stuck_until_);
}

io::Duration Disk::time_for(const DiskRequest& request) {
    Random& random = world_.random();
    const bool is_sync = request.kind_ == Kind::sync || request.kind_ == Kind::durable_write;
    const auto transfer = static_cast<io::Duration::rep>(request.data_.size() * 1'000'000'000 /
                                                         settings_.bytes_per_second);
    io::Duration time = settings_.latency + random.up_to(settings_.jitter) + io::Duration(transfer);
    if (is_sync) time += random.up_to(2 * settings_.sync_latency);
    if (random.one_in(kLateOneIn)) time *= kLateFactor;
    if (random.happens(faults_.stuck)) {
        time += random.up_to(faults_.stuck_max);
        stuck_until_ = std::max(stuck_until_, world_.now() + time);
    }
    return time + faults_.slowness;
}

void Disk::start(DiskRequest& request) {
    ++in_flight_;
    request.process().life().disk_requests.push_back(request);
    if (request.kind_ == Kind::sync) request.epoch_ = medium_->begin_sync();
    if (faults_.hangs)
        parked_.push_back(request);
    else
        request.arm(world_.queue(), world_.now() + time_for(request));
}

void Disk::release_parked() {
    while (DiskRequest* const request = parked_.pop_front())
        request->arm(world_.queue(), world_.now() + time_for(*request));
}

Result<> Disk::perform(DiskRequest& request) {
    switch (request.kind_) {
        case Kind::read:
            return read(request);
        case Kind::write:
        case Kind::durable_write:
            return write(request);
        case Kind::sync:
            return sync(request);
        case Kind::discard:
            medium_->discard(request.range_);
            return {};
        case Kind::zero:
        case Kind::unmap:
            medium_->zero(request.range_, request.kind_ == Kind::unmap);
            return {};
    }
    check_failed("a known kind", __FILE__, __LINE__);
}

Result<> Disk::read(DiskRequest& request) {
    const auto bad = unreadable_.lower_bound(request.range_.first.value());
    if (bad != unreadable_.end() && *bad < request.range_.end().value())
        return fail(ErrorCode::io_error, "reading a bad sector");
    if (world_.random().happens(faults_.read_error))
        return fail(ErrorCode::io_error, "reading a file");
    medium_->read(request.range_, request.data_);
    return {};
}

Result<> Disk::write(DiskRequest& request) {
    if (faults_.is_full && !medium_->is_allocated(request.range_)) {
        write_some(request);
        return fail(ErrorCode::no_space, "writing a file");
    }
    if (world_.random().happens(faults_.write_error)) {
        write_some(request);
        return fail(ErrorCode::io_error, "writing a file");
    }
    medium_->write(request.range_, request.data_);
    if (!unreadable_.empty())
        unreadable_.erase(unreadable_.lower_bound(request.range_.first.value()),
                          unreadable_.lower_bound(request.range_.end().value()));
    if (request.kind_ == Kind::durable_write) medium_->make_durable(request.range_);
    return {};
}

Result<> Disk::sync(DiskRequest& request) {
    if (world_.random().happens(faults_.flush_error)) {
        lost_until_ = std::max(lost_until_.value_or(0), request.epoch_);
        return fail(ErrorCode::io_error, "flushing a file");
    }
    // What a failed flush gave up stays lost, whatever succeeds later.
    if (!lost_until_) medium_->end_sync(request.epoch_);
    return {};
}

/// Any of the blocks of a write.
void Disk::write_some(DiskRequest& request) {
    const SectorCount block = sectors_floor(ByteCount(settings_.block_bytes));
    for (SectorIndex at = request.range_.first; at < request.range_.end(); at = at + block) {
        if (world_.random().one_in(2)) continue;
        if (faults_.is_full && !medium_->is_allocated({at, block})) continue;
        const std::uint64_t passed = to_bytes(at - request.range_.first).value();
        medium_->write({at, block}, request.data_.subspan(passed, settings_.block_bytes));
    }
}

void DiskRequest::begin() { disk_.start(*this); }

void DiskRequest::happen() {
    --disk_.in_flight_;
    result_ = disk_.perform(*this);
    disk_.world_.trace_sink().mix(static_cast<std::uint64_t>(kind_) << 60 ^ range_.first.value());
    disk_.world_.trace(process().name(), "{} {} {}+{}: {}", disk_.path_, name_of(kind_),
                       range_.first.value(), range_.count.value(),
                       result_ ? "done" : to_string(result_.error().code));
    static_cast<ListHook<InFlightTag>&>(*this).unlink();
    complete();
}

void DiskRequest::interrupt(bool with_power) {
    --disk_.in_flight_;
    cancel();
    static_cast<ListHook<ParkedTag>&>(*this).unlink();
    const std::uint64_t fate = disk_.world_.random().below(3);
    if (fate == 0 || kind_ == Kind::read) return;
    if (kind_ == Kind::sync) {
        if (with_power) static_cast<void>(disk_.sync(*this));
    } else if (fate == 1 && (kind_ == Kind::write || kind_ == Kind::durable_write)) {
        disk_.write_some(*this);
    } else {
        static_cast<void>(disk_.perform(*this));
    }
}

}  // namespace dst::sim
