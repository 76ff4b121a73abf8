#include "nbd/server_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <type_traits>
#include <variant>

#include "base/check.h"
#include "base/log.h"
#include "nbd/server_slot.h"

namespace dst::nbd {

using block::Op;

async::Task<Ruling> Served::claim(Claim) {
    co_return Ruling{.done = fail(ErrorCode::unsupported, "no reservations here")};
}

Ruling Served::release(std::uint64_t) {
    return {.done = fail(ErrorCode::unsupported, "no reservations here")};
}

async::Task<std::expected<ExportInfo, Refusal>> ExportSource::describe(std::string name,
                                                                       ServerSession& session) {
    auto served = co_await select(std::move(name), session);
    if (!served) co_return std::unexpected(std::move(served.error()));
    co_return (*served)->info();
}

ServerSession::ServerSession(io::World& world, std::unique_ptr<io::Stream> stream,
                             ExportSource& source, block::Account& connections, block::Buffer quiet)
    : world_(world),
      stream_(std::move(stream)),
      source_(source),
      incoming_(connections, std::move(quiet)),
      last_received_(world.clock.now()),
      pong_(std::make_unique<Pong>(*this)),
      reservation_reply_(std::make_unique<ReservationReply>()),
      sender_(*stream_) {
    auto stalled = [this] { on_stall(); };
    stall_timer_ = std::make_unique<io::Deadline<decltype(stalled)>>(stalled);
}

ServerSession::~ServerSession() = default;

void ServerSession::end(std::string reason) {
    if (end_reason_.empty()) end_reason_ = std::move(reason);
}

/// The client has begun something and must go on with it.
void ServerSession::expect_within(io::Duration most) {
    stalled_since_ = world_.clock.now();
    stall_max_ = most;
    stall_timer_->arm(world_.clock, stalled_since_ + std::min<io::Duration>(most, kStallCheck));
}

/// It doesn't. That is tolerated for long where it costs nobody anything, and not where others wait
/// for the memory that it has.
void ServerSession::on_stall() {
    const bool hinders = served_ != nullptr && served_->account().has_waiters();
    const io::TimePoint now = world_.clock.now();
    if (hinders || now >= stalled_since_ + stall_max_)
        close("a frame or a handshake that has begun does not go on");
    else
        stall_timer_->arm(world_.clock, std::min(now + kStallCheck, stalled_since_ + stall_max_));
}

void ServerSession::close(const char* reason) {
    end(reason);
    closing_ = true;
    stream_->shutdown();
    if (served_ != nullptr) served_->has_calmed();
}

io::TimePoint ServerSession::last_heard() const {
    return is_connected() && stream_->readable() > 0 ? world_.clock.now() : last_received_;
}

void ServerSession::finish(const char* reason) {
    end(reason);
    if (requests_scope_.empty() && !sender_.busy()) {
        close(reason);
        return;
    }
    if (finishing_) return;
    finishing_ = true;
    sender_scope_.spawn(close_when_answered(reason));
}

/// Ends the connection once the answers of all that is in flight have gone out.
async::Task<void> ServerSession::close_when_answered(const char* reason) {
    co_await requests_scope_.join();
    co_await sender_.drain();
    close(reason);
}

async::Task<void> ServerSession::run() {
    expect_within(kHandshakeMax);
    const bool agreed = co_await handshake();
    stall_timer_->disarm();
    if (agreed && !closing_) {
        sender_scope_.spawn(send_all_frames());
        const Result<> done = co_await transmit();
        stall_timer_->disarm();
        has_ended_ = true;
        served_->has_calmed();
        if (!done && is_wrong_checksum(done.error())) served_->has_wrong_checksum();
        if (!done)
            end(done.error().code == ErrorCode::cancelled ? "the client went away"
                                                          : done.error().what);
        co_await requests_scope_.join();
        sender_.close();
        co_await sender_scope_.join();
    }
    has_ended_ = true;
    stream_->shutdown();
    served_.reset();
}

async::Task<void> ServerSession::send_all_frames() {
    const Result<> sent = co_await sender_.run();
    if (!sent) close(sent.error().what);
}

async::Task<bool> ServerSession::handshake() {
    ServerHandshake handshake;
    using State = ServerHandshake::State;
    while (true) {
        if (!handshake.output().empty()) {
            if (!co_await io::send_all(*stream_, handshake.output())) {
                end("the connection broke in the handshake");
                co_return false;
            }
            handshake.output_sent();
            continue;
        }
        if (handshake.state() == State::done) break;
        if (handshake.state() == State::closed) {
            end(handshake.close_reason());
            co_return false;
        }
        if (handshake.state() == State::asks) {
            co_await answer_question(handshake);
            if (closing_) co_return false;
            continue;
        }
        const std::size_t used = handshake.feed(incoming_.readable());
        incoming_.consume(used);
        if (used > 0 || !handshake.output().empty() || handshake.state() != State::reading)
            continue;
        if (!co_await incoming_.fill(*stream_, incoming_.size() + 1)) {
            end("the client went away in the handshake");
            co_return false;
        }
        last_received_ = world_.clock.now();
    }
    negotiated_ = handshake.result();
    if (!served_) {
        end("the handshake ended without an export");
        co_return false;
    }
    co_return true;
}

async::Task<void> ServerSession::answer_question(ServerHandshake& handshake) {
    // What is asked may take as long as a storage takes to form: not the client's fault.
    stall_timer_->disarm();
    const auto* select = std::get_if<SelectExport>(&handshake.question());
    if (std::holds_alternative<ListExports>(handshake.question())) {
        const auto listings = source_.list(peer());
        handshake.answer(listings);
    } else if (const auto* hello = std::get_if<Hello>(&handshake.question())) {
        const auto answer = co_await source_.hello(*hello, *this);
        if (answer) {
            checksums_agreed_ = answer->checksums && hello->wants_checksums;
            handshake.answer(*answer);
        } else {
            handshake.answer(answer.error());
        }
    } else if (select->purpose == SelectExport::Purpose::info ||
               select->purpose == SelectExport::Purpose::meta) {
        const auto described = co_await source_.describe(select->name, *this);
        if (described)
            handshake.answer(shown(*described));
        else
            handshake.answer(described.error());
    } else {
        auto served = co_await source_.select(select->name, *this);
        if (!served) {
            handshake.answer(served.error());
        } else {
            const ExportInfo info = shown((*served)->info());
            limits_ = {.size = info.size,
                       .flags = info.flags,
                       .block_bytes = info.block_min,
                       .payload_bytes_max = info.payload_max};
            served_ = std::move(*served);
            handshake.answer(info);
        }
    }
    expect_within(kHandshakeMax);
}

/// As this client is told of it.
ExportInfo ServerSession::shown(ExportInfo info) const {
    // In checksummed framing a frame is executed only when all of it has proved right, so all of it
    // must fit a buffer (docs/protocol.md).
    if (checksums_agreed_) info.payload_max = std::min(info.payload_max, block::kPayloadMaxBytes);
    return info;
}

async::Task<Result<>> ServerSession::fill(std::size_t bytes) {
    if (incoming_.size() >= bytes) co_return Result<>{};
    // Between frames a client may be quiet for as long as it likes.
    if (incoming_.size() > 0) expect_within(kStallMax);
    const auto filled = co_await gather(bytes);
    last_received_ = world_.clock.now();
    stall_timer_->disarm();
    co_return filled;
}

/// Receives until `bytes` are there; after a pause, where the client has other things to do.
async::Task<Result<>> ServerSession::gather(std::size_t bytes) {
    // What waits for a disk or a peer shall have company soon.
    if (!requests_scope_.empty()) co_return co_await incoming_.fill(*stream_, bytes);
    const Gathering::Pause pause = gathering_.next(world_.clock.now(), requests_);
    if (pause.in_halves) {
        const std::size_t before = stream_->readable();
        co_await io::sleep_for(world_.clock, pause.length / 2);
        const std::size_t half = stream_->readable();
        co_await io::sleep_for(world_.clock, pause.length / 2);
        gathering_.looked(before, half, stream_->readable());
        co_return co_await incoming_.fill(*stream_, bytes);
    }
    if (pause.length > io::Duration::zero()) {
        co_await io::sleep_for(world_.clock, pause.length);
        co_return co_await incoming_.fill(*stream_, bytes);
    }
    const io::TimePoint begun = world_.clock.now();
    const auto filled = co_await incoming_.fill(*stream_, bytes);
    gathering_.received(world_.clock.now() - begun);
    co_return filled;
}

async::Task<Result<>> ServerSession::transmit() {
    limits_.flags = negotiated_.flags;
    limits_.base_allocation = negotiated_.base_allocation;
    limits_.hello = negotiated_.hello.has_value();
    // They are answered in chunks.
    limits_.reservations = negotiated_.reservations && negotiated_.structured_replies;
    limits_.digests = negotiated_.digests && negotiated_.structured_replies;
    while (!closing_ && !finishing_) CO_TRY_VOID(co_await next_request());
    co_return Result<>{};
}

async::Task<Result<>> ServerSession::next_request() {
    const std::size_t front = frame_size<RequestHeader>(negotiated_.checksums);
    if (incoming_.size() < front) CO_TRY_VOID(co_await fill(front));
    if (closing_ || finishing_) co_return Result<>{};
    CO_TRY(const auto frame,
           decode_frame<RequestHeader>(incoming_.readable().first(front), negotiated_.checksums));
    incoming_.consume(front);
    const Verdict verdict = validate(frame.header, limits_);
    if (verdict.payload_bytes == 0 && frame.payload_crc != 0)
        co_return fail(ErrorCode::corrupt, "checksum of a payload that is not there");
    switch (verdict.action) {
        case Verdict::Action::execute:
            break;
        case Verdict::Action::refuse: {
            Slot& slot = *co_await free_slot();
            slot.cookie = frame.header.cookie;
            CO_TRY_VOID(co_await incoming_.skip(*stream_, verdict.payload_bytes));
            reply_error(slot, verdict.error);
            co_return Result<>{};
        }
        case Verdict::Action::disconnect:
            co_return fail(ErrorCode::cancelled, "the client is done");
        case Verdict::Action::close:
            co_return std::unexpected(verdict.error);
    }
    ++requests_;
    co_return co_await dispatch(verdict, frame.payload_crc);
}

async::Task<Result<>> ServerSession::dispatch(const Verdict& verdict, std::uint32_t payload_crc) {
    const ValidRequest& asked = verdict.request;
    if (asked.command == Command::dst_ping) {
        pong(asked.cookie);
        co_return Result<>{};
    }
    if (asked.command == Command::dst_reservation || asked.command == Command::dst_claim ||
        asked.command == Command::dst_release) {
        co_await reservation_reply_->turn.acquire();
        requests_scope_.spawn(serve_reservation(asked));
        co_return Result<>{};
    }
    if (asked.command == Command::write) co_return co_await receive_write(asked, payload_crc);

    Slot& slot = *co_await free_slot();
    slot.take(asked);
    switch (asked.command) {
        case Command::read:
        case Command::dst_digest:
            if (asked.length.value() > block::kPayloadMaxBytes) {
                requests_scope_.spawn(serve_long_read(slot));
                break;
            }
            slot.buffer = co_await allocate(asked.length.value());
            if (!slot.buffer) co_return no_memory(slot);
            slot.counts_as_held = true;
            slot.request.data = slot.buffer.bytes().first(asked.length.value());
            requests_scope_.spawn(asked.command == Command::read ? serve(slot)
                                                                 : serve_digest(slot));
            break;
        case Command::block_status:
            requests_scope_.spawn(serve_block_status(slot));
            break;
        case Command::cache:
            reply_nothing(slot);
            break;  // advice; the far cache knows better
        default:
            requests_scope_.spawn(serve(slot));
            break;
    }
    co_return Result<>{};
}

async::Task<Result<>> ServerSession::receive_write(const ValidRequest& asked,
                                                   std::uint32_t payload_crc) {
    if (asked.length.value() > block::kPayloadMaxBytes)
        co_return co_await receive_long_write(asked);
    // Whoever sends a header alone gets no memory for it.
    const std::size_t begun = std::min<std::uint64_t>(asked.length.value(), kBegunBytes);
    if (incoming_.size() < begun) {
        expect_within(kStallMax);
        const auto filled = co_await incoming_.fill(*stream_, begun);
        last_received_ = world_.clock.now();
        stall_timer_->disarm();
        CO_TRY_VOID(filled);
    }
    Slot& slot = *co_await free_slot();
    slot.take(asked);
    slot.buffer = co_await allocate(asked.length.value());
    if (!slot.buffer) co_return no_memory(slot);
    slot.counts_as_held = true;
    slot.request.data = slot.buffer.bytes().first(asked.length.value());
    slot.request.buffer = &slot.buffer;
    if (incoming_.size() >= asked.length.value()) {
        incoming_.take_readable(slot.request.data);
    } else if (const auto taken = co_await take_payload(slot.request.data); !taken) {
        release(slot);
        co_return taken;
    }
    if (negotiated_.checksums) {
        if (const auto right = check_payload(payload_crc, slot.request.data); !right) {
            release(slot);
            co_return right;
        }
    }
    requests_scope_.spawn(serve(slot));
    co_return Result<>{};
}

async::Task<Result<>> ServerSession::take_payload(std::span<std::byte> into) {
    expect_within(kStallMax);
    const auto taken = co_await incoming_.take(*stream_, into);
    last_received_ = world_.clock.now();
    stall_timer_->disarm();
    co_return taken;
}

/// A write that is longer than a buffer is executed piece by piece as it comes in.
struct ServerSession::LongWrite {
    Slot& slot;
    std::uint64_t pieces_left;
    Result<> result;
};

async::Task<Result<>> ServerSession::receive_long_write(const ValidRequest& asked) {
    Slot& slot = *co_await free_slot();
    slot.take(asked);
    const std::uint64_t length = asked.length.value();
    const auto all = std::make_shared<LongWrite>(
        slot, (length + block::kPayloadMaxBytes - 1) / block::kPayloadMaxBytes, Result<>{});
    for (std::uint64_t at = 0; at < length; at += block::kPayloadMaxBytes) {
        const std::uint64_t piece = std::min<std::uint64_t>(length - at, block::kPayloadMaxBytes);
        block::Buffer buffer = co_await served_->account().allocate(piece);
        if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
        const auto taken = co_await take_payload(buffer.bytes().first(piece));
        // The slot stays taken: pieces in flight still speak of it, and the connection ends.
        if (!taken) co_return taken;
        block::Request request = slot.request;
        request.range = {slot.request.range.first + sectors_floor(ByteCount(at)),
                         sectors_floor(ByteCount(piece))};
        requests_scope_.spawn(serve_piece(all, request, std::move(buffer)));
    }
    co_return Result<>{};
}

async::Task<void> ServerSession::serve_piece(std::shared_ptr<LongWrite> all, block::Request request,
                                             block::Buffer buffer) {
    request.data = buffer.bytes().first(to_bytes(request.range.count).value());
    request.buffer = &buffer;
    const ChangeInFlight in_flight(*this, request.op);
    const io::TimePoint asked_at = world_.clock.turn_time();
    const Result<> done = co_await execute(request);
    note(request, done, asked_at);
    if (!done && all->result) all->result = done;
    if (--all->pieces_left > 0) co_return;
    if (may_answer(all->result))
        reply(all->slot, all->result);
    else
        release(all->slot);
}

async::Task<ServerSession::Slot*> ServerSession::free_slot() {
    while (free_slots_.empty()) {
        if (slots_.size() < kRequestsMax) {
            slots_.push_back(std::make_unique<Slot>(*this));
            co_return slots_.back().get();
        }
        co_await slot_freed_.wait();
    }
    Slot* const slot = free_slots_.back();
    free_slots_.pop_back();
    co_return slot;
}

/// Payload memory. A session may hold as much as would be left for the others of its export, so a
/// client that doesn't read its replies hinders itself first.
async::Task<block::Buffer> ServerSession::allocate(std::uint64_t bytes) {
    block::Account& account = served_->account();
    while (bytes_held_ > 0 && bytes_held_ + bytes > account.bytes_available())
        co_await slot_freed_.wait();
    block::Buffer buffer = co_await account.allocate(bytes);
    if (buffer) bytes_held_ += buffer.bytes().size();
    co_return buffer;
}

/// Memory is given up only when the server goes away: the connection ends.
Result<> ServerSession::no_memory(Slot& slot) {
    release(slot);
    return fail(ErrorCode::no_memory, "memory is given up");
}

void ServerSession::release(Slot& slot) {
    if (slot.counts_as_held) bytes_held_ -= slot.buffer.bytes().size();
    slot.clear();
    free_slots_.push_back(&slot);
    slot_freed_.wake_one();
}

/// The one way to the device. Of a session that was closed nothing gets there any more: a newer one
/// may be answered as soon as what is there already is done.
async::Task<Result<>> ServerSession::execute(block::Request& request) {
    if (closing_) return refuse({ErrorCode::cancelled, "the session was closed"});
    if (block::is_change(request.op))
        if (const Result<> may = served_->may_change(); !may) return refuse(may.error());
    return served_->device().execute(request);
}

void ServerSession::note(const block::Request& request, const Result<>& done,
                         io::TimePoint asked_at) {
    if (block::Measures* const measures = served_->measures(); measures != nullptr)
        measures->note(request, done, world_.clock.turn_time() - asked_at);
}

async::Task<Result<>> ServerSession::refuse(Error error) { co_return std::unexpected(error); }

/// What a device that has lost changes says is not for this client's ears: he connects anew, is
/// told of another instance, and writes again what he has kept. An error is the truth all the same.
bool ServerSession::may_answer(const Result<>& done) {
    if (served_->is_current()) return true;
    finish("the device has lost changes: a flush failed");
    return !done;
}

async::Task<void> ServerSession::serve(Slot& slot) {
    const ChangeInFlight in_flight(*this, slot.request.op);
    const io::TimePoint asked_at = world_.clock.turn_time();
    const Result<> done = co_await execute(slot.request);
    note(slot.request, done, asked_at);
    if (may_answer(done))
        reply(slot, done);
    else
        release(slot);
}

async::Task<void> ServerSession::serve_digest(Slot& slot) {
    const Result<> done = co_await execute(slot.request);
    if (!may_answer(done))
        release(slot);
    else if (done)
        reply_digest(slot);
    else
        reply_error(slot, done.error());
}

async::Task<void> ServerSession::serve_reservation(ValidRequest asked) {
    Ruling ruling{.now = served_->reservation()};
    if (asked.command == Command::dst_claim)
        ruling =
            co_await served_->claim({.expected = asked.offset.value(),
                                     .takeover = std::chrono::milliseconds(asked.length.value()),
                                     .force = asked.force});
    else if (asked.command == Command::dst_release)
        ruling = served_->release(asked.offset.value());
    reply_ruling(asked.cookie, ruling);
}

}  // namespace dst::nbd
