#include "nbd/receive_buffer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace dst::nbd {
namespace {

/// So many receives in a row that would have fitted a quiet buffer make a connection quiet.
constexpr unsigned kQuietAfterFills = 64;

}  // namespace

void ReceiveBuffer::consume(std::size_t bytes) {
    CHECK(bytes <= size());
    begin_ += bytes;
    if (begin_ == end_) begin_ = end_ = 0;
}

void ReceiveBuffer::move_to(block::Buffer larger) {
    const auto from = readable();
    if (!from.empty()) std::memcpy(larger.bytes().data(), from.data(), from.size());
    end_ = from.size();
    begin_ = 0;
    buffer_ = std::move(larger);
}

async::Task<bool> ReceiveBuffer::make_room() {
    if (!quiet_) quiet_ = co_await account_.allocate(kQuietBytes);
    if (!quiet_) co_return false;  // memory is given up
    if (!buffer_) buffer_ = quiet_;
    const bool is_busy = buffer_.bytes().size() >= kBusyBytes;
    if (was_filled_ && !is_busy) {
        was_filled_ = false;
        if (block::Buffer larger = account_.try_allocate(kBusyBytes)) move_to(std::move(larger));
        quiet_fills_ = 0;
    } else if (is_busy && quiet_fills_ > kQuietAfterFills && size() <= kQuietBytes / 2) {
        move_to(quiet_);
        quiet_fills_ = 0;
    }
    if (begin_ > 0) {
        // What is left is the front of one frame: shorter than a header and a short payload.
        std::memmove(storage().data(), storage().data() + begin_, size());
        end_ -= begin_;
        begin_ = 0;
    }
    co_return true;
}

async::Task<Result<>> ReceiveBuffer::fill(io::Stream& stream, std::size_t wanted) {
    CHECK(wanted <= kQuietBytes);
    while (size() < wanted) {
        if (!co_await make_room()) co_return fail(ErrorCode::no_memory, "memory is given up");
        const io::Slice room(storage().subspan(end_));
        CO_TRY(const auto received, co_await stream.receive(std::span(&room, 1)));
        if (received == 0)
            co_return size() == 0 ? fail(ErrorCode::cancelled, "the peer ended the connection")
                                  : fail(ErrorCode::node_lost, "the stream ended within a frame");
        end_ += received;
        was_filled_ = received == room.size;
        quiet_fills_ = received <= kQuietBytes ? quiet_fills_ + 1 : 0;
    }
    co_return Result<>{};
}

std::size_t ReceiveBuffer::take_readable(std::span<std::byte> into) {
    const std::size_t bytes = std::min(into.size(), size());
    if (bytes > 0) std::memcpy(into.data(), readable().data(), bytes);
    consume(bytes);
    return bytes;
}

async::Task<Result<>> ReceiveBuffer::take(io::Stream& stream, std::span<std::byte> into) {
    into = into.subspan(take_readable(into));
    while (!into.empty()) {
        // What follows the payload comes along in the same call.
        if (!co_await make_room()) co_return fail(ErrorCode::no_memory, "memory is given up");
        const std::array slices{io::Slice(into), io::Slice(storage())};
        CO_TRY(const auto received, co_await stream.receive(slices));
        if (received == 0) co_return fail(ErrorCode::node_lost, "the stream ended within a frame");
        if (received <= into.size()) {
            into = into.subspan(received);
            continue;
        }
        end_ = received - into.size();
        was_filled_ = end_ == storage().size();
        into = {};
    }
    co_return Result<>{};
}

async::Task<Result<>> ReceiveBuffer::skip(io::Stream& stream, std::size_t bytes) {
    while (bytes > 0) {
        CO_TRY_VOID(co_await fill(stream, 1));
        const std::size_t piece = std::min(bytes, size());
        consume(piece);
        bytes -= piece;
    }
    co_return Result<>{};
}

}  // namespace dst::nbd
