#include "sim/files.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "sim/host.h"
#include "sim/life.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;
using Kind = DiskRequest::Kind;

/// As the seam says: a lock in use is tried again for 2 s.
constexpr io::Duration kLockPatience = 2s;
constexpr io::Duration kLockPause = 50ms;

/// What a helper thread takes for a call that blocks.
constexpr io::Duration kHelperMin = 20us;
constexpr io::Duration kHelperMax = 300us;

SectorRange sectors_of(ByteOffset at, ByteCount count) {
    return {*sectors_exact(at), *sectors_exact(count)};
}

}  // namespace

/// Counts the calls under way: the file must not die under them.
class OpenFile::InUse {
  public:
    explicit InUse(OpenFile& file) : file_(file) { ++file_.calls_; }
    ~InUse() { --file_.calls_; }
    InUse(const InUse&) = delete;
    InUse& operator=(const InUse&) = delete;

  private:
    OpenFile& file_;
};

OpenFile::OpenFile(Process& process, Disk& disk, std::unique_ptr<DiskLock> lock,
                   io::FileOptions options)
    : process_(process), disk_(disk), lock_(std::move(lock)), options_(options) {
    ++process_.life().handles;
    const DiskSettings& settings = disk.settings();
    info_ = {.size = to_bytes(disk.medium().size()),
             .block_bytes = disk.medium().block_bytes(),
             .is_block_device = settings.is_block_device,
             .can_discard = settings.can_discard && !options.read_only,
             .can_zero_fast = settings.can_zero_fast && !options.read_only,
             .identity = disk.medium().identity(),
             .is_direct = options.cache == io::CacheMode::direct};
}

OpenFile::~OpenFile() {
    CHECK(calls_ == 0);
    --process_.life().handles;
    if (process_.is_dying() && lock_ != nullptr)
        process_.life().remains.locks.push_back(std::move(lock_));
}

async::Task<Result<>> OpenFile::read(ByteOffset at, std::span<std::byte> into) {
    CO_TRY_VOID(check_aligned(at, ByteCount(into.size())));
    CO_TRY_VOID(check_address(into));
    if (into.empty()) co_return Result<>{};
    const SectorRange range = sectors_of(at, ByteCount(into.size()));
    if (!range.fits(disk_.medium().size()))
        co_return fail(ErrorCode::io_error, "reading behind the end of a file");
    const InUse in_use(*this);
    co_return co_await DiskRequest(process_, disk_, Kind::read, range, into);
}

async::Task<Result<>> OpenFile::write(ByteOffset at, std::span<const std::byte> from,
                                      bool durable) {
    const ByteCount count(from.size());
    CO_TRY_VOID(check_aligned(at, count));
    CO_TRY_VOID(check_address(from));
    CO_TRY_VOID(check_change(at, count));
    if (from.empty()) co_return Result<>{};
    const InUse in_use(*this);
    // The request only reads from it.
    const std::span<std::byte> data(const_cast<std::byte*>(from.data()), from.size());
    const Result<> done = co_await DiskRequest(
        process_, disk_, durable ? Kind::durable_write : Kind::write, sectors_of(at, count), data);
    if (!done && durable &&
        (done.error().code == ErrorCode::io_error ||
         (!info_.is_direct && done.error().code == ErrorCode::no_space)))
        ++losses_;
    co_return done;
}

async::Task<Result<>> OpenFile::sync() {
    const InUse in_use(*this);
    if (losses_ != losses_accepted_)
        co_return fail(ErrorCode::io_error, "flushing a file that has lost writes before");
    const std::uint64_t losses_before = losses_;
    const Result<> done = co_await DiskRequest(process_, disk_, Kind::sync);
    if (!done) {
        ++losses_;
        co_return done;
    }
    // Another one that ran beside this one may have been told of the loss in its place.
    if (losses_ != losses_before)
        co_return fail(ErrorCode::io_error, "flushing a file that has lost writes meanwhile");
    co_return done;
}

void OpenFile::accept_losses() {
    losses_accepted_ = losses_;
    disk_.drop_lost();
}

async::Task<Result<>> OpenFile::discard(ByteOffset at, ByteCount count) {
    CO_TRY_VOID(check_change(at, count));
    const InUse in_use(*this);
    if (!info_.can_discard || count == ByteCount(0)) co_return Result<>{};
    co_return co_await DiskRequest(process_, disk_, Kind::discard, sectors_of(at, count));
}

async::Task<Result<>> OpenFile::zero(ByteOffset at, ByteCount count, bool may_unmap) {
    CO_TRY_VOID(check_change(at, count));
    const InUse in_use(*this);
    if (!info_.can_zero_fast) co_return fail(ErrorCode::unsupported, "zeroing a file");
    if (count == ByteCount(0)) co_return Result<>{};
    co_return co_await DiskRequest(process_, disk_, may_unmap ? Kind::unmap : Kind::zero,
                                   sectors_of(at, count));
}

async::Task<Result<io::FileExtent>> OpenFile::extent(ByteOffset at, ByteCount count) {
    const std::uint64_t size = info_.size.value();
    if (count == ByteCount(0)) co_return fail(ErrorCode::invalid, "an extent of no bytes");
    if (at.value() >= size) co_return fail(ErrorCode::out_of_range, "an extent behind the end");
    count = std::min(count, ByteCount(size - at.value()));
    if (info_.is_block_device) co_return io::FileExtent{count};
    const InUse in_use(*this);
    co_await io::sleep_for(process_.life().clock,
                           process_.world().random().between(kHelperMin, kHelperMax));
    const SectorIndex first(at.value() >> kSectorShift);
    const std::uint64_t skipped = at.value() - to_bytes(first).value();
    const Medium::Extent found =
        disk_.medium().extent(first, sectors_ceil(count + ByteCount(skipped)));
    const ByteCount length = std::min(count, to_bytes(found.count) - ByteCount(skipped));
    co_return io::FileExtent{length, !found.is_data, !found.is_data};
}

async::Task<Result<ByteCount>> OpenFile::refresh_size() {
    const InUse in_use(*this);
    co_await io::sleep_for(process_.life().clock,
                           process_.world().random().between(kHelperMin, kHelperMax));
    info_.size = to_bytes(disk_.medium().size());
    co_return info_.size;
}

Result<> OpenFile::check_aligned(ByteOffset at, ByteCount count) const {
    const std::uint64_t mask = info_.block_bytes - 1;
    if (((at.value() | count.value()) & mask) != 0)
        return fail(ErrorCode::invalid, "a request that is not aligned to blocks");
    return {};
}

Result<> OpenFile::check_address(std::span<const std::byte> bytes) const {
    const std::uint64_t mask = info_.block_bytes - 1;
    if (info_.is_direct && (reinterpret_cast<std::uintptr_t>(bytes.data()) & mask) != 0)
        return fail(ErrorCode::invalid, "a buffer that is not aligned to blocks");
    return {};
}

Result<> OpenFile::check_change(ByteOffset at, ByteCount count) const {
    if (options_.read_only) return fail(ErrorCode::not_permitted, "changing a read-only file");
    TRY_VOID(check_aligned(at, count));
    const std::uint64_t size = info_.size.value();
    if (at.value() > size || count.value() > size - at.value())
        return fail(ErrorCode::out_of_range, "changing a file behind its end");
    return {};
}

// Files ------------------------------------------------------------------------------------------

async::Task<Outcome<std::unique_ptr<io::File>>> Files::open(std::string path,
                                                            io::FileOptions options) {
    Life& life = process_.life();
    const io::TimePoint give_up = life.clock.now() + kLockPatience;
    while (true) {
        co_await io::sleep_for(life.clock,
                               process_.world().random().between(kHelperMin, kHelperMax));
        Disk* const disk = process_.host().find_disk(path);
        if (disk == nullptr)
            co_return refuse(ErrorCode::not_found,
                             fmt::format("cannot open {}: no such file or directory; create it "
                                         "(truncate -s SIZE FILE) or correct the path",
                                         path));
        const bool looks_on = options.read_only && options.looks_on;
        if (auto lock = looks_on ? nullptr : disk->try_lock(options.read_only);
            looks_on || lock != nullptr)
            co_return std::make_unique<OpenFile>(process_, *disk, std::move(lock), options);
        if (life.clock.now() >= give_up)
            co_return refuse(ErrorCode::busy,
                             fmt::format("cannot open {}: it is in use; stop its user, or choose "
                                         "another",
                                         path));
        co_await io::sleep_for(life.clock, kLockPause);
    }
}

Outcome<std::string> Files::load(const std::string& path) {
    const auto& files = process_.host().small_files();
    const auto found = files.find(path);
    if (found == files.end())
        return refuse(
            ErrorCode::not_found,
            fmt::format("cannot read {}: no such file or directory; correct the path", path));
    return found->second;
}

Outcome<> Files::store(const std::string& path, const std::string& content) {
    process_.world().trace(process_.name(), "stores {}", path);
    process_.host().small_files()[path] = content;
    return {};
}

}  // namespace dst::sim
