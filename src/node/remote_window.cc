// Remote: the replay window: what is kept until it is durable on the peer, and how much of it.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "node/covered.h"
#include "node/remote_call.h"

namespace dst::node {
namespace {

/// What lies in the window is flushed so long after it came there, if nobody does.
constexpr std::chrono::seconds kSettleAfter{5};

}  // namespace

/// Waits until the window has room for `bytes` more. The node flushes by itself when it is half
/// full, so in a steady stream of writes nobody waits here.
async::Task<Result<>> Remote::room_in_window(std::uint64_t bytes, bool if_connected) {
    const std::uint64_t most = settings_.replay_window.value();
    const std::uint64_t history = history_;
    const io::TimePoint asked = world_.clock.now();
    while (window_bytes_ + bytes > most && window_bytes_ > 0) {
        if (history != history_) co_return std::unexpected(history_ended_);
        if (stopping_) co_return fail(ErrorCode::cancelled, "the node is stopped");
        if (if_connected && !is_ready()) co_return std::unexpected(kNoLink);
        if (flush_error_) co_return std::unexpected(*flush_error_);
        reclaim();  // may make room on the spot
        if (window_bytes_ + bytes <= most || window_bytes_ == 0) break;
        if (!settings_.hold || link_ == LinkState::ready) {
            co_await window_room_.wait();
            continue;
        }
        // Counts from when nobody could answer: a slow flush before that is no reason to fail.
        const io::TimePoint held_out = std::max(asked, away_since_) + *settings_.hold;
        if (world_.clock.now() >= held_out)
            co_return fail(ErrorCode::io_error, "held for too long");
        co_await io::wait_until(world_.clock, window_room_, held_out);
    }
    if (history != history_) co_return std::unexpected(history_ended_);
    if (stopping_) co_return fail(ErrorCode::cancelled, "the node is stopped");
    window_bytes_ += bytes;
    if (window_bytes_ > most / 2) reclaim();
    co_return Result<>{};
}

Remote::Change& Remote::new_change() {
    if (free_changes_.empty()) {
        changes_.push_back(std::make_unique<Change>(*this));
        free_changes_.reserve(changes_.size());
        return *changes_.back();
    }
    Change& change = *free_changes_.back();
    free_changes_.pop_back();
    return change;
}

/// The change is durable, or failed, or is dropped: it costs nothing any more.
void Remote::leave_window(Change& change) {
    CHECK(!change.is_submitted());
    static_cast<ListHook<WindowTag>&>(change).unlink();
    window_bytes_ -= change.cost;
    if (change.is_unwritable) --unwritable_;
    change.is_unwritable = false;
    change.buffer = {};
    window_room_.wake_all();
    if (!change.is_awaited) recycle(change);
}

void Remote::recycle(Change& change) {
    change.request = {};
    change.is_done = change.is_replay = false;
    change.failed_replays = 0;
    free_changes_.push_back(&change);
}

/// The peer has it, and may lose it again until a flush.
void Remote::keep(Change& change) {
    change.sequence = ++answer_sequence_;
    change.request.fast_zero = false;  // written again it may be slow
    if (unwritable_ > 0) {
        // Written over as a whole, what could not be written again is not missed any more.
        for (Change* at = window_.front(); at != nullptr;) {
            Change* const next = window_.next(*at);
            if (at->is_unwritable && change.request.range.contains(at->request.range))
                leave_window(*at);
            at = next;
        }
    }
    const SectorRange range = change.request.range;
    if (window_.empty()) window_hull_ = {range.first, SectorCount()};
    // Durable, and nothing that would be written again lies there. The metadata of a node that is
    // away would keep what that of the others needs.
    if (change.request.fua && change.request.is_metadata && !window_hull_.overlaps(range)) {
        leave_window(change);
        return;
    }
    const SectorIndex first = std::min(window_hull_.first, range.first);
    window_hull_ = {first, std::max(window_hull_.end(), range.end()) - first};
    window_.push_back(change);
    if (!settle_timer_->is_armed())
        settle_timer_->arm(world_.clock, world_.clock.now() + kSettleAfter);
    const bool is_half_full = window_bytes_ > settings_.replay_window.value() / 2;
    if (is_half_full || !window_room_.empty() || pool_.has_waiters()) reclaim();
}

void Remote::forget_until(std::uint64_t sequence) {
    while (Change* const first = window_.front()) {
        if (first->sequence > sequence) break;
        leave_window(*first);
    }
}

void Remote::reclaim() {
    if (window_.empty() || flushing_by_itself_ || link_ != LinkState::ready || stopping_) return;
    flushing_by_itself_ = true;
    scope_.spawn(flush_by_itself());
}

async::Task<void> Remote::flush_by_itself() {
    const std::uint64_t history = history_;
    const std::uint64_t before = answer_sequence_;
    const Result<> done = co_await flush(history, false);
    flushing_by_itself_ = false;
    if (!done && done.error().code != ErrorCode::cancelled && history == history_)
        log::warning("{}: flushing failed ({}): changes are kept and written again", name_,
                     to_string(done.error().code));
    window_room_.wake_all();
    // What was answered meanwhile is kept still, and could not ask for another one.
    if (done && answer_sequence_ != before && pool_.has_waiters()) reclaim();
}

/// What lies in the window becomes durable some time, even if nobody flushes.
void Remote::settle() {
    reclaim();
    if (!window_.empty() && !stopping_)
        settle_timer_->arm(world_.clock, world_.clock.now() + kSettleAfter);
}

/// Leaves of each change only what no later one has written over; so a replay writes each sector
/// once, and its order is of no matter. Written one after the other, older ones would for a moment
/// undo what is durable already (a change with FUA that came after them), and a head that dies in
/// that moment would lose it.
void Remote::cut_window() {
    std::vector<Change*> changes;
    for (Change* at = window_.front(); at != nullptr; at = window_.next(*at)) changes.push_back(at);
    Covered covered;
    for (auto at = changes.rbegin(); at != changes.rend(); ++at) {
        Change& change = **at;
        const SectorRange whole = change.request.range;
        const std::vector<SectorRange> left = covered.gaps(whole);
        covered.add(whole);
        if (left.empty()) {
            leave_window(change);
            continue;
        }
        for (std::size_t part = 1; part < left.size(); ++part) split_off(change, left[part]);
        change.request = block::part_of(change.request, left.front());
    }
}

/// Keeps `range` of the change as one of its own, right behind it.
void Remote::split_off(Change& change, SectorRange range) {
    Change& part = new_change();
    part.request = block::part_of(change.request, range);
    part.buffer = change.buffer;
    if (part.request.buffer != nullptr) part.request.buffer = &part.buffer;
    part.cost = 0;  // the whole has paid for it
    part.sequence = change.sequence;
    part.is_unwritable = change.is_unwritable;
    part.replay_error = change.replay_error;
    if (part.is_unwritable) ++unwritable_;
    if (Change* const next = window_.next(change))
        window_.insert_before(*next, part);
    else
        window_.push_back(part);
}

const Remote::Change* Remote::unwritable_in(SectorRange range) {
    for (Change* at = window_.front(); at != nullptr; at = window_.next(*at))
        if (at->is_unwritable && at->request.range.overlaps(range)) return at;
    return nullptr;
}

}  // namespace dst::node
