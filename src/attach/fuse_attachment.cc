#include "attach/fuse_attachment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "attach/flushing.h"
#include "base/check.h"
#include "base/log.h"
#include "io/clock.h"

namespace dst::attach {
namespace {

using block::Op;
using io::uring::FuseFile;
using Mode = async::RangeLock::Mode;

/// What is made of single bytes is made in pieces of this.
constexpr std::uint64_t kPieceBytes = 64 << 10;
/// How often to look whether a device is still in use.
constexpr std::chrono::milliseconds kLook{50};
/// The largest block of a loop device.
constexpr std::uint32_t kLoopBlockBytesMax = 4096;

int errno_of(const Error& error) {
    switch (error.code) {
        case ErrorCode::no_space:
        case ErrorCode::out_of_range:
            return ENOSPC;
        case ErrorCode::not_permitted:
            return EROFS;
        case ErrorCode::no_memory:
            return ENOMEM;
        case ErrorCode::unsupported:
            return EOPNOTSUPP;
        case ErrorCode::cancelled:
            return EINTR;
        default:
            return EIO;
    }
}

}  // namespace

/// A request of the kernel, from its receipt to the device's answer; answered once, perhaps before.
class FuseAttachment::Flight : public ListHook<> {
  public:
    Flight(FuseAttachment& of, const Call& asked)
        : call(asked), asked_at(of.reactor_.turn_time()), attachment_(of) {
        attachment_.flights_.push_back(*this);
        ++attachment_.flights_count_;
    }
    ~Flight() {
        --attachment_.flights_count_;
        if (std::exchange(attachment_.is_full_, false)) attachment_.file_->resume();
    }
    Flight(const Flight&) = delete;
    Flight& operator=(const Flight&) = delete;

    void answer(int error) {
        if (!std::exchange(is_answered_, true)) attachment_.file_->answer(call, error);
    }
    void answer_data(std::span<const std::byte> data) {
        if (!std::exchange(is_answered_, true)) attachment_.file_->answer(call, data);
    }

    Call call;
    const io::TimePoint asked_at;

  private:
    FuseAttachment& attachment_;
    bool is_answered_ = false;
};

FuseAttachment::FuseAttachment(io::uring::Reactor& reactor, const Spec& spec, Shown shown)
    : reactor_(reactor),
      spec_(spec),
      shown_(shown),
      block_bytes_(shown.device.geometry().block_bytes) {}

FuseAttachment::~FuseAttachment() { CHECK(flights_.empty() && serving_.empty()); }

async::Task<Outcome<>> FuseAttachment::open(std::string path) {
    CO_TRY(file_, FuseFile::open(reactor_, path, *this, spec_.read_only));
    serving_.spawn(serve_file());
    name_ = file_->path();
    if (spec_.file_only) co_return Outcome<>{};
    auto made = co_await io::uring::LoopDevice::open(
        reactor_,
        {.file = file_->path(),
         .wanted = spec_.device,
         .read_only = spec_.read_only,
         .block_bytes = std::min(static_cast<std::uint32_t>(block_bytes_), kLoopBlockBytesMax)},
        reactor_.now() + kAttachMax);
    if (!made) {
        co_await tear_off();
        co_return std::unexpected(std::move(made.error()));
    }
    loop_ = std::move(*made);
    name_ = loop_->path();
    co_return Outcome<>{};
}

async::Task<void> FuseAttachment::serve_file() {
    co_await file_->serve();
    served_.set();
}

std::string FuseAttachment::trouble() const {
    if (!is_over_ && served_.is_set())
        return fmt::format("{} was unmounted by somebody: 'dst detach --force {}' ends it",
                           file_->path(), spec_.name);
    if (!is_over_ && loop_ != nullptr && loop_->has_hung_up())
        return fmt::format("the process that keeps {} has ended: 'dst detach --force {}' ends it",
                           name_, spec_.name);
    return {};
}

// What the kernel asks --------------------------------------------------------------------------

ByteCount FuseAttachment::size() const { return to_bytes(shown_.device.geometry().size); }

std::span<std::byte> FuseAttachment::room() {
    if (flights_count_ >= kRequestsMax) {
        is_full_ = true;
        return {};
    }
    if (!staging_) staging_ = shown_.account.try_allocate(FuseFile::kDataMaxBytes);
    if (staging_) return staging_.bytes();
    if (!std::exchange(is_refilling_, true)) serving_.spawn(refill());
    return {};
}

async::Task<void> FuseAttachment::refill() {
    staging_ = co_await shown_.account.allocate(FuseFile::kDataMaxBytes);
    is_refilling_ = false;
    // Empty: memory is given up, for the daemon ends.
    if (staging_) file_->resume();
}

void FuseAttachment::take(const Call& call, std::span<std::byte> data) {
    if (is_over_) {
        file_->answer(call, EIO);
        return;
    }
    block::Buffer buffer;
    if (!data.empty()) {
        if (data.size() < kKeepBytes) buffer = shown_.account.try_allocate(data.size());
        if (buffer)
            std::memcpy(buffer.bytes().data(), data.data(), data.size());
        else
            buffer = std::move(staging_);
    }
    requests_.spawn(serve(call, std::move(buffer)));
}

async::Task<void> FuseAttachment::serve(Call call, block::Buffer buffer) {
    Flight flight(*this, call);
    const Result<> done = co_await perform(flight, buffer);
    flight.answer(done ? 0 : errno_of(done.error()));
}

async::Task<Result<>> FuseAttachment::perform(Flight& flight, block::Buffer& buffer) {
    Call& call = flight.call;
    if (call.op == Call::Op::sync) co_return co_await flush();
    if (spec_.read_only && call.op != Call::Op::read)
        co_return fail(ErrorCode::not_permitted, "attached for reading only");
    const std::uint64_t end = size().value();
    const std::uint64_t left = call.at.value() < end ? end - call.at.value() : 0;
    if (left == 0 && call.op == Call::Op::write && call.count != ByteCount(0))
        co_return fail(ErrorCode::out_of_range, "a write behind the end");
    // As of a disk: what goes over the end is cut there.
    call.count = ByteCount(std::min(call.count.value(), left));
    if (call.count == ByteCount(0)) co_return Result<>{};
    switch (call.op) {
        case Call::Op::read:
            co_return co_await read(flight);
        case Call::Op::write:
            co_return co_await write(flight, buffer);
        default:
            co_return co_await zero(flight);
    }
}

bool FuseAttachment::is_aligned(ByteOffset at, ByteCount count) const {
    return at.value() % block_bytes_ == 0 && count.value() % block_bytes_ == 0;
}

/// The blocks that a range of bytes is in.
SectorRange FuseAttachment::around(ByteOffset at, ByteCount count) const {
    const std::uint64_t first = at.value() / block_bytes_ * block_bytes_;
    const std::uint64_t end =
        (at.value() + count.value() + block_bytes_ - 1) / block_bytes_ * block_bytes_;
    return {SectorIndex(first >> kSectorShift), sectors_floor(ByteCount(end - first))};
}

async::Task<Result<>> FuseAttachment::execute(Op op, SectorRange range, block::Buffer* buffer,
                                              bool keeps_space) {
    block::Request request{.op = op, .no_hole = keeps_space, .range = range};
    if (op == Op::read || op == Op::write)
        request.data = buffer->bytes().first(to_bytes(range.count).value());
    if (op == Op::write) request.buffer = buffer;
    // Giving space back is worth something only where it is fast.
    request.fast_zero = op == Op::write_zeroes && !keeps_space;
    co_return co_await shown_.device.execute(request);
}

async::Task<Result<>> FuseAttachment::flush() {
    block::Request request{.op = Op::flush};
    co_return co_await shown_.device.execute(request);
}

/// As changes of parts of blocks it takes its buffer when it has its blocks, so of the second
/// account: a write has one of the first while it waits for blocks.
async::Task<Result<>> FuseAttachment::read(Flight& flight) {
    const auto [op, id, at, count] = flight.call;
    const SectorRange range = around(at, count);
    async::RangeLock::Hold hold(blocks_, range, Mode::shared);
    co_await hold.granted();
    if (to_bytes(range.count).value() <= FuseFile::kDataMaxBytes) {
        block::Buffer buffer =
            co_await shown_.second_account.allocate(to_bytes(range.count).value());
        if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
        CO_TRY_VOID(co_await execute(Op::read, range, &buffer, false));
        const std::uint64_t before = at.value() - to_bytes(range.first).value();
        flight.answer_data(std::span(buffer.bytes()).subspan(before, count.value()));
        co_return Result<>{};
    }
    // The longest one, and not on whole blocks: one block too long for a buffer.
    std::vector<std::byte> all(to_bytes(range.count).value());
    block::Buffer buffer = co_await shown_.second_account.allocate(kPieceBytes);
    if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
    const SectorCount step = sectors_floor(ByteCount(kPieceBytes));
    for (SectorIndex next = range.first; next < range.end(); next = next + step) {
        const SectorRange piece{next, std::min(step, range.end() - next)};
        CO_TRY_VOID(co_await execute(Op::read, piece, &buffer, false));
        std::memcpy(all.data() + to_bytes(next - range.first).value(), buffer.bytes().data(),
                    to_bytes(piece.count).value());
    }
    const std::uint64_t before = at.value() - to_bytes(range.first).value();
    flight.answer_data(std::span(all).subspan(before, count.value()));
    co_return Result<>{};
}

async::Task<Result<>> FuseAttachment::write(Flight& flight, block::Buffer& buffer) {
    const auto [op, id, at, count] = flight.call;
    const bool is_whole = is_aligned(at, count);
    const SectorRange range = around(at, count);
    async::RangeLock::Hold hold(blocks_, range, is_whole ? Mode::shared : Mode::exclusive);
    co_await hold.granted();
    if (is_whole) co_return co_await execute(Op::write, range, &buffer, false);
    co_return co_await change_bytes(at, std::span(buffer.bytes()).first(count.value()));
}

async::Task<Result<>> FuseAttachment::zero(Flight& flight) {
    const auto [op, id, at, count] = flight.call;
    const bool keeps_space = op == Call::Op::zero_range;
    const SectorRange outer = around(at, count);
    async::RangeLock::Hold hold(blocks_, outer,
                                is_aligned(at, count) ? Mode::shared : Mode::exclusive);
    co_await hold.granted();
    const std::uint64_t first = (at.value() + block_bytes_ - 1) / block_bytes_ * block_bytes_;
    const std::uint64_t end = at.value() + count.value();
    const std::uint64_t last = end / block_bytes_ * block_bytes_;
    if (first >= last) co_return co_await zero_bytes(at, count);
    // The whole blocks first: they may be refused.
    CO_TRY_VOID(co_await execute(
        Op::write_zeroes,
        {SectorIndex(first >> kSectorShift), sectors_floor(ByteCount(last - first))}, nullptr,
        keeps_space));
    CO_TRY_VOID(co_await zero_bytes(at, ByteCount(first - at.value())));
    co_return co_await zero_bytes(ByteOffset(last), ByteCount(end - last));
}

/// Less than two blocks.
async::Task<Result<>> FuseAttachment::zero_bytes(ByteOffset at, ByteCount count) {
    if (count == ByteCount(0)) co_return Result<>{};
    const std::vector<std::byte> zeroes(count.value());
    co_return co_await change_bytes(at, zeroes);
}

/// Bytes that are not whole blocks: reads those around them, and writes them with the change. The
/// caller has them for itself.
async::Task<Result<>> FuseAttachment::change_bytes(ByteOffset at,
                                                   std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const std::uint64_t inside = at.value() % block_bytes_;
        const std::size_t length = std::min<std::size_t>(bytes.size(), kPieceBytes - inside);
        const SectorRange range = around(at, ByteCount(length));
        // A new one each time: a replay may keep it.
        block::Buffer buffer =
            co_await shown_.second_account.allocate(to_bytes(range.count).value());
        if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
        CO_TRY_VOID(co_await execute(Op::read, range, &buffer, false));
        std::memcpy(buffer.bytes().data() + inside, bytes.data(), length);
        CO_TRY_VOID(co_await execute(Op::write, range, &buffer, false));
        bytes = bytes.subspan(length);
        at = ByteOffset(at.value() + length);
    }
    co_return Result<>{};
}

void FuseAttachment::interrupt(std::uint64_t id) {
    Flight* const flight = find(id);
    if (flight == nullptr) return;
    const io::TimePoint when = flight->asked_at + kPatience;
    if (reactor_.now() >= when)
        flight->answer(EINTR);
    else
        requests_.spawn(give_up_later(id, when));
}

/// The request of that number, or null.
FuseAttachment::Flight* FuseAttachment::find(std::uint64_t id) {
    Flight* at = flights_.front();
    while (at != nullptr && at->call.id != id) at = flights_.next(*at);
    return at;
}

async::Task<void> FuseAttachment::give_up_later(std::uint64_t id, io::TimePoint when) {
    co_await io::sleep_until(reactor_, when);
    if (Flight* const flight = find(id); flight != nullptr) flight->answer(EINTR);
}

// Its end ---------------------------------------------------------------------------------------

async::Task<Outcome<>> FuseAttachment::resize() {
    if (loop_ == nullptr) co_return Outcome<>{};
    co_return co_await loop_->resize(reactor_.now() + kAttachMax);
}

async::Task<Outcome<>> FuseAttachment::detach() {
    co_return co_await detach_until(reactor_.now() + kDetachMax);
}

/// Refuses while somebody has the file open, other than the loop device.
async::Task<Outcome<>> FuseAttachment::closed(io::TimePoint deadline) {
    const std::size_t own = loop_ != nullptr ? 1 : 0;
    while (file_->opens() > own && !is_over_)
        if (!co_await io::wait_until(reactor_, file_->closings(), deadline))
            co_return refuse(ErrorCode::busy,
                             fmt::format("{} is open somewhere: close it there, or detach by force",
                                         file_->path()));
    co_return Outcome<>{};
}

/// All is flushed, and the loop device is gone if there is one.
async::Task<Outcome<>> FuseAttachment::settle(io::TimePoint deadline) {
    if (loop_ != nullptr) CO_TRY_VOID(co_await loop_->prepare(deadline));
    if (!spec_.read_only && !co_await flush_until(deadline)) {
        if (loop_ != nullptr) co_await loop_->keep(deadline);
        co_return refuse(ErrorCode::timed_out,
                         "its requests wait: see 'dst status' for whom, or detach by force");
    }
    if (loop_ != nullptr) CO_TRY_VOID(co_await loop_->clear(deadline));
    co_return Outcome<>{};
}

async::Task<Outcome<>> FuseAttachment::detach_until(io::TimePoint deadline) {
    // Whoever looks at each new device has it open for a moment.
    const io::TimePoint patient = std::min(deadline, reactor_.now() + kPatience / 2);
    CO_TRY_VOID(co_await closed(patient));
    Outcome<> done = co_await settle(deadline);
    while (!done && done.error().code == ErrorCode::busy && !is_over_ && reactor_.now() < patient) {
        co_await io::sleep_for(reactor_, kLook);
        done = co_await settle(deadline);
    }
    if (is_over_) co_return refuse(ErrorCode::cancelled, "it was detached by force meanwhile");
    CO_TRY_VOID(done);
    is_over_ = true;
    if (loop_ != nullptr) co_await loop_->drop(deadline);
    co_await end_file();
    co_return Outcome<>{};
}

/// False if that takes longer; it goes on then.
async::Task<bool> FuseAttachment::flush_until(io::TimePoint deadline) {
    const Outcome<> done =
        co_await attach::flush_until(shown_.device, reactor_, deadline, requests_);
    if (done) co_return true;
    if (done.error().code != ErrorCode::timed_out)
        log::error("{}: {}", spec_.name, done.error().text);
    co_return done.error().code != ErrorCode::timed_out;
}

/// The file is gone, and whoever still asks it for something gets an error.
async::Task<void> FuseAttachment::end_file() {
    is_over_ = true;
    file_->stop();
    co_await served_.wait();
    file_->close();
}

async::Task<void> FuseAttachment::tear_off() {
    is_over_ = true;
    for (Flight* at = flights_.front(); at != nullptr; at = flights_.next(*at)) at->answer(EIO);
    co_await end_file();
    if (loop_ != nullptr) co_await loop_->drop(reactor_.now() + kDetachMax / 2);
}

async::Task<void> FuseAttachment::part(io::TimePoint deadline) {
    const io::Duration time = deadline - reactor_.now();
    const Outcome<> detached = co_await detach_until(deadline - time / 2);
    if (detached || is_over_) co_return;
    log::warning("{}: {}; {} fails from now on", spec_.name, detached.error().text, name_);
    (void)co_await flush_until(deadline - time / 4);
    co_await tear_off();
}

async::Task<void> FuseAttachment::gone() {
    co_await serving_.join();
    co_await requests_.join();
}

}  // namespace dst::attach
