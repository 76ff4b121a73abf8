// Remote: requests, from their call to their answer.
#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "node/remote_call.h"

namespace dst::node {

using block::Op;
using block::Request;

namespace {

/// What a change without data costs in the window: about what is kept of it.
constexpr std::uint64_t kChangeOverheadBytes = 512;
/// The longest range of one command, in sectors: below 2^32 bytes, and a multiple of any block.
constexpr SectorCount kRangeMax{(1ULL << 30) >> kSectorShift};

/// Written where a peer can't zero by itself. Never written to.
alignas(4096) constinit std::byte zeroes[block::kPayloadMaxBytes]{};

}  // namespace

// No coroutine itself: it only says which one it is, so that a request's frame is that one alone.
async::Task<Result<>> Remote::execute(Request& request) {
    if (request.op == Op::flush) return flush(history_, request.if_connected);
    const SectorCount most =
        request.data.empty() ? kRangeMax : sectors_floor(ByteCount(payload_max_));
    if (request.range.count > most) return execute_long(request, most);
    return execute_part(request);
}

/// For a peer that takes less at a time.
async::Task<Result<>> Remote::execute_long(Request& request, SectorCount most) {
    for (SectorIndex at = request.range.first; at < request.range.end(); at = at + most) {
        const SectorCount count = std::min(most, request.range.end() - at);
        Request part = block::part_of(request, {at, count});
        const SectorCount before =
            part.extents != nullptr ? part.extents->described() : SectorCount();
        CO_TRY_VOID(co_await execute_part(part));
        if (part.extents != nullptr && part.extents->described() - before < count) break;
    }
    co_return Result<>{};
}

async::Task<Result<>> Remote::execute_part(Request& request) {
    switch (request.op) {
        case Op::read:
            return ask(request);
        case Op::block_status:
            return base_allocation_ ? ask(request) : describe_all(request);
        case Op::trim:
            return has_flag(nbd::kFlagSendTrim) ? execute_change(request) : ignore();
        case Op::write_zeroes:
            return execute_zeroes(request);
        default:
            return execute_change(request);
    }
}

/// Of a peer that tells nothing: all of it is data.
async::Task<Result<>> Remote::describe_all(Request& request) {
    request.extents->add({.count = request.range.count});
    co_return Result<>{};
}

/// Advice that the peer can't use.
async::Task<Result<>> Remote::ignore() { co_return Result<>{}; }

/// A read, or block status.
async::Task<Result<>> Remote::ask(const Request& request) {
    PlainCall call(*this);
    call.request = request;
    submit(call);
    Result<> done = co_await call.wait();
    if (done && unwritable_ > 0) {
        // An acknowledged change could not be written again: better no answer than an old one.
        if (const Change* const lost = unwritable_in(request.range))
            done = std::unexpected(lost->replay_error);
    }
    co_return done;
}

async::Task<Result<>> Remote::execute_zeroes(const Request& request) {
    const bool has_zeroes = has_flag(nbd::kFlagSendWriteZeroes);
    if (request.fast_zero && !(has_zeroes && has_flag(nbd::kFlagSendFastZero)))
        co_return fail(ErrorCode::unsupported, "the peer can't zero fast");
    if (has_zeroes) co_return co_await execute_change(request);
    const SectorCount most =
        sectors_floor(ByteCount(std::min<std::uint64_t>(payload_max_, sizeof zeroes)));
    for (SectorIndex at = request.range.first; at < request.range.end(); at = at + most) {
        Request part = request;
        part.op = Op::write;
        part.no_hole = false;
        part.range = {at, std::min(most, request.range.end() - at)};
        part.data = std::span(zeroes).first(to_bytes(part.range.count).value());
        CO_TRY_VOID(co_await execute_change(part));
    }
    co_return Result<>{};
}

async::Task<Result<>> Remote::execute_change(const Request& request) {
    const std::uint64_t history = history_;
    const std::uint64_t cost = request.data.size() + kChangeOverheadBytes;
    CO_TRY_VOID(co_await room_in_window(cost, request.if_connected));
    Change& change = new_change();
    change.cost = cost;
    change.request = request;
    const bool emulate_fua = request.fua && !has_flag(nbd::kFlagSendFua);
    if (emulate_fua) change.request.fua = false;
    if (request.buffer != nullptr) {
        change.buffer = *request.buffer;
        change.request.buffer = &change.buffer;
    }
    change.is_awaited = true;
    submit(change);
    const Result<> done = co_await change.wait();
    change.is_awaited = false;
    if (!done) leave_window(change);
    // Answered well, it may have become durable and left the window before it came to this.
    else if (!static_cast<ListHook<WindowTag>&>(change).is_linked())
        recycle(change);
    if (done && emulate_fua) co_return co_await flush(history, request.if_connected);
    co_return done;
}

/// Sends, or queues until there is a link. Ends by `answered`, or by hold.
void Remote::submit(Pending& call) {
    call.since = world_.clock.now();
    if (stopping_) {
        call.finish(fail(ErrorCode::cancelled, "the node is stopped"));
        return;
    }
    if (is_ready()) {
        connection_->submit(call);
        return;
    }
    if (!fenced_.empty()) {
        call.finish(fail(ErrorCode::io_error, "the node is fenced"));
        return;
    }
    if (call.request.if_connected) {
        call.finish(std::unexpected(kNoLink));
        return;
    }
    waiting_.push_back(call);
    ++waiting_count_;
    arm_hold();
}

void Remote::answered(Pending& call, Result<> answer) {
    auto* const change = block::is_change(call.request.op) ? static_cast<Change*>(&call) : nullptr;
    if (change != nullptr && change->is_replay) {
        replayed(*change, answer);
        return;
    }
    if (change != nullptr && answer) keep(*change);
    if (call.own == nullptr) {
        const io::TimePoint now = world_.clock.turn_time();
        measures_.requests.note(call.request, answer, now - call.since);
        measures_.wire[call.request.op].add(now - call.sent_at);
    }
    call.finish(answer);
}

/// One at a time: of two in flight, the one that succeeds would hide the one that failed. Who
/// waited while another covered what it asks for is done.
/// `history`: the one that what it shall cover belongs to. Of what was dropped it can't speak well.
async::Task<Result<>> Remote::flush(std::uint64_t history, bool if_connected) {
    const std::uint64_t wanted = answer_sequence_;
    const bool waits = flush_turn_.available() == 0;
    co_await flush_turn_.acquire();
    struct Turn {
        async::Semaphore& turn;
        ~Turn() { turn.release(); }
    } const release_turn{flush_turn_};
    if (history != history_) co_return std::unexpected(history_ended_);
    if (waits && covered_ >= wanted && wanted > 0) co_return Result<>{};
    co_return co_await flush_now(history, if_connected);
}

async::Task<Result<>> Remote::flush_now(std::uint64_t history, bool if_connected) {
    if (!fenced_.empty()) co_return fail(ErrorCode::io_error, "the node is fenced");
    if (stopping_ && link_ != LinkState::ready)
        co_return fail(ErrorCode::cancelled, "the node is stopped");
    if (geometry_.size.value() > 0 && !has_flag(nbd::kFlagSendFlush)) {
        // Nothing can be made durable there; `status` calls the node volatile. While the link is
        // away what is kept may still be replayed.
        if (link_ == LinkState::ready) forget_until(answer_sequence_);
        co_return Result<>{};
    }
    FlushCall call(*this);
    call.request.op = Op::flush;
    call.request.if_connected = if_connected;
    submit(call);
    const Result<> done = co_await call.wait();
    if (history != history_) co_return std::unexpected(history_ended_);
    if (done && unwritable_ == 0) {
        flush_error_.reset();
        forget_until(call.covers);
        covered_ = call.covers;
        co_return done;
    }
    const Error error =
        done ? Error{ErrorCode::io_error, "a change could not be written again"} : done.error();
    const bool is_answer = error.code != ErrorCode::cancelled &&
                           error.code != ErrorCode::timed_out &&
                           error.code != ErrorCode::node_lost && !call.held_out;
    if (!is_answer) co_return std::unexpected(error);  // the peer has said nothing
    // The peer may have forgotten what it could not make durable (design §4): everything unflushed
    // is written again, before any other flush may succeed. The way to that is a new connection.
    flush_error_ = error;
    replay_wanted_ = true;
    window_room_.wake_all();
    if (connection_ && link_ == LinkState::ready)
        connection_->shutdown("a flush failed: all that is not durable is written again");
    co_return std::unexpected(error);
}

void Remote::arm_hold() {
    if (!settings_.hold || waiting_.empty() || hold_timer_->is_armed()) return;
    io::TimePoint first = io::TimePoint::max();
    for (nbd::Call* at = waiting_.front(); at != nullptr; at = waiting_.next(*at))
        if (!at->request.is_patient)
            first = std::min(first, static_cast<Pending*>(at)->since + *settings_.hold);
    if (first != io::TimePoint::max()) hold_timer_->arm(world_.clock, first);
}

/// Nothing could answer for as long as the administrator wants anybody to wait.
void Remote::hold_is_over() {
    const io::TimePoint now = world_.clock.now();
    std::size_t failed = 0;
    for (nbd::Call* at = waiting_.front(); at != nullptr;) {
        nbd::Call* const next = waiting_.next(*at);
        auto& call = static_cast<Pending&>(*at);
        if (!call.request.is_patient && call.since + *settings_.hold <= now) {
            static_cast<ListHook<nbd::CallTag>&>(call).unlink();
            --waiting_count_;
            ++failed;
            call.held_out = true;
            call.finish(fail(ErrorCode::io_error, "held for too long"));
        }
        at = next;
    }
    if (failed > 0)
        log::warning("{}: {} requests failed: held for too long ({})", name_, failed, reason_);
    arm_hold();
}

}  // namespace dst::node
