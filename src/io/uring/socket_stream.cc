#include "io/uring/socket_stream.h"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstddef>

#include "base/check.h"
#include "io/uring/errors.h"

namespace dst::io::uring {
namespace {

static_assert(sizeof(Slice) == sizeof(iovec) &&
              offsetof(Slice, data) == offsetof(iovec, iov_base) &&
              offsetof(Slice, size) == offsetof(iovec, iov_len));

msghdr message_of(std::span<const Slice> slices) {
    msghdr message{};
    message.msg_iov = reinterpret_cast<iovec*>(const_cast<Slice*>(slices.data()));
    message.msg_iovlen = slices.size();
    return message;
}

bool is_passing(int result) { return result == -EINTR || result == -EAGAIN; }

}  // namespace

SocketStream::~SocketStream() { CHECK(!is_receiving_ && !is_sending_); }

async::Task<Result<std::size_t>> SocketStream::receive(std::span<const Slice> into) {
    CHECK(!is_receiving_ && !into.empty() && into.size() <= kSlicesMax);
    is_receiving_ = true;
    msghdr message = message_of(into);
    int result = 0;
    do {
        auto operation = reactor_.submit([&](io_uring_sqe& entry) {
            if (into.size() == 1)
                io_uring_prep_recv(&entry, fd_.get(), into[0].data, into[0].size, 0);
            else
                io_uring_prep_recvmsg(&entry, fd_.get(), &message, 0);
            if (is_drained_) entry.ioprio |= IORING_RECVSEND_POLL_FIRST;
        });
        result = co_await operation;
        is_drained_ = (operation.flags() & IORING_CQE_F_SOCK_NONEMPTY) == 0;
    } while (is_passing(result) && !is_shut_down_);
    is_receiving_ = false;
    co_return receive_result(result);
}

Result<std::size_t> SocketStream::receive_result(int result) {
    if (is_shut_down_) return fail(ErrorCode::cancelled, "receiving on a connection shut down");
    if (result < 0 || (result == 0 && is_broken_)) return lost(result, "receiving");
    return static_cast<std::size_t>(result);
}

std::size_t SocketStream::readable() const {
    int bytes = 0;
    return ::ioctl(fd_.get(), FIONREAD, &bytes) == 0 ? static_cast<std::size_t>(bytes) : 0;
}

async::Task<Result<std::size_t>> SocketStream::send(std::span<const Slice> from) {
    CHECK(!is_sending_ && !from.empty() && from.size() <= kSlicesMax);
    is_sending_ = true;
    const msghdr message = message_of(from);
    int result = 0;
    do {
        result = co_await reactor_.submit([&](io_uring_sqe& entry) {
            if (from.size() == 1)
                io_uring_prep_send(&entry, fd_.get(), from[0].data, from[0].size, MSG_NOSIGNAL);
            else
                io_uring_prep_sendmsg(&entry, fd_.get(), &message, MSG_NOSIGNAL);
        });
    } while (is_passing(result) && !is_shut_down_);
    is_sending_ = false;
    co_return send_result(result);
}

Result<std::size_t> SocketStream::send_result(int result) {
    if (is_shut_down_) return fail(ErrorCode::cancelled, "sending on a connection shut down");
    if (result < 0) return lost(result, "sending");
    CHECK(result > 0);  // nobody sends nothing
    return static_cast<std::size_t>(result);
}

/// Whatever broke it, the link is gone.
std::unexpected<Error> SocketStream::lost(int result, const char* what) {
    if (socket_error(-result, what).code == ErrorCode::no_memory)
        return fail(ErrorCode::no_memory, what);
    is_broken_ = true;
    return fail(ErrorCode::node_lost, what);
}

void SocketStream::shutdown() {
    if (is_shut_down_) return;
    is_shut_down_ = true;
    // Wakes what waits in the kernel; it fails if the connection has broken, which does so, too.
    ::shutdown(fd_.get(), SHUT_RDWR);
}

UniqueFd SocketStream::release() {
    CHECK(!is_receiving_ && !is_sending_);
    return std::move(fd_);
}

}  // namespace dst::io::uring
