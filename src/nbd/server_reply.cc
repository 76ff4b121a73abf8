// The replies of a server session: simple ones, structured ones, either with checksums or without.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/digest.h"
#include "nbd/server_slot.h"

namespace dst::nbd {

using block::Op;

namespace {

Op op_of(Command command) {
    switch (command) {
        case Command::write:
            return Op::write;
        case Command::flush:
            return Op::flush;
        case Command::trim:
            return Op::trim;
        case Command::write_zeroes:
            return Op::write_zeroes;
        case Command::block_status:
            return Op::block_status;
        default:
            return Op::read;
    }
}

/// What one answer to block status takes, in bytes, and says at most.
constexpr std::size_t kBlockStatusBytes = 16 << 10;
constexpr std::size_t kExtentsMax = 448;
static_assert(kExtentsMax * (sizeof(block::Extent) + sizeof(BlockDescriptor)) +
                  frame_size<ChunkHeader>(true) + block_status_size(kExtentsMax) <=
              kBlockStatusBytes);

/// Looks at the front first: for data that is not zero it costs one comparison.
bool is_zero(std::span<const std::byte> bytes) {
    return bytes[0] == std::byte{0} &&
           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

}  // namespace

void ServerSession::Slot::take(const ValidRequest& asked) {
    cookie = asked.cookie;
    dont_fragment = asked.dont_fragment;
    one_extent = asked.one_extent;
    request = {
        .op = op_of(asked.command),
        .fua = asked.fua,
        .no_hole = asked.no_hole,
        .fast_zero = asked.fast_zero,
        .range = {SectorIndex(asked.offset.value() >> kSectorShift), sectors_floor(asked.length)}};
}

void ServerSession::reply(Slot& slot, Result<> done) {
    if (!done)
        reply_error(slot, done.error());
    else if (slot.request.op == Op::read)
        reply_read(slot);
    else
        reply_nothing(slot);
}

void ServerSession::reply_nothing(Slot& slot) {
    if (!negotiated_.structured_replies) {
        const std::size_t size = frame_size<SimpleReplyHeader>(false);
        encode_frame(std::span(slot.head).first(size), SimpleReplyHeader{.cookie = slot.cookie},
                     false);
        slot.send_head(size);
        return;
    }
    const std::size_t size = frame_size<ChunkHeader>(negotiated_.checksums);
    encode_frame(
        std::span(slot.head).first(size),
        ChunkHeader{.flags = kReplyFlagDone, .type = ChunkType::none, .cookie = slot.cookie},
        negotiated_.checksums);
    slot.send_head(size);
}

void ServerSession::reply_error(Slot& slot, Error error) {
    if (!negotiated_.structured_replies) {
        const std::size_t size = frame_size<SimpleReplyHeader>(false);
        encode_frame(std::span(slot.head).first(size),
                     SimpleReplyHeader{to_wire_error(error.code), slot.cookie}, false);
        slot.send_head(size);
        return;
    }
    const ErrorBody body{.error = to_wire_error(error.code), .message = {}, .offset = {}};
    const std::size_t front = frame_size<ChunkHeader>(negotiated_.checksums);
    const std::size_t size = front + error_size(body);
    CHECK(size <= slot.head.size());
    encode_error(std::span(slot.head).subspan(front, error_size(body)), body);
    seal_chunk(std::span(slot.head).first(size),
               {.flags = kReplyFlagDone, .type = chunk_type(body), .cookie = slot.cookie},
               negotiated_.checksums);
    slot.send_head(size);
}

void ServerSession::reply_read(Slot& slot) {
    const std::span<std::byte> data = slot.request.data;
    if (!negotiated_.structured_replies) {
        const std::size_t size = frame_size<SimpleReplyHeader>(false);
        encode_frame(std::span(slot.head).first(size), SimpleReplyHeader{.cookie = slot.cookie},
                     false);
        slot.send_head_and(size, data);
        return;
    }
    slot.reply_data(to_bytes(slot.request.range.first).value(), data, kReplyFlagDone);
}

void ServerSession::Slot::reply_data(std::uint64_t offset, std::span<std::byte> data,
                                     std::uint16_t last_flags) {
    const bool checksums = session.negotiated_.checksums;
    const auto run_length = [&](std::size_t from, bool& zero) {
        zero = is_zero(data.subspan(from, std::min(kHoleBytes, data.size() - from)));
        std::size_t to = std::min(from + kHoleBytes, data.size());
        while (to < data.size() &&
               is_zero(data.subspan(to, std::min(kHoleBytes, data.size() - to))) == zero)
            to = std::min(to + kHoleBytes, data.size());
        return to - from;
    };
    bool zero = false;
    if (dont_fragment || (run_length(0, zero) == data.size() && !zero)) {
        encode_data_front(std::span(head).first(data_front_size(checksums)), cookie, last_flags,
                          offset, data, checksums);
        send_head_and(data_front_size(checksums), data);
        return;
    }
    heads.clear();
    slices.clear();
    heads.reserve(kRunsMax);  // slices point into it
    for (std::size_t at = 0; at < data.size();) {
        const std::size_t length = run_length(at, zero);
        const bool is_last = at + length == data.size();
        const std::uint16_t flags = is_last ? last_flags : std::uint16_t{0};
        auto& front = heads.emplace_back();
        if (zero) {
            const std::size_t size = frame_size<ChunkHeader>(checksums) + OffsetHole::kWireBytes;
            const auto chunk = std::span(front).first(size);
            encode_hole(
                std::span<std::byte, OffsetHole::kWireBytes>(chunk.last(OffsetHole::kWireBytes)),
                {offset + at, static_cast<std::uint32_t>(length)});
            seal_chunk(chunk, {.flags = flags, .type = ChunkType::offset_hole, .cookie = cookie},
                       checksums);
            slices.emplace_back(chunk);
        } else {
            const auto chunk = std::span(front).first(data_front_size(checksums));
            encode_data_front(chunk, cookie, flags, offset + at, data.subspan(at, length),
                              checksums);
            slices.emplace_back(chunk);
            slices.emplace_back(data.subspan(at, length));
        }
        at += length;
    }
    send_slices();
}

/// Memory for all pieces of a long read, if it can be had without waiting.
bool ServerSession::gather_pieces(Slot& slot) {
    std::uint64_t left = to_bytes(slot.request.range.count).value();
    while (left > 0) {
        const std::uint64_t piece = std::min<std::uint64_t>(left, block::kPayloadMaxBytes);
        slot.pieces.push_back(served_->account().try_allocate(piece));
        if (!slot.pieces.back()) {
            slot.pieces.clear();
            return false;
        }
        left -= piece;
    }
    return true;
}

/// A long read in a simple reply: all of it is read before its header says that it went well.
async::Task<void> ServerSession::serve_whole_read(Slot& slot) {
    const SectorRange whole = slot.request.range;
    SectorIndex at = whole.first;
    slot.slices.assign(1, io::Slice(slot.head.data(), frame_size<SimpleReplyHeader>(false)));
    for (block::Buffer& piece : slot.pieces) {
        const SectorCount most = sectors_floor(ByteCount(block::kPayloadMaxBytes));
        slot.request.range = {at, std::min(most, whole.end() - at)};
        slot.request.data = piece.bytes().first(to_bytes(slot.request.range.count).value());
        const io::TimePoint asked_at = world_.clock.turn_time();
        const Result<> done = co_await execute(slot.request);
        note(slot.request, done, asked_at);
        if (!may_answer(done)) {
            release(slot);
            co_return;
        }
        if (!done) {
            reply_error(slot, done.error());
            co_return;
        }
        slot.slices.emplace_back(slot.request.data);
        at = slot.request.range.end();
    }
    encode_frame(std::span(slot.head).first(frame_size<SimpleReplyHeader>(false)),
                 SimpleReplyHeader{.cookie = slot.cookie}, false);
    slot.send_slices();
}

/// A read that is longer than a buffer: piece by piece, each sent before the next is read. In a
/// simple reply an error behind the first piece can't be told any more, and proto.md demands that
/// the connection ends; so there it is done only where memory is too short for the whole.
async::Task<void> ServerSession::serve_long_read(Slot& slot) {
    if (slot.dont_fragment) {
        reply_error(slot, {ErrorCode::overflow, "too long to go in one chunk"});
        co_return;
    }
    if (!negotiated_.structured_replies && gather_pieces(slot)) {
        co_await serve_whole_read(slot);
        co_return;
    }
    // In simple replies nothing may come between the parts, and so there is one such at a time.
    const bool is_exclusive = !negotiated_.structured_replies;
    if (is_exclusive) co_await exclusive_reply_.acquire();
    slot.part_of_long_read = true;
    slot.buffer = co_await served_->account().allocate(block::kPayloadMaxBytes);
    if (slot.buffer) {
        if (is_exclusive) sender_.begin_exclusive(slot);
        co_await send_long_read(slot);
        if (is_exclusive) sender_.end_exclusive();
    } else {
        release(slot);  // memory is given up: the server is going away
    }
    if (is_exclusive) exclusive_reply_.release();
}

/// After the last push the slot is the sender's, and free when it is sent.
async::Task<void> ServerSession::send_long_read(Slot& slot) {
    const SectorRange whole = slot.request.range;
    const SectorCount step = sectors_floor(ByteCount(block::kPayloadMaxBytes));
    for (SectorIndex at = whole.first; at < whole.end(); at = at + step) {
        const SectorCount count = std::min(step, whole.end() - at);
        const bool is_last = at + count == whole.end();
        slot.request.range = {at, count};
        slot.request.data = slot.buffer.bytes().first(to_bytes(count).value());
        const io::TimePoint asked_at = world_.clock.turn_time();
        const Result<> done = co_await execute(slot.request);
        note(slot.request, done, asked_at);
        slot.part_of_long_read = !is_last && done.has_value();
        slot.was_sent = false;
        if (!may_answer(done)) {
            // In the middle of an answer there is nothing that could end it well.
            if (at != whole.first) close("the device has lost changes: a flush failed");
            release(slot);
            co_return;
        }
        if (!done && !negotiated_.structured_replies && at != whole.first) {
            close("a read failed behind the front of a simple reply");
            release(slot);
            co_return;
        }
        if (!done) {
            reply_error(slot, done.error());
            co_return;
        }
        if (negotiated_.structured_replies) {
            slot.reply_data(to_bytes(at).value(), slot.request.data,
                            is_last ? kReplyFlagDone : std::uint16_t{0});
        } else if (at == whole.first) {
            reply_read(slot);
        } else {
            slot.two_slices[0] = io::Slice(slot.request.data);
            slot.send_two_slices(1);
        }
        if (is_last) co_return;
        while (static_cast<ListHook<FrameTag>&>(slot).is_linked()) co_await slot.sent.wait();
        if (!slot.was_sent) {
            release(slot);
            co_return;
        }
    }
}

async::Task<void> ServerSession::serve_block_status(Slot& slot) {
    // One buffer: extents, descriptors and the encoded answer, each in its part.
    slot.buffer = co_await served_->account().allocate(kBlockStatusBytes);
    if (!slot.buffer) {
        release(slot);  // memory is given up: the server is going away
        co_return;
    }
    const auto bytes = slot.buffer.bytes();
    const std::size_t room = slot.one_extent ? 1 : kExtentsMax;
    auto* const first = new (bytes.data()) block::Extent[room];
    block::ExtentList extents(std::span(first, room));
    slot.request.extents = &extents;
    const io::TimePoint asked_at = world_.clock.turn_time();
    const Result<> done = co_await execute(slot.request);
    note(slot.request, done, asked_at);
    if (!may_answer(done))
        release(slot);
    else if (!done)
        reply_error(slot, done.error());
    else
        reply_block_status(slot, extents.extents());
}

void ServerSession::reply_block_status(Slot& slot, std::span<const block::Extent> extents) {
    if (extents.empty()) {
        reply_error(slot, {ErrorCode::io_error, "the device describes nothing"});
        return;
    }
    const std::size_t front = frame_size<ChunkHeader>(negotiated_.checksums);
    const auto scratch = slot.buffer.bytes().subspan(kExtentsMax * sizeof(block::Extent));
    auto* const descriptors = new (scratch.data()) BlockDescriptor[kExtentsMax];
    std::size_t count = 0;
    std::uint64_t left = to_bytes(slot.request.range.count).value();
    for (const block::Extent& extent : extents) {
        const std::uint64_t length = std::min(left, to_bytes(extent.count).value());
        descriptors[count++] = {static_cast<std::uint32_t>(length),
                                (extent.hole ? kStateHole : 0) | (extent.zero ? kStateZero : 0)};
        left -= length;
        if (left == 0) break;
    }
    const std::size_t size = front + block_status_size(count);
    const auto chunk = scratch.subspan(kExtentsMax * sizeof(BlockDescriptor)).first(size);
    encode_block_status(chunk.subspan(front), negotiated_.base_allocation_id,
                        std::span(descriptors, count));
    seal_chunk(chunk,
               {.flags = kReplyFlagDone, .type = ChunkType::block_status, .cookie = slot.cookie},
               negotiated_.checksums);
    slot.two_slices[0] = io::Slice(chunk);
    slot.send_two_slices(1);
}

void ServerSession::reply_digest(Slot& slot) {
    const Digest digest = digest_of(slot.request.data);
    const std::size_t front = frame_size<ChunkHeader>(negotiated_.checksums);
    const auto chunk = std::span(slot.head).first(front + kDigestBytes);
    static_assert(sizeof digest.bytes == kDigestBytes);
    std::ranges::copy(digest.bytes, chunk.subspan(front).begin());
    seal_chunk(chunk,
               {.flags = kReplyFlagDone, .type = ChunkType::dst_digest, .cookie = slot.cookie},
               negotiated_.checksums);
    slot.send_head(chunk.size());
}

/// The state, and behind it an error if that is the answer.
void ServerSession::reply_ruling(std::uint64_t cookie, const Ruling& ruling) {
    const std::size_t front = frame_size<ChunkHeader>(negotiated_.checksums);
    const bool refused = !ruling.done.has_value();
    const ErrorBody body{.error = refused ? to_wire_error(ruling.done.error().code) : kEio,
                         .message = ruling.text,
                         .offset = {}};
    auto& bytes = reservation_reply_->bytes;
    const std::size_t state_bytes = front + encoded_bytes(ruling.now);
    bytes.assign(state_bytes + (refused ? front + error_size(body) : 0), std::byte{0});
    const auto state = std::span(bytes).first(state_bytes);
    encode_reservation(state.subspan(front), ruling.now);
    seal_chunk(state,
               {.flags = refused ? std::uint16_t{0} : kReplyFlagDone,
                .type = ChunkType::dst_reservation,
                .cookie = cookie},
               negotiated_.checksums);
    if (refused) {
        const auto error = std::span(bytes).subspan(state.size());
        encode_error(error.subspan(front), body);
        seal_chunk(error, {.flags = kReplyFlagDone, .type = chunk_type(body), .cookie = cookie},
                   negotiated_.checksums);
    }
    reservation_reply_->send(sender_);
}

void ServerSession::pong(std::uint64_t cookie) {
    if (pong_->busy) {
        pong_->owed.push_back(cookie);
        if (pong_->owed.size() > Pong::kOwedMax) close("more pings than the client reads answers");
        return;
    }
    std::size_t size = frame_size<SimpleReplyHeader>(false);
    if (negotiated_.structured_replies) {
        size = frame_size<ChunkHeader>(negotiated_.checksums);
        encode_frame(
            std::span(pong_->bytes).first(size),
            ChunkHeader{.flags = kReplyFlagDone, .type = ChunkType::none, .cookie = cookie},
            negotiated_.checksums);
    } else {
        encode_frame(std::span(pong_->bytes).first(size), SimpleReplyHeader{.cookie = cookie},
                     false);
    }
    pong_->send(size);
}

}  // namespace dst::nbd
