#define FUSE_USE_VERSION 312

#include "io/uring/fuse_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fuse_lowlevel.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "io/uring/errors.h"

namespace dst::io::uring {
namespace {

/// Attributes are asked for each time: the size may change.
constexpr double kNotForAMoment = 0;
constexpr unsigned kBlockBytes = 4096;
/// From this version of its protocol on (Linux 6.6), the kernel writes cached pages back and drops
/// them also for files that are open for direct I/O alone.
constexpr unsigned kCoherentMinor = 39;

static_assert(sizeof(fuse_in_header) + sizeof(fuse_write_in) == 80);

template <typename T>
T from_bytes(std::span<const std::byte> bytes) {
    T value;
    CHECK(bytes.size() >= sizeof value);
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

}  // namespace

// What libfuse calls ----------------------------------------------------------------------------

struct FuseFile::Calls {
    static FuseFile& of(fuse_req_t request) {
        return *static_cast<FuseFile*>(::fuse_req_userdata(request));
    }

    static void init(void* context, fuse_conn_info* connection) {
        static_cast<FuseFile*>(context)->is_coherent_ = connection->proto_minor >= kCoherentMinor;
        connection->max_write = kDataMaxBytes;
        connection->max_readahead = kDataMaxBytes;
        connection->max_background = kBackgroundMax;
        connection->congestion_threshold = kBackgroundMax * 3 / 4;
        // Truncating is asked for apart from opening, and refused. Pages stay valid when times
        // change, which they do not.
        connection->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                                   FUSE_CAP_SPLICE_MOVE | FUSE_CAP_ATOMIC_O_TRUNC |
                                                   FUSE_CAP_AUTO_INVAL_DATA);
        connection->want |= connection->capable &
                            (FUSE_CAP_ASYNC_DIO | FUSE_CAP_ASYNC_READ | FUSE_CAP_HANDLE_KILLPRIV);
    }
    static struct stat stat_of(const FuseFile& file) {
        struct stat shown{};
        shown.st_ino = FUSE_ROOT_ID;
        shown.st_mode = S_IFREG | (file.read_only_ ? 0400U : 0600U);
        shown.st_nlink = 1;
        shown.st_uid = ::geteuid();
        shown.st_gid = ::getegid();
        shown.st_blksize = kBlockBytes;
        shown.st_size = static_cast<off_t>(file.content_.size().value());
        shown.st_blocks = shown.st_size / 512;
        return shown;
    }
    static void get_attributes(fuse_req_t request, fuse_ino_t /*number*/,
                               fuse_file_info* /*info*/) {
        const struct stat shown = stat_of(of(request));
        ::fuse_reply_attr(request, &shown, kNotForAMoment);
    }
    /// As of a disk: `>` does not empty it, nothing else changes its size, and it has no times.
    static void set_attributes(fuse_req_t request, fuse_ino_t number, struct stat* wanted,
                               int which, fuse_file_info* info) {
        const bool sizes = (which & FUSE_SET_ATTR_SIZE) != 0 && wanted->st_size != 0 &&
                           wanted->st_size != stat_of(of(request)).st_size;
        const bool owns =
            (which & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0;
        if (sizes || owns)
            ::fuse_reply_err(request, EPERM);
        else
            get_attributes(request, number, info);
    }
    static void open(fuse_req_t request, fuse_ino_t /*number*/, fuse_file_info* info) {
        // Who reads and writes around the page cache waits for each request then, and can be killed
        // while he does; the kernel would wait for all of them together, whatever comes.
        const bool is_around = (info->flags & O_DIRECT) != 0 && of(request).is_coherent_;
        info->direct_io = is_around ? 1 : 0;
        // As of a disk: what is cached goes before the first one uses it again. The kernel would do
        // that by itself, but once this is answered: what the next one who opens it has read ahead
        // by then is waited for, beyond the reach of any signal.
        if (of(request).opens_ == 0) of(request).drop_cache();
        info->keep_cache = 1;
        ++of(request).opens_;
        if (::fuse_reply_open(request, info) != 0) --of(request).opens_;
    }
    static void release(fuse_req_t request, fuse_ino_t /*number*/, fuse_file_info* /*info*/) {
        FuseFile& file = of(request);
        if (file.opens_ > 0) --file.opens_;
        file.closings_.wake_all();
        ::fuse_reply_err(request, 0);
    }
    static void flush(fuse_req_t request, fuse_ino_t /*number*/, fuse_file_info* /*info*/) {
        ::fuse_reply_err(request, 0);
    }
    static void statfs(fuse_req_t request, fuse_ino_t /*number*/) {
        struct statvfs shown{};
        shown.f_bsize = shown.f_frsize = kBlockBytes;
        shown.f_blocks = of(request).content_.size().value() / kBlockBytes;
        shown.f_namemax = 255;
        ::fuse_reply_statfs(request, &shown);
    }
};

std::string FuseFile::obstacle() {
    if (::access("/dev/fuse", R_OK | W_OK) == 0) return {};
    return fmt::format("/dev/fuse can't be used: {}; load the module fuse", text_of(errno));
}

Outcome<std::unique_ptr<FuseFile>> FuseFile::open(Reactor& reactor, const std::string& path,
                                                  FuseContent& content, bool read_only) {
    static const fuse_lowlevel_ops kOperations = [] {
        fuse_lowlevel_ops calls{};
        calls.init = Calls::init;
        calls.getattr = Calls::get_attributes;
        calls.setattr = Calls::set_attributes;
        calls.open = Calls::open;
        calls.release = Calls::release;
        calls.flush = Calls::flush;
        calls.statfs = Calls::statfs;
        return calls;
    }();
    std::unique_ptr<FuseFile> file(new FuseFile(content, read_only));
    TRY(file->mount_, FuseMount::open(reactor, path, kOperations, file.get(),
                                      {.is_file = true, .read_only = read_only}));
    file->mount_->receive_by([at = file.get()](fuse_session* session) {
        at->session_ = session;
        at->fd_ = ::fuse_session_fd(session);
        return at->receive(session);
    });
    return file;
}

FuseFile::FuseFile(FuseContent& content, bool read_only)
    : content_(content), read_only_(read_only) {}

FuseFile::~FuseFile() = default;

/// While it is not open: then no page is locked that only an answer from here unlocks, for what is
/// being read or written back keeps it open.
void FuseFile::drop_cache() {
    const int error = ::fuse_lowlevel_notify_inval_inode(session_, FUSE_ROOT_ID, 0, 0);
    if (error != 0) log::warning("{}: what is cached of it stays: {}", path(), text_of(-error));
}

void FuseFile::close() {
    fd_ = -1;
    mount_->close();
}

int FuseFile::receive(fuse_session* session) {
    const std::span<std::byte> room = content_.room();
    if (room.empty()) {
        mount_->pause();
        return -EAGAIN;
    }
    CHECK(room.size() >= kDataMaxBytes);
    std::array<iovec, 2> parts = {iovec{head_.data(), head_.size()},
                                  iovec{room.data(), kDataMaxBytes}};
    const ssize_t received = ::readv(fd_, parts.data(), parts.size());
    if (received < 0) return errno == ENODEV ? 0 : -errno;
    if (received == 0) return 0;
    const auto size = static_cast<std::size_t>(received);
    if (!take(size, room)) pass_to_libfuse(session, size, room);
    return static_cast<int>(received);
}

/// False if that is a request of another kind.
bool FuseFile::take(std::size_t size, std::span<std::byte> room) {
    const std::span<const std::byte> head(head_.data(), std::min(size, kHeadBytes));
    const auto header = from_bytes<fuse_in_header>(head);
    CHECK(header.len == size);  // the kernel's word
    const auto arguments = head.subspan(sizeof header);
    FuseCall call{.id = header.unique};
    switch (header.opcode) {
        case FUSE_READ: {
            const auto asked = from_bytes<fuse_read_in>(arguments);
            call.op = FuseCall::Op::read;
            call.at = ByteOffset(asked.offset);
            call.count = ByteCount(asked.size);
            break;
        }
        case FUSE_WRITE: {
            const auto asked = from_bytes<fuse_write_in>(arguments);
            call.op = FuseCall::Op::write;
            call.at = ByteOffset(asked.offset);
            call.count = ByteCount(asked.size);
            CHECK(size - kHeadBytes == asked.size);
            content_.take(call, room.first(asked.size));
            return true;
        }
        case FUSE_FSYNC:
            call.op = FuseCall::Op::sync;
            break;
        case FUSE_FALLOCATE: {
            const auto asked = from_bytes<fuse_fallocate_in>(arguments);
            call.at = ByteOffset(asked.offset);
            call.count = ByteCount(asked.length);
            const auto mode = asked.mode & ~static_cast<unsigned>(FALLOC_FL_KEEP_SIZE);
            if (mode != FALLOC_FL_PUNCH_HOLE && mode != FALLOC_FL_ZERO_RANGE) {
                answer(call, EOPNOTSUPP);
                return true;
            }
            call.op =
                mode == FALLOC_FL_PUNCH_HOLE ? FuseCall::Op::punch_hole : FuseCall::Op::zero_range;
            break;
        }
        case FUSE_INTERRUPT:
            // Those of libfuse are answered before anything can interrupt them.
            content_.interrupt(from_bytes<fuse_interrupt_in>(arguments).unique);
            return true;
        default:
            return false;
    }
    content_.take(call, {});
    return true;
}

void FuseFile::pass_to_libfuse(fuse_session* session, std::size_t size, std::span<std::byte> room) {
    const std::size_t in_head = std::min(size, kHeadBytes);
    std::vector<std::byte> whole(size);
    std::memcpy(whole.data(), head_.data(), in_head);
    std::memcpy(whole.data() + in_head, room.data(), size - in_head);
    fuse_buf buffer{};
    buffer.size = size;
    buffer.mem = whole.data();
    ::fuse_session_process_buf(session, &buffer);
}

void FuseFile::answer(const FuseCall& call, int error) {
    if (error == 0 && call.op == FuseCall::Op::write) {
        const fuse_write_out done{.size = static_cast<std::uint32_t>(call.count.value()),
                                  .padding = 0};
        send(call.id, 0, std::as_bytes(std::span(&done, 1)));
        return;
    }
    send(call.id, error, {});
}

void FuseFile::answer(const FuseCall& call, std::span<const std::byte> data) {
    send(call.id, 0, data);
}

void FuseFile::send(std::uint64_t id, int error, std::span<const std::byte> data) {
    if (fd_ < 0) return;
    fuse_out_header header{.len = static_cast<std::uint32_t>(sizeof header + data.size()),
                           .error = -error,
                           .unique = id};
    const std::array<iovec, 2> parts = {iovec{&header, sizeof header},
                                        iovec{const_cast<std::byte*>(data.data()), data.size()}};
    if (::writev(fd_, parts.data(), data.empty() ? 1 : 2) >= 0) return;
    // ENOENT, ENODEV: whoever asked does not wait any more.
    if (errno != ENOENT && errno != ENODEV)
        log::warning("{}: an answer to the kernel failed: {}", path(), text_of(errno));
}

}  // namespace dst::io::uring
