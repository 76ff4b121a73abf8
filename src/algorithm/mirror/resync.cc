#include "algorithm/mirror/resync.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "algorithm/mirror/holds.h"
#include "base/log.h"

namespace dst::mirror {
namespace {

using block::Op;
using block::Request;
using namespace std::chrono_literals;

/// What is copied in one go, in sectors, at most.
constexpr SectorCount kPiece{(256 << 10) >> kSectorShift};
/// A window is at least so many pieces, but for those that have too few regions.
constexpr std::uint64_t kPiecesOfWindow = 8;
/// How often the number of pieces is thought over.
constexpr io::Duration kAdaptEach = 100ms;
/// How much may be copied before the node is asked to make it durable. While it does so much may be
/// copied once more.
constexpr SectorCount kFlushEach{(32 << 20) >> kSectorShift};

bool is_zero(std::span<const std::byte> data) {
    return data[0] == std::byte{0} &&
           std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0;
}

}  // namespace

struct Resync::Course {
    Node& target;
    const std::uint64_t membership;
    RegionIndex cursor;
    /// Regions that are being copied, and those that no source could give.
    Bitmap in_hand;
    Bitmap unreadable;
    SectorCount window{};     // what is in hand
    SectorCount unflushed{};  // copied since a flush began
    bool is_flushing = false;
    bool has_failed = false;  // to flush
    async::Scope scope{};
};

bool Resync::goes_on(const Course& course) {
    return course.target.membership == course.membership && !course.target.is_leaving;
}

/// As much of the window as is copied in one go: whole regions, at least one.
RegionCount Resync::piece() const {
    const std::uint64_t region = core_.shape().region_size().value();
    const std::uint64_t most =
        std::min(core_.settings.resync_size.value() / kPiecesOfWindow, kPiece.value());
    return RegionCount(std::max<std::uint64_t>(1, most / region));
}

/// The next stale regions that nobody has in hand, as many as are copied in one go and fit the
/// window; nothing if there are none at the moment.
std::optional<RegionRange> Resync::next_piece(const Course& course) const {
    const Bitmap& stale = core_.bits().stale(course.target.slot);
    const std::uint64_t region = core_.shape().region_size().value();
    const std::uint64_t window =
        std::max<std::uint64_t>(1, core_.settings.resync_size.value() / region);
    const std::uint64_t in_hand = course.window.value() / region;
    if (in_hand >= window) return std::nullopt;
    const std::uint64_t most = std::min(piece().value(), window - in_hand);
    const auto is_wanted = [&](RegionIndex at) {
        return stale.test(at) && !course.target.is_copied(at) && !course.in_hand.test(at) &&
               !course.unreadable.test(at) && !core_.regions->is_locked({at, RegionCount(1)});
    };
    for (const RegionIndex from : {course.cursor, RegionIndex(0)}) {
        for (auto at = stale.next_set(from); at; at = stale.next_set(*at + RegionCount(1))) {
            if (!is_wanted(*at)) continue;
            RegionCount count(1);
            while (count.value() < most && *at + count < RegionIndex(stale.size().value()) &&
                   is_wanted(*at + count))
                count += RegionCount(1);
            return RegionRange{*at, count};
        }
    }
    return std::nullopt;
}

async::Task<void> Resync::run(Node& node) {
    const RegionCount size = core_.shape().regions();
    const Bitmap& stale = core_.bits().stale(node.slot);
    Course course{.target = node,
                  .membership = node.membership,
                  .cursor = RegionIndex(0),
                  .in_hand = Bitmap(size),
                  .unreadable = Bitmap(size)};
    if (!is_running()) done_ = SectorCount();
    courses_.push_back(&course);
    log::info("storage {}: {} has {} sectors to be copied", core_.settings.name, node.type,
              left_to_copy(node).value());
    while (goes_on(course) && !core_.is_over() && !course.has_failed) {
        adapt();
        const bool is_much = course.unflushed >= kFlushEach;
        const auto next = pieces_ < pieces_allowed_ && !is_much ? next_piece(course) : std::nullopt;
        if (next) {
            course.cursor = next->end() < RegionIndex(size.value()) ? next->end() : RegionIndex(0);
            course.in_hand.set(*next);
            course.window += whole_size(*next);
            ++pieces_;
            course.scope.spawn(copy_piece(course, *next));
            continue;
        }
        const bool is_idle = course.window.value() == 0;
        if (!course.is_flushing && node.copied->any() && (is_much || is_idle)) {
            course.is_flushing = true;
            course.unflushed = SectorCount();
            course.scope.spawn(flush_copied(course));
            continue;
        }
        if (!is_idle || course.is_flushing) {
            co_await core_.progress_until(core_.world.clock.now() + kAdaptEach);
            continue;
        }
        if (!stale.any()) break;
        // What nobody could read is tried again some time later; what is locked by others, at once.
        const bool is_unreadable = course.unreadable.any();
        const io::TimePoint due = core_.world.clock.now() + core_.settings.resync_timeout;
        do {
            co_await core_.progress_until(due);
        } while (is_unreadable && goes_on(course) && !core_.is_over() &&
                 core_.world.clock.now() < due);
        course.unreadable.clear_all();
    }
    co_await course.scope.join();
    std::erase(courses_, &course);
    core_.changed();
}

SectorCount Resync::whole_size(RegionRange regions) const {
    return SectorCount(regions.count.value() * core_.shape().region_size().value());
}

async::Task<void> Resync::copy_piece(Course& course, RegionRange regions) {
    {
        Locked locked(core_, regions);
        if (co_await locked.alone() && goes_on(course)) co_await copy_regions(course, regions);
    }
    course.in_hand.clear(regions);
    course.window -= whole_size(regions);
    course.unflushed += core_.shape().sectors_of(regions).count;
    --pieces_;
    core_.progress.wake_all();
}

/// They are locked. Those that follow each other are copied in one go; if that fails, each by
/// itself, so that one that can't be read leaves the others alone.
async::Task<void> Resync::copy_regions(Course& course, RegionRange regions) {
    for (RegionIndex at = regions.first; at < regions.end();) {
        RegionRange run{at, RegionCount(1)};
        // What was never written reads as zeroes, whatever is there.
        const bool is_unwritten = core_.regions->is_unwritten(at);
        while (run.end() < regions.end() && core_.regions->is_unwritten(run.end()) == is_unwritten)
            run.count += RegionCount(1);
        at = run.end();
        if (is_unwritten || co_await copy(course, core_.shape().sectors_of(run))) {
            if (!goes_on(course) || core_.is_over()) co_return;
            note_copied(course, run);
            continue;
        }
        if (run.count == RegionCount(1)) course.unreadable.set(run);
        for (RegionIndex each = run.first; run.count > RegionCount(1) && each < run.end(); ++each) {
            if (!goes_on(course) || core_.is_over()) co_return;
            const Result<> done = co_await copy(course, core_.shape().sectors_of(each));
            if (!goes_on(course) || core_.is_over()) co_return;
            if (done)
                note_copied(course, {each, RegionCount(1)});
            else
                course.unreadable.set(each);
        }
    }
}

void Resync::note_copied(Course& course, RegionRange regions) {
    course.target.copied->set(regions);
    done_ += whole_size(regions);
}

/// An error: it could not be read anywhere, or the target does not take it and leaves.
async::Task<Result<>> Resync::copy(Course& course, SectorRange range) {
    const block::Buffer buffer =
        co_await core_.memory.copies.allocate(to_bytes(std::min(kPiece, range.count)).value());
    if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
    for (SectorIndex at = range.first; at < range.end(); at = at + kPiece) {
        const SectorRange piece{at, std::min(kPiece, range.end() - at)};
        Node* const source = reads_.choose(piece, {});
        if (source != nullptr && source->is_attached() &&
            co_await is_equal(*source, course.target, piece)) {
            bytes_lately_ += to_bytes(piece.count).value();
            continue;
        }
        if (!goes_on(course) || core_.is_over()) co_return fail(ErrorCode::cancelled, "");
        Request request{.op = Op::read,
                        .range = piece,
                        .data = buffer.bytes().first(to_bytes(piece.count).value())};
        CO_TRY_VOID(co_await reads_.read_copy(request));
        if (!goes_on(course) || core_.is_over()) co_return fail(ErrorCode::cancelled, "");
        Request write{.op = Op::write, .range = piece, .data = request.data, .buffer = &buffer};
        if (is_zero(request.data)) write = {.op = Op::write_zeroes, .range = piece};
        const Result<> done = co_await core_.deliveries.ask(course.target, write);
        if (!done) {
            if (goes_on(course))
                membership_.expel(course.target, fmt::format("copying to it failed: {}",
                                                             to_string(done.error().code)));
            co_return done;
        }
        bytes_lately_ += to_bytes(piece.count).value();
    }
    co_return Result<>{};
}

/// Compares without the data, where both ends can. False if they differ, or can't.
async::Task<bool> Resync::is_equal(Node& source, Node& target, SectorRange range) {
    Result<Digest> there = fail(ErrorCode::cancelled, "");
    Result<Digest> here = there;
    async::Scope both;
    both.spawn(digest(source, range, there));
    both.spawn(digest(target, range, here));
    co_await both.join();
    co_return here&& there && *here == *there;
}

async::Task<void> Resync::digest(Node& node, SectorRange range, Result<Digest>& found) {
    const Reading reading(core_, node);
    found = co_await node.backing->device().digest(range);
}

/// What is copied, and durable there, is stale no more.
async::Task<void> Resync::flush_copied(Course& course) {
    Node& target = course.target;
    std::swap(*target.copied, *target.being_flushed);
    const Result<> done = co_await core_.deliveries.ask(target, {.op = Op::flush});
    course.is_flushing = false;
    course.has_failed = !done;
    core_.progress.wake_all();
    if (!goes_on(course)) co_return;
    if (!done) {
        membership_.expel(target,
                          fmt::format("flushing it failed: {}", to_string(done.error().code)));
        co_return;
    }
    const Bitmap& flushed = *target.being_flushed;
    for (auto run = flushed.next_run(RegionIndex(0)); run; run = flushed.next_run(run->end()))
        core_.bits().clear(Bits::stale_of(target.slot), *run);
    target.being_flushed->clear_all();
    core_.changed();
}

void Resync::note_latency(io::Duration took) {
    ++latencies_;
    latency_ = latencies_ == 1 ? took : (latency_ * 7 + took) / 8;
}

/// More at a time while users don't suffer, half as many when they do.
void Resync::adapt() {
    const io::TimePoint now = core_.world.clock.now();
    if (now < adapted_at_ + kAdaptEach) return;
    const auto span = std::chrono::duration_cast<std::chrono::milliseconds>(now - adapted_at_);
    if (adapted_at_ != io::TimePoint() && span.count() > 0)
        rate_ = bytes_lately_ * 1000 / static_cast<std::uint64_t>(span.count());
    bytes_lately_ = 0;
    adapted_at_ = now;
    const bool suffers = latencies_ > 0 && latency_ > core_.settings.resync_latency;
    pieces_allowed_ = suffers ? std::max<std::size_t>(1, pieces_allowed_ / 2)
                              : std::min(kPiecesMax, pieces_allowed_ + 1);
    latencies_ = 0;
}

/// Stale there, and not copied yet.
SectorCount Resync::left_to_copy(const Node& node) const {
    const RegionCount stale = core_.bits().stale(node.slot).count();
    RegionCount copied;
    for (const auto& regions : {&node.copied, &node.being_flushed})
        if (regions->has_value()) copied += (*regions)->count();
    const std::uint64_t left = stale.value() - std::min(stale, copied).value();
    return SectorCount(left * core_.shape().region_size().value());
}

Resync::View Resync::view() const {
    View view{.done = done_, .total = done_, .bytes_per_second = is_running() ? rate_ : 0};
    for (const Course* course : courses_)
        if (goes_on(*course)) view.total += left_to_copy(course->target);
    return view;
}

}  // namespace dst::mirror
