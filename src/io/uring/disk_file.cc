#include "io/uring/disk_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/check.h"
#include "io/uring/errors.h"

namespace dst::io::uring {
namespace {

/// The kernel takes a little less than 2 GiB at once.
constexpr std::size_t kTransferBytesMax = std::size_t{1} << 30;
/// A helper thread is not to be away for long.
constexpr ByteCount kDiscardAtOnce{std::uint64_t{1} << 30};

/// Errors of a moment: the request is made again.
bool is_passing(int result) { return result == -EINTR || result == -EAGAIN; }

Result<FileExtent> find_extent(int fd, ByteOffset at, ByteCount count) {
    const auto cut = [&](off_t end) {
        return std::min(ByteOffset(static_cast<std::uint64_t>(end)) - at, count);
    };
    const off_t data = ::lseek(fd, static_cast<off_t>(at.value()), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return FileExtent{count, true, true};  // none up to the end
    if (data < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) return FileExtent{count};
    if (data < 0) return std::unexpected(file_error(errno, "looking for data in a file"));
    if (static_cast<std::uint64_t>(data) > at.value()) return FileExtent{cut(data), true, true};
    const off_t hole = ::lseek(fd, static_cast<off_t>(at.value()), SEEK_HOLE);
    // No hole at or behind `at`, or the file has just been cut: all data, as far as is known.
    if (hole < 0 || static_cast<std::uint64_t>(hole) <= at.value()) return FileExtent{count};
    return FileExtent{cut(hole)};
}

int discard_blocks(int fd, ByteOffset at, ByteCount count) {
    std::array<std::uint64_t, 2> range{at.value(), count.value()};
    return ::ioctl(fd, BLKDISCARD, range.data()) == 0 ? 0 : -errno;
}

}  // namespace

/// Counts the calls under way: the file must not die under them.
class DiskFile::InUse {
  public:
    explicit InUse(DiskFile& file) : file_(file) { ++file_.calls_; }
    ~InUse() { --file_.calls_; }
    InUse(const InUse&) = delete;
    InUse& operator=(const InUse&) = delete;

  private:
    DiskFile& file_;
};

/// Adds up how long a call took.
class DiskFile::Timed {
  public:
    Timed(const Reactor& reactor, Latency& latency)
        : reactor_(reactor), latency_(latency), begun_at_(reactor.turn_time()) {}
    ~Timed() { latency_.add(reactor_.turn_time() - begun_at_); }
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;

  private:
    const Reactor& reactor_;
    Latency& latency_;
    const TimePoint begun_at_;
};

DiskFile::~DiskFile() {
    CHECK(calls_ == 0);
    if (!medium_.info.is_block_device) return;
    reactor_.offload_detached([fd = medium_.fd.release()] { ::close(fd); });
}

async::Task<Result<>> DiskFile::read(ByteOffset at, std::span<std::byte> into) {
    CO_TRY_VOID(check_transfer(at, into));
    const InUse in_use(*this);
    const Timed timed(reactor_, times_.read);
    while (!into.empty()) {
        const auto size = static_cast<unsigned>(std::min(into.size(), kTransferBytesMax));
        const int got = co_await reactor_.submit([&](io_uring_sqe& entry) {
            io_uring_prep_read(&entry, fd(), into.data(), size, at.value());
        });
        if (is_passing(got)) continue;
        if (got < 0) co_return std::unexpected(file_error(-got, "reading a file"));
        if (got == 0) co_return fail(ErrorCode::io_error, "reading behind the end of a file");
        into = into.subspan(static_cast<std::size_t>(got));
        at = at + ByteCount(static_cast<std::uint64_t>(got));
    }
    co_return Result<>{};
}

async::Task<Result<>> DiskFile::write(ByteOffset at, std::span<const std::byte> from,
                                      bool durable) {
    CO_TRY_VOID(check_transfer(at, from));
    CO_TRY_VOID(check_change(at, ByteCount(from.size())));
    const InUse in_use(*this);
    const Timed timed(reactor_, times_.write);
    while (!from.empty()) {
        const auto size = static_cast<unsigned>(std::min(from.size(), kTransferBytesMax));
        const int put = co_await reactor_.submit([&](io_uring_sqe& entry) {
            io_uring_prep_write(&entry, fd(), from.data(), size, at.value());
            entry.rw_flags = durable ? RWF_DSYNC : 0;
        });
        if (is_passing(put)) continue;
        if (put < 0 && durable) note_lost_writes(-put);
        if (put < 0) co_return std::unexpected(file_error(-put, "writing a file"));
        if (put == 0) co_return fail(ErrorCode::io_error, "writing a file that takes nothing");
        from = from.subspan(static_cast<std::size_t>(put));
        at = at + ByteCount(static_cast<std::uint64_t>(put));
    }
    co_return Result<>{};
}

async::Task<Result<>> DiskFile::sync() {
    const InUse in_use(*this);
    const Timed timed(reactor_, times_.sync);
    if (losses_ != losses_accepted_)
        co_return fail(ErrorCode::io_error, "flushing a file that has lost writes before");
    const std::uint64_t losses_before = losses_;
    while (true) {
        const int result = co_await reactor_.submit(
            [&](io_uring_sqe& entry) { io_uring_prep_fsync(&entry, fd(), IORING_FSYNC_DATASYNC); });
        if (is_passing(result)) continue;
        if (result < 0) {
            ++losses_;
            co_return std::unexpected(file_error(-result, "flushing a file"));
        }
        // Another one that ran beside this one may have been told of the loss in its place.
        if (losses_ != losses_before)
            co_return fail(ErrorCode::io_error, "flushing a file that has lost writes meanwhile");
        co_return Result<>{};
    }
}

/// After a failed write-back the kernel has dropped the dirty pages, and tells it only once.
/// Through the page cache every error of a durable write may be that; past it only the disk's.
void DiskFile::note_lost_writes(int error) {
    const ErrorCode code = file_error(error, "").code;
    if (code == ErrorCode::io_error || (!medium_.info.is_direct && code == ErrorCode::no_space))
        ++losses_;
}

async::Task<Result<>> DiskFile::discard(ByteOffset at, ByteCount count) {
    CO_TRY_VOID(check_change(at, count));
    const InUse in_use(*this);
    if (!medium_.info.can_discard) co_return Result<>{};
    if (medium_.info.is_block_device) co_return co_await discard_device(at, count);
    const int result = co_await allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, count);
    if (result < 0 && result != -EOPNOTSUPP)
        co_return std::unexpected(file_error(-result, "discarding a part of a file"));
    co_return Result<>{};
}

async::Task<Result<>> DiskFile::discard_device(ByteOffset at, ByteCount count) {
    while (count > ByteCount(0)) {
        const ByteCount part = std::min(count, kDiscardAtOnce);
        const int result = co_await reactor_.offload(
            [fd = fd(), at, part] { return discard_blocks(fd, at, part); });
        if (is_passing(result)) continue;
        if (result == -EOPNOTSUPP) break;
        if (result < 0)
            co_return std::unexpected(file_error(-result, "discarding a part of a block device"));
        at = at + part;
        count = count - part;
    }
    co_return Result<>{};
}

async::Task<Result<>> DiskFile::zero(ByteOffset at, ByteCount count, bool may_unmap) {
    CO_TRY_VOID(check_change(at, count));
    const InUse in_use(*this);
    if (!medium_.info.can_zero_fast) co_return fail(ErrorCode::unsupported, "zeroing a file");
    constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    constexpr int kZero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    int result = co_await allocate(may_unmap ? kPunch : kZero, at, count);
    // A file system without ZERO_RANGE (tmpfs): unmap, then allocate again.
    if (result == -EOPNOTSUPP && !may_unmap && !medium_.info.is_block_device) {
        result = co_await allocate(kPunch, at, count);
        if (result == 0) result = co_await allocate(FALLOC_FL_KEEP_SIZE, at, count);
    }
    if (result < 0) co_return std::unexpected(file_error(-result, "zeroing a part of a file"));
    co_return Result<>{};
}

async::Task<int> DiskFile::allocate(int mode, ByteOffset at, ByteCount count) {
    while (true) {
        const int result = co_await reactor_.submit([&](io_uring_sqe& entry) {
            io_uring_prep_fallocate(&entry, fd(), mode, static_cast<off_t>(at.value()),
                                    static_cast<off_t>(count.value()));
        });
        if (!is_passing(result)) co_return result;
    }
}

async::Task<Result<FileExtent>> DiskFile::extent(ByteOffset at, ByteCount count) {
    const std::uint64_t size = medium_.info.size.value();
    if (count == ByteCount(0)) co_return fail(ErrorCode::invalid, "an extent of no bytes");
    if (at.value() >= size) co_return fail(ErrorCode::out_of_range, "an extent behind the end");
    count = std::min(count, ByteCount(size - at.value()));
    if (medium_.info.is_block_device) co_return FileExtent{count};
    const InUse in_use(*this);
    co_return co_await reactor_.offload(
        [fd = fd(), at, count] { return find_extent(fd, at, count); });
}

async::Task<Result<ByteCount>> DiskFile::refresh_size() {
    const InUse in_use(*this);
    CO_TRY(const ByteCount size,
           co_await reactor_.offload([fd = fd(), is_block = medium_.info.is_block_device] {
               return size_of_medium(fd, is_block);
           }));
    medium_.info.size = size;
    co_return size;
}

Result<> DiskFile::check_transfer(ByteOffset at, std::span<const std::byte> bytes) const {
    const std::uint64_t mask = medium_.info.block_bytes - 1;
    if (((at.value() | bytes.size()) & mask) != 0)
        return fail(ErrorCode::invalid, "a request that is not aligned to blocks");
    if (medium_.info.is_direct && (reinterpret_cast<std::uintptr_t>(bytes.data()) & mask) != 0)
        return fail(ErrorCode::invalid, "a buffer that is not aligned to blocks");
    return {};
}

Result<> DiskFile::check_change(ByteOffset at, ByteCount count) const {
    if (options_.read_only) return fail(ErrorCode::not_permitted, "changing a read-only file");
    const std::uint64_t mask = medium_.info.block_bytes - 1;
    if (((at.value() | count.value()) & mask) != 0)
        return fail(ErrorCode::invalid, "a request that is not aligned to blocks");
    const std::uint64_t size = medium_.info.size.value();
    if (at.value() > size || count.value() > size - at.value())
        return fail(ErrorCode::out_of_range, "changing a file behind its end");
    return {};
}

}  // namespace dst::io::uring
