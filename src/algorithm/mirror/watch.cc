#include "algorithm/mirror/watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/log.h"

namespace dst::mirror {
namespace {

using namespace std::chrono_literals;

/// How exact all of this is, while there is something to look at.
constexpr io::Duration kTick = 100ms;
/// The latest look was so long ago: this was asleep, or was not running.
constexpr io::Duration kLate = 1s;
/// What was changed and is not durable is flushed after this time, if nobody does: else its regions
/// would have to be copied after a crash.
constexpr io::Duration kFlushAfter = 2s;

double seconds(io::Duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

async::Task<void> Watch::run() {
    while (!core_.is_over()) {
        // Reads have begun since then that were given its time, and answers are not read yet.
        const io::TimePoint before = core_.deliveries.now();
        core_.deliveries.tick();
        if (core_.deliveries.now() - before > kLate)
            for (const auto& node : core_.nodes) node->reads_wait_since = core_.deliveries.now();
        const bool is_busy = look_at_all();
        look_for_fence();
        if (core_.is_over()) break;
        if (is_busy) {
            co_await io::sleep_for(core_.world.clock, kTick);
            // Whoever waits for time to pass (a lease) looks again.
            core_.progress.wake_all();
        } else {
            core_.watch_sleeps = true;
            co_await core_.progress.wait();
            core_.watch_sleeps = false;
        }
    }
    // Nobody waits for what will never be.
    core_.progress.wake_all();
    core_.deliveries.wake_all();
}

/// True if there is something that only time may change.
bool Watch::look_at_all() {
    bool is_busy = lease_.waiting() > 0;
    for (const auto& node : core_.nodes) {
        look_at(*node);
        is_busy |= node->silent_since && (node->is_attached() || node->is_joining());
        is_busy |= node->state == NodeState::away && node->is_connected();
        is_busy |= node->in_flight > 0;  // it may fall silent, and nobody tells of that
        is_busy |= node->pages != nullptr && node->pages->busy_since();
        is_busy |= node->superblock != nullptr && node->superblock->busy_since();
    }
    is_busy |= look_for_slow_ones();
    is_busy |= flushes_.clear_intents();
    if (core_.regions->unsettled().any()) {
        is_busy = true;
        if (flush_at_ == io::TimePoint::max()) flush_at_ = core_.deliveries.now() + kFlushAfter;
        if (core_.deliveries.now() >= flush_at_ && !is_flushing_) {
            is_flushing_ = true;
            core_.scope.spawn(flush_some_time());
        }
    } else {
        flush_at_ = io::TimePoint::max();
    }
    return is_busy;
}

async::Task<void> Watch::flush_some_time() {
    static_cast<void>(co_await flushes_.flush());  // nobody asked; who does gets the error
    is_flushing_ = false;
    flush_at_ = io::TimePoint::max();
}

void Watch::look_at(Node& node) {
    // From when it was asked, not from when that was noticed: writes wait for `grace` in all.
    const auto silent_since = node.backing != nullptr ? node.backing->silent_since() : std::nullopt;
    if (node.is_connected())
        node.silent_since = silent_since;
    else if (!node.silent_since)
        node.silent_since = silent_since.value_or(core_.world.clock.now());
    const bool is_connected = node.is_connected();
    if (std::exchange(node.was_connected, is_connected) && !is_connected && node.takes_part())
        core_.regions->doubt_failed();
    // The attached ones are left out by the next age, when that may be made.
    const bool is_late = node.is_silent(core_.world.clock.now(), core_.settings.grace);
    if (node.is_joining() && (is_late || node.is_taken()))
        membership_.expel(node, node.is_taken() ? "another head has taken it" : "it is silent");
    if (node.takes_part() && node.has_lost_changes()) membership_.expel(node, "it lost changes");
    look_at_reads(node);
    look_at_writers(node);
    if (node.state == NodeState::away && node.backing != nullptr && node.backing->is_taken() &&
        node.is_quiet()) {
        // Whoever took it may have given up since, or be gone.
        node.is_held_elsewhere = true;
        node.found_on.reset();
        node.backing->begin_anew();
    }
    if (joining_.may_begin(node)) core_.scope.spawn(joining_.take_in(node));
}

/// There is nobody to compare a read with: so it is given twice the time of a change.
void Watch::look_at_reads(Node& node) {
    const io::Duration most = 2 * core_.settings.slow;
    if (!node.takes_part() || node.reads == 0 ||
        core_.deliveries.now() < node.reads_wait_since + most)
        return;
    if (membership_.may_expel(node))
        membership_.expel(node,
                          fmt::format("{}it has answered no read for {} s", kSlow, seconds(most)));
}

void Watch::look_at_writers(Node& node) {
    if (!node.is_attached() && !node.is_joining()) return;
    const io::TimePoint now = core_.world.clock.now();
    const auto judge = [&](const auto* writer, std::string_view what) {
        if (writer == nullptr) return;
        if (writer->failure())
            membership_.expel(node, fmt::format("writing its {} failed: {}", what,
                                                to_string(writer->failure()->code)));
        else if (writer->busy_since() && now >= *writer->busy_since() + core_.settings.slow)
            membership_.expel(node, fmt::format("{}writing its {} takes more than {} s", kSlow,
                                                what, seconds(core_.settings.slow)));
    };
    judge(node.pages.get(), "bitmaps");
    judge(node.superblock.get(), "superblock");
}

/// Design §5: detached although its link is up, for another attached node answered the same request
/// much earlier. Where it alone was asked there is nobody to compare it with, and it is given twice
/// the time; so is what takes long by nature (a flush waits for what was written).
bool Watch::look_for_slow_ones() {
    bool has_any = false;
    for (Delivery* at = core_.deliveries.active().front(); at != nullptr;
         at = core_.deliveries.active().next(*at)) {
        has_any = true;
        const bool is_alone = at->parts.size() == 1;
        const std::optional<io::TimePoint> since = is_alone ? at->begun : at->first_answer;
        const bool is_long = at->request.op == block::Op::flush || at->request.data.empty();
        const io::Duration most = core_.settings.slow * (is_alone ? 2 : 1) * (is_long ? 2 : 1);
        if (!since || core_.deliveries.now() < *since + most) continue;
        for (const Delivery::Part& part : at->parts)
            if (!part.is_done && !part.is_excused()) expel_slow(*part.node, *at, most);
    }
    return has_any;
}

void Watch::expel_slow(Node& node, const Delivery& delivery, io::Duration most) {
    // The last one is waited for, however long that takes, and nothing is held against it.
    if (!membership_.may_expel(node)) return;
    const std::string_view op = block::to_string(delivery.request.op);
    membership_.expel(
        node,
        delivery.parts.size() == 1
            ? fmt::format("{}it has not answered a {} for {} s", kSlow, op, seconds(most))
            : fmt::format("{}another node answered a {} {} s earlier", kSlow, op, seconds(most)));
}

void Watch::look_for_fence() {
    std::string fence = membership_.fence();
    if (fence.empty()) return;
    log::error("storage {}: fenced: {}", core_.settings.name, fence);
    core_.fenced = std::move(fence);
    core_.changed();
}

}  // namespace dst::mirror
