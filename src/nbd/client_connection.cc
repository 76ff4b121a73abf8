#include "nbd/client_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace dst::nbd {

using block::Op;

ClientConnection::ClientConnection(io::World& world, std::unique_ptr<io::Stream> stream,
                                   block::Account& account, block::Buffer quiet)
    : world_(world),
      stream_(std::move(stream)),
      incoming_(account, std::move(quiet)),
      last_received_(world.clock.now()),
      sender_(*stream_) {}

ClientConnection::~ClientConnection() = default;

async::Task<Outcome<>> ClientConnection::handshake(const Wanted& wanted) {
    ClientHandshake handshake(wanted);
    using State = ClientHandshake::State;
    while (true) {
        if (const auto output = handshake.output(); !output.empty()) {
            if (!co_await io::send_all(*stream_, output)) {
                handshake.output_sent();
                handshake.closed_by_peer();
                continue;
            }
            handshake.output_sent();
        }
        if (handshake.state() != State::reading) break;
        const std::size_t used = handshake.feed(incoming_.readable());
        incoming_.consume(used);
        if (used > 0 || !handshake.output().empty() || handshake.state() != State::reading)
            continue;
        if (co_await incoming_.fill(*stream_, incoming_.size() + 1))
            last_received_ = world_.clock.now();
        else
            handshake.closed_by_peer();
    }
    if (handshake.state() == State::failed) {
        may_succeed_later_ = handshake.may_succeed_later();
        if (ended_) co_return refuse(ErrorCode::node_lost, end_reason_);
        co_return std::unexpected(handshake.failure());
    }
    take_facts(handshake.result());
    co_return Outcome<>{};
}

void ClientConnection::take_facts(const ServerFacts& facts) {
    facts_ = facts;
    std::uint32_t in_flight_max = kCallsMax;
    if (facts_.hello && facts_.hello->requests_max > 0)
        in_flight_max = std::min(in_flight_max, facts_.hello->requests_max);
    // Two places more: a server whose disk hangs with all places taken still answers a ping, and
    // speaks of reservations.
    places_ = in_flight_max;
    in_flight_.resize(places_ + 2);
    generations_.resize(places_ + 2);
    for (std::uint32_t at = places_; at > 0; --at) free_indices_.push_back(at - 1);
}

namespace {

/// Why a connection ended, for a person; a literal.
const char* reason_of(const Error& error) {
    switch (error.code) {
        case ErrorCode::cancelled:
            return "the server ended the connection";
        case ErrorCode::node_lost:
            return "the connection broke";
        default:
            return error.what;
    }
}

}  // namespace

async::Task<std::string> ClientConnection::run() {
    running_ = true;
    scope_.spawn(send_all_frames());
    const Result<> received = co_await receive_all();
    had_wrong_checksum_ = !ended_ && is_wrong_checksum(received.error());
    if (!ended_) shutdown(reason_of(received.error()));
    sender_.close();
    co_await scope_.join();
    running_ = false;
    // Calls whose sending failed half-way are the owner's again, like all the others here.
    for (Call* at = calls_.front(); at != nullptr; at = calls_.next(*at))
        at->state_ = Call::State::idle;
    co_return std::string(end_reason_);
}

async::Task<void> ClientConnection::send_all_frames() {
    const Result<> sent = co_await sender_.run();
    if (!sent && !ended_) shutdown(reason_of(sent.error()));
}

void ClientConnection::shutdown(const char* reason) {
    if (ended_) return;
    ended_ = true;
    end_reason_ = reason;
    stream_->shutdown();
}

void ClientConnection::disconnect() {
    CHECK(calls_.empty());
    if (!ended_) scope_.spawn(say_good_bye());
}

async::Task<void> ClientConnection::say_good_bye() {
    struct Disc final : OutgoingFrame {
        std::array<std::byte, frame_size<RequestHeader>(true)> bytes{};
        io::Slice slice;
        explicit Disc(bool checksums) {
            const auto front = std::span(bytes).first(frame_size<RequestHeader>(checksums));
            encode_frame(front, RequestHeader{.type = Command::disconnect}, checksums);
            slice = io::Slice(front);
            set_slices(std::span(&slice, 1));
        }
        void frame_done(bool) override {}
    };
    Disc disc(facts_.checksums);
    sender_.push(disc);
    co_await sender_.drain();
    shutdown("disconnected");
}

void ClientConnection::submit(Call& call) {
    CHECK(call.state_ == Call::State::idle);
    if ((call.is_ping() || call.is_of_reservation()) && !ended_) {
        calls_.push_front(call);
        send(call, call.is_ping() ? places_ : places_ + 1);
        return;
    }
    call.state_ = Call::State::queued;
    if (call.request.extents != nullptr && !call.extents_before_)
        call.extents_before_ = call.request.extents->mark();
    calls_.push_back(call);
    if (first_queued_ == nullptr) first_queued_ = &call;
    if (!ended_) send_more();
}

/// Sends queued calls while there is a free place in the table.
void ClientConnection::send_more() {
    while (first_queued_ != nullptr && !free_indices_.empty() && !ended_) {
        Call& call = *first_queued_;
        first_queued_ = calls_.next(call);
        const std::uint32_t index = free_indices_.back();
        free_indices_.pop_back();
        send(call, index);
    }
}

void ClientConnection::send(Call& call, std::uint32_t index) {
    CHECK(in_flight_[index] == nullptr);
    call.index_ = index;
    in_flight_[index] = &call;
    call.connection_ = this;
    call.state_ = Call::State::sent;
    call.sending_ = true;
    call.answered_ = call.failed_ = false;
    call.received_ = 0;
    call.parts_received_.clear();
    // An answer that was cut off has left its mark.
    if (call.extents_before_) call.request.extents->rewind(*call.extents_before_);
    call.on_send();
    encode(call);
    sender_.push(call);
}

namespace {

Command command_of(Op op) {
    switch (op) {
        case Op::read:
            return Command::read;
        case Op::write:
            return Command::write;
        case Op::flush:
            return Command::flush;
        case Op::trim:
            return Command::trim;
        case Op::write_zeroes:
            return Command::write_zeroes;
        case Op::block_status:
            return Command::block_status;
    }
    return Command::read;
}

}  // namespace

void ClientConnection::encode(Call& call) {
    const block::Request& request = call.request;
    const bool has_payload = call.own == nullptr && request.op == Op::write;
    RequestHeader header{
        .cookie = std::uint64_t{generations_[call.index_]} << 32 | call.index_,
    };
    if (call.own != nullptr) {
        header.type = call.own->command;
        header.flags = call.own->flags;
        header.offset = call.own->offset;
        header.length = call.own->length;
        call.own->reservation.reset();
        call.own->digest.reset();
    } else {
        header.type = command_of(request.op);
        if (request.fua) header.flags |= kCommandFlagFua;
        if (request.no_hole) header.flags |= kCommandFlagNoHole;
        if (request.fast_zero) header.flags |= kCommandFlagFastZero;
        if (request.op != Op::flush) {
            header.offset = to_bytes(request.range.first).value();
            header.length = static_cast<std::uint32_t>(to_bytes(request.range.count).value());
        }
    }
    const auto front = std::span(call.header_).first(frame_size<RequestHeader>(facts_.checksums));
    const bool sum = facts_.checksums && has_payload;
    encode_frame(front, header, facts_.checksums, sum ? crc32c(request.data) : 0);
    call.parts_[0] = io::Slice(front);
    if (has_payload) call.parts_[1] = io::Slice(request.data);
    call.set_slices(std::span(call.parts_).first(has_payload ? 2 : 1));
}

Call* ClientConnection::find(std::uint64_t cookie) {
    const std::uint64_t index = cookie & 0xffffffff;
    if (index >= in_flight_.size() || cookie >> 32 != generations_[index]) return nullptr;
    return in_flight_[index];
}

async::Task<Result<>> ClientConnection::receive_all() {
    const std::size_t chunk_bytes = frame_size<ChunkHeader>(facts_.checksums);
    while (!ended_) {
        // A simple reply is the shortest thing that a server sends.
        const std::size_t least = facts_.checksums ? chunk_bytes : kSimpleReplyHeaderBytes;
        if (incoming_.size() < least) CO_TRY_VOID(co_await incoming_.fill(*stream_, least));
        last_received_ = world_.clock.now();
        if (facts_.checksums) {
            CO_TRY_VOID(co_await receive_chunk());
            continue;
        }
        CO_TRY(const auto kind, reply_kind(incoming_.readable().first<4>()));
        if (kind == ReplyKind::simple)
            CO_TRY_VOID(co_await receive_simple());
        else if (!facts_.structured_replies)
            co_return fail(ErrorCode::corrupt, "a structured reply that was not negotiated");
        else
            CO_TRY_VOID(co_await receive_chunk());
    }
    co_return fail(ErrorCode::cancelled, end_reason_);
}

async::Task<Result<>> ClientConnection::receive_simple() {
    CO_TRY(const auto frame, decode_frame<SimpleReplyHeader>(
                                 incoming_.readable().first(kSimpleReplyHeaderBytes), false));
    incoming_.consume(kSimpleReplyHeaderBytes);
    Call* const call = find(frame.header.cookie);
    if (call == nullptr) co_return fail(ErrorCode::corrupt, "an answer to nothing that was asked");
    if (frame.header.error != 0) {
        call->failed_ = true;
        call->error_ = {from_wire_error(frame.header.error), "the server's error"};
    } else if (call->own == nullptr && call->request.op == Op::read) {
        if (facts_.structured_replies)
            co_return fail(ErrorCode::corrupt,
                           "a simple reply to a read, in spite of structured ones");
        CO_TRY_VOID(co_await incoming_.take(*stream_, call->request.data));
        call->received_ = call->request.data.size();
    }
    answer(*call);
    co_return Result<>{};
}

async::Task<Result<>> ClientConnection::receive_chunk() {
    const std::size_t front = frame_size<ChunkHeader>(facts_.checksums);
    if (incoming_.size() < front) CO_TRY_VOID(co_await incoming_.fill(*stream_, front));
    CO_TRY(const auto frame,
           decode_frame<ChunkHeader>(incoming_.readable().first(front), facts_.checksums));
    CO_TRY_VOID(check_chunk(frame.header));
    incoming_.consume(front);
    Call* const call = find(frame.header.cookie);
    if (call == nullptr) co_return fail(ErrorCode::corrupt, "an answer to nothing that was asked");
    if (frame.header.type == ChunkType::offset_data) {
        CO_TRY_VOID(co_await receive_data(frame.header, frame.payload_crc, *call));
    } else if (frame.header.type == ChunkType::block_status) {
        CO_TRY_VOID(co_await receive_block_status(frame.header, frame.payload_crc, *call));
    } else if (frame.header.length > 0) {
        if (frame.header.length > ReceiveBuffer::kQuietBytes)
            co_return fail(ErrorCode::corrupt, "a chunk that is longer than what was asked for");
        if (incoming_.size() < frame.header.length)
            CO_TRY_VOID(co_await incoming_.fill(*stream_, frame.header.length));
        const auto body = incoming_.readable().first(frame.header.length);
        if (facts_.checksums) CO_TRY_VOID(check_payload(frame.payload_crc, body));
        CO_TRY_VOID(take_short_body(frame.header, body, *call));
        incoming_.consume(frame.header.length);
    }
    if (frame.header.is_last()) answer(*call);
    co_return Result<>{};
}

/// An offset-data chunk: the data goes straight to where the reader wants it.
async::Task<Result<>> ClientConnection::receive_data(const ChunkHeader& header, std::uint32_t crc,
                                                     Call& call) {
    if (call.own != nullptr || call.request.op != Op::read)
        co_return fail(ErrorCode::corrupt, "data that was not asked for");
    if (incoming_.size() < kOffsetBytes)
        CO_TRY_VOID(co_await incoming_.fill(*stream_, kOffsetBytes));
    const auto prefix = incoming_.readable().first(kOffsetBytes);
    const std::uint64_t offset = load_be<std::uint64_t>(prefix.data());
    const std::uint64_t begin = to_bytes(call.request.range.first).value();
    const std::uint64_t length = header.length - kOffsetBytes;
    if (!lies_within(offset, length, begin, call.request.data.size()))
        co_return fail(ErrorCode::corrupt, "data outside of what was asked for");
    const std::uint32_t prefix_crc = facts_.checksums ? crc32c(prefix) : 0;
    incoming_.consume(kOffsetBytes);
    const auto into = call.request.data.subspan(offset - begin, length);
    CO_TRY_VOID(co_await incoming_.take(*stream_, into));
    if (facts_.checksums && crc32c(into, prefix_crc) != crc)
        co_return fail(ErrorCode::corrupt, "checksum of a payload");
    note_received(call, offset - begin, length);
    co_return Result<>{};
}

Result<> ClientConnection::take_short_body(const ChunkHeader& header,
                                           std::span<const std::byte> body, Call& call) {
    if (is_error(header.type)) {
        TRY(const auto error, decode_error(header.type, body));
        if (!call.failed_) call.error_ = {from_wire_error(error.error), "the server's error"};
        if (call.own != nullptr) call.own->text = printable(error.message);
        call.failed_ = true;
        return {};
    }
    if (call.own != nullptr) return take_own_body(header, body, call);
    if (header.type == ChunkType::offset_hole) {
        TRY(const auto hole, decode_hole(body));
        if (call.request.op != Op::read)
            return fail(ErrorCode::corrupt, "data that was not asked for");
        const std::uint64_t begin = to_bytes(call.request.range.first).value();
        if (!lies_within(hole.offset, hole.length, begin, call.request.data.size()))
            return fail(ErrorCode::corrupt, "a hole outside of what was asked for");
        std::memset(call.request.data.data() + (hole.offset - begin), 0, hole.length);
        note_received(call, hole.offset - begin, hole.length);
        return {};
    }
    return fail(ErrorCode::corrupt, "a chunk of unknown type");
}

Result<> ClientConnection::take_own_body(const ChunkHeader& header, std::span<const std::byte> body,
                                         Call& call) {
    if (header.type == ChunkType::dst_reservation && call.is_of_reservation()) {
        TRY(call.own->reservation, decode_reservation(body));
        return {};
    }
    if (header.type == ChunkType::dst_digest && call.own->command == Command::dst_digest) {
        CHECK(body.size() == kDigestBytes);
        std::ranges::copy(body, call.own->digest.emplace().bytes.begin());
        return {};
    }
    return fail(ErrorCode::corrupt, "a chunk that was not asked for");
}

/// The last chunk of an answer is here.
void ClientConnection::answer(Call& call) {
    in_flight_[call.index_] = nullptr;
    ++generations_[call.index_];
    if (call.index_ < places_) free_indices_.push_back(call.index_);
    call.answered_ = true;
    // The kernel may still read from a call that is being sent.
    if (!call.sending_) settle(call);
    send_more();
}

/// Chunks of a read come in order from any server that is known, and then cost nothing here.
void ClientConnection::note_received(Call& call, std::uint64_t offset, std::uint64_t length) {
    if (call.parts_received_.empty() && offset == call.received_) {
        call.received_ += length;
        return;
    }
    if (call.parts_received_.empty() && call.received_ > 0)
        call.parts_received_.emplace_back(0, call.received_);
    call.parts_received_.emplace_back(offset, length);
    call.received_ += length;
}

/// Is all there that was asked for, and nothing twice in place of something else?
Result<> ClientConnection::check_answer(Call& call) {
    if (call.failed_) return std::unexpected(call.error_);
    if (call.own != nullptr) return check_own_answer(*call.own);
    if (call.request.op == Op::block_status &&
        call.request.extents->described() == call.extents_before_->described)
        return fail(ErrorCode::io_error, "the server's answer describes nothing");
    if (call.request.op != Op::read) return {};
    auto& parts = call.parts_received_;
    std::sort(parts.begin(), parts.end());
    std::uint64_t until = parts.empty() ? call.received_ : 0;
    for (const auto& [offset, length] : parts) {
        if (offset != until) break;
        until += length;
    }
    if (until != call.request.data.size() || call.received_ != until)
        return fail(ErrorCode::io_error, "the server's answer has gaps");
    return {};
}

Result<> ClientConnection::check_own_answer(const OwnCommand& own) {
    const bool is_told = own.command == Command::dst_ping     ? true
                         : own.command == Command::dst_digest ? own.digest.has_value()
                                                              : own.reservation.has_value();
    if (!is_told) return fail(ErrorCode::io_error, "the server's answer says nothing");
    return {};
}

void ClientConnection::settle(Call& call) {
    if (call.failed_ && call.error_.code == ErrorCode::shutting_down) {
        // Not an answer: whoever comes after this server will give one.
        shutdown("the server is shutting down");
        return;
    }
    const Result<> result = check_answer(call);
    static_cast<ListHook<CallTag>&>(call).unlink();
    call.state_ = Call::State::idle;
    call.extents_before_.reset();
    call.on_answer(result);
}

void Call::frame_done(bool sent) {
    sending_ = false;
    if (sent && answered_) connection_->settle(*this);
}

}  // namespace dst::nbd
