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

/// What is copied in one go, in sectors.
constexpr SectorCount kPiece{(256 << 10) >> kSectorShift};
/// How often the number of pieces is thought over.
constexpr io::Duration kAdaptEach = 100ms;
/// How much may be copied before the node is asked to make it durable.
constexpr SectorCount kFlushEach{(64 << 20) >> kSectorShift};

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
    SectorCount unflushed{};
    std::size_t windows = 0;
    async::Scope scope{};
};

bool Resync::goes_on(const Course& course) {
    return course.target.membership == course.membership && !course.target.is_leaving;
}

/// The next stale regions that nobody has in hand, as many as a window holds; nothing if there are
/// none at the moment.
std::optional<RegionRange> Resync::next_window(const Course& course) const {
    const Bitmap& stale = core_.bits().stale(course.target.slot);
    const std::uint64_t most = std::max<std::uint64_t>(
        1, core_.settings.resync_size.value() / core_.shape().region_size().value());
    const auto is_wanted = [&](RegionIndex region) {
        return stale.test(region) && !course.target.is_copied(region) &&
               !course.in_hand.test(region) && !course.unreadable.test(region) &&
               !core_.regions->is_locked({region, RegionCount(1)});
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
    while (goes_on(course) && !core_.is_over()) {
        adapt();
        const auto window = pieces_ < pieces_allowed_ && course.unflushed < kFlushEach
                                ? next_window(course)
                                : std::nullopt;
        if (window) {
            course.cursor =
                window->end() < RegionIndex(size.value()) ? window->end() : RegionIndex(0);
            course.in_hand.set(*window);
            ++course.windows;
            ++pieces_;
            course.scope.spawn(copy_window(course, *window));
            continue;
        }
        if (course.windows > 0) {
            co_await core_.progress_until(core_.world.clock.now() + kAdaptEach);
            continue;
        }
        if (node.copied->any()) {
            if (!co_await flush_copied(course)) break;
            continue;
        }
        if (!stale.any()) break;
        // What nobody could read, or is locked by others: some time later.
        course.unreadable.clear_all();
        co_await core_.progress_until(core_.world.clock.now() + core_.settings.resync_timeout);
    }
    co_await course.scope.join();
    std::erase(courses_, &course);
    core_.changed();
}

async::Task<void> Resync::copy_window(Course& course, RegionRange regions) {
    {
        Locked locked(core_, regions);
        bool goes_well = co_await locked.alone() && goes_on(course);
        for (RegionIndex at = regions.first; goes_well && at < regions.end(); ++at) {
            Result<> done;
            // What was never written reads as zeroes, whatever is there.
            if (!core_.regions->is_unwritten(at))
                done = co_await copy(course, core_.shape().sectors_of(at));
            goes_well = goes_on(course) && !core_.is_over();
            if (!goes_well) break;
            if (!done) {
                course.unreadable.set(at);
                continue;
            }
            course.target.copied->set(at);
            done_ += core_.shape().region_size();
        }
    }
    course.in_hand.clear(regions);
    course.unflushed += core_.shape().sectors_of(regions).count;
    --course.windows;
    --pieces_;
    core_.progress.wake_all();
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
    ++source.in_flight;
    const auto there = co_await source.backing->device().digest(range);
    --source.in_flight;
    if (!there) co_return false;
    ++target.in_flight;
    const auto here = co_await target.backing->device().digest(range);
    --target.in_flight;
    co_return here && *here == *there;
}

/// What is copied, and durable there, is stale no more.
async::Task<Result<>> Resync::flush_copied(Course& course) {
    Node& target = course.target;
    std::swap(*target.copied, *target.being_flushed);
    const Result<> done = co_await core_.deliveries.ask(target, {.op = Op::flush});
    if (!goes_on(course)) co_return fail(ErrorCode::cancelled, "");
    if (!done) {
        membership_.expel(target,
                          fmt::format("flushing it failed: {}", to_string(done.error().code)));
        co_return done;
    }
    const Bitmap& flushed = *target.being_flushed;
    for (auto run = flushed.next_run(RegionIndex(0)); run; run = flushed.next_run(run->end()))
        core_.bits().clear(Bits::stale_of(target.slot), *run);
    target.being_flushed->clear_all();
    course.unflushed = SectorCount();
    core_.changed();
    co_return done;
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
