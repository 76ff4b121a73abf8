#include "algorithm/mirror/growing.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace dst::mirror {
namespace {

using block::Op;
using block::Request;
using metadata::NodeRecord;
using namespace std::chrono_literals;

/// What nobody takes now is tried again after this time.
constexpr io::Duration kTryAgainAfter = 1s;

/// What of the new size was never written: all that is new, and regions of before of which that is
/// true in all their parts.
Bitmap unwritten_after(const Shape& from, const Shape& to, Bitmap unwritten) {
    for (std::uint8_t shift = from.region_shift; shift < to.region_shift; ++shift)
        unwritten = metadata::merged_if_all(unwritten);
    Bitmap all(to.regions(), true);
    for (RegionIndex at; at < RegionIndex(unwritten.size().value()); ++at)
        if (!unwritten.test(at)) all.clear(at);
    return all;
}

}  // namespace

std::vector<Node*> Growing::data_nodes() const {
    std::vector<Node*> nodes = core_.snapshot();
    std::erase_if(nodes, [](const Node* node) { return node->is_witness; });
    return nodes;
}

/// Who is in the way; empty if nobody is.
std::string Growing::obstacle() const {
    for (const NodeRecord& record : core_.form->nodes) {
        if (record.is_witness) continue;
        const Node* const node = core_.find(record.cookie);
        if (node == nullptr || node->backing == nullptr)
            return fmt::format("{} is away: the configuration does not name it", record.type);
        if (!node->is_connected())
            return fmt::format("{} is away: {}", record.type, node->backing->reason());
        if (membership_.is_to_leave(*node))
            return fmt::format("{} is about to leave: {}", record.type, node->reason);
        if (!record.attached || !node->is_attached())
            return fmt::format("{} is not in sync: {}", record.type, node->reason);
    }
    return {};
}

Outcome<> Growing::check_nodes() const {
    if (std::string who = obstacle(); !who.empty())
        return refuse(ErrorCode::busy, who + "; a mirror grows when all of its nodes are in sync");
    return {};
}

Outcome<> Growing::check_going_on() const {
    if (!core_.is_over() && !is_given_up_) return {};
    return refuse(ErrorCode::cancelled, "the storage is being stopped");
}

Outcome<Shape> Growing::plan() const {
    TRY_VOID(check_nodes());
    std::vector<metadata::NodeGrowth> growths;
    for (const NodeRecord& record : core_.form->nodes)
        if (!record.is_witness)
            growths.push_back({.name = record.type,
                               .old_size = record.size,
                               .new_size = core_.find(record.cookie)->backing->size()});
    return metadata::plan_growth(core_.shape(), growths);
}

void Growing::give_up() {
    is_given_up_ = true;
    core_.progress.wake_all();
}

async::Task<Outcome<>> Growing::grow(io::TimePoint deadline) {
    is_given_up_ = false;
    if (!forget_writers())
        co_return refuse(ErrorCode::busy,
                         "what was written when it was to grow before is still under way");
    CO_TRY(const Shape to, plan());
    const Shape from = core_.shape();
    Outcome<> done = co_await settle(deadline);
    if (done) {
        // From here to the end of preparing no age is sent that the new superblocks don't know.
        core_.holds_ages = true;
        done = co_await zero_halves(to, deadline);
        if (done) done = co_await prepare(to, deadline);
        if (done) switch_over();
        core_.holds_ages = false;
        core_.changed();
    }
    if (!done) {
        // A node may never answer what it was sent: nobody waits for that.
        stop_writers();
        co_return done;
    }
    const auto no_change = [](metadata::Form&) {};
    while (core_.growth && !core_.is_over())
        static_cast<void>(co_await membership_.change(no_change, io::TimePoint::max()));
    stop_writers();
    while (!forget_writers()) co_await core_.progress.wait();
    co_await erase_old_superblocks();
    if (!co_await make_rest_zero())
        co_return refuse(ErrorCode::cancelled,
                         "the storage ends; it may have grown when it is there again");
    log::info("storage {}: grown from {} to {} sectors", core_.settings.name,
              from.data_size.value(), to.data_size.value());
    co_return Outcome<>{};
}

// Before
// --------------------------------------------------------------------------------------------

/// Nothing is under way, no bit is set but those of unwritten regions, and all nodes know that.
bool Growing::is_settled() {
    Regions& regions = *core_.regions;
    const auto lacks_nothing = [&](const Node* node) {
        return !regions.bits.stale(node->slot).any() && node->tasks == 0 && node->pages != nullptr;
    };
    if (membership_.is_changing() || regions.unsettled().any() || regions.uneven().any() ||
        !std::ranges::all_of(data_nodes(), lacks_nothing))
        return false;
    regions.close_all();
    regions.bits.clear(Bits::kIntent, {RegionIndex(0), regions.shape().regions()});
    return std::ranges::all_of(data_nodes(), [](const Node* node) {
        node->pages->hurry();
        return node->pages->is_in_step();
    });
}

async::Task<Outcome<>> Growing::settle(io::TimePoint deadline) {
    if (const Result<> flushed = co_await flushes_.flush(); !flushed)
        co_return refuse(flushed.error().code,
                         fmt::format("flushing failed: {}", to_string(flushed.error().code)));
    while (true) {
        CO_TRY_VOID(check_going_on());
        if (std::string who = obstacle(); !who.empty()) co_return refuse(ErrorCode::busy, who);
        if (is_settled()) co_return Outcome<>{};
        if (!co_await core_.progress_until(deadline))
            co_return refuse(ErrorCode::timed_out, "what is under way takes too long");
    }
}

/// Where regions are merged: a part that was never written reads as zeroes, whatever is there; with
/// one that was it becomes a region that shows what is there.
async::Task<Outcome<>> Growing::zero_halves(const Shape& to, io::TimePoint deadline) {
    Shape at = core_.shape();
    if (at.region_shift == to.region_shift) co_return Outcome<>{};
    Bitmap unwritten = core_.bits().unwritten();
    for (; at.region_shift < to.region_shift; ++at.region_shift) {
        const Bitmap halves = metadata::zeroes_before_merging(unwritten);
        for (auto run = halves.next_run(RegionIndex(0)); run; run = halves.next_run(run->end())) {
            const Request zeroes{.op = Op::write_zeroes, .range = at.sectors_of(*run)};
            CO_TRY_VOID(co_await ask_in_time(zeroes, deadline));
        }
        unwritten = metadata::merged_if_all(unwritten);
    }
    co_return co_await ask_in_time({.op = Op::flush}, deadline);
}

/// All nodes, of which none may leave meanwhile: nobody is waited for who is lost, or hangs.
async::Task<Outcome<>> Growing::ask_in_time(Request request, io::TimePoint deadline) {
    request.if_connected = true;
    for (Node* const node : data_nodes()) {
        CO_TRY_VOID(check_going_on());
        const Result<> done = co_await core_.deliveries.ask(*node, request, deadline);
        if (!done)
            co_return refuse(done.error().code,
                             fmt::format("making unwritten regions of {} zero failed: {}",
                                         node->type, to_string(done.error().code)));
    }
    co_return Outcome<>{};
}

/// Its metadata of the new size is written where it will be.
void Growing::begin_node(Node& node, Bits& bits) {
    const SectorCount end = node.next_size = node.backing->size();
    const auto layout = metadata::Layout::of(bits.shape(), end);
    CHECK(layout.has_value() && node.next_pages == nullptr && node.next_superblock == nullptr);
    node.next_pages =
        std::make_unique<PageWriter>(bits, node.backing->device(), *layout, core_.memory.metadata,
                                     core_.world.clock, core_.progress);
    node.next_pages->write_all();
    node.next_pages->hurry();
    core_.begin_writing(node, *node.next_pages);
    if (end == node.size) return;
    node.next_superblock = std::make_unique<SuperblockWriter>(
        node.backing->device(), end, 0, node.cookie, node.sequence, core_.memory.metadata,
        core_.world.clock, core_.progress);
    node.next_superblock->send(core_.form);
    core_.begin_writing(node, *node.next_superblock);
}

bool Growing::is_prepared() const {
    return std::ranges::all_of(data_nodes(), [&](const Node* node) {
        return node->next_pages->is_in_step() &&
               (node->next_superblock == nullptr ||
                node->next_superblock->holds(core_.form->history.age));
    });
}

async::Task<Outcome<>> Growing::prepare(const Shape& to, io::TimePoint deadline) {
    next_ = std::make_unique<Regions>(to, core_.form->storage_id);
    next_->bits.load(Bits::kUnwritten,
                     unwritten_after(core_.shape(), to, core_.bits().unwritten()));
    // None suspends: those that the plan was made for.
    for (Node* const node : data_nodes()) next_->bits.use_slot(node->slot);
    for (Node* const node : data_nodes()) begin_node(*node, next_->bits);
    while (true) {
        CO_TRY_VOID(check_going_on());
        if (std::string who = obstacle(); !who.empty()) co_return refuse(ErrorCode::busy, who);
        for (const Node* const node : data_nodes())
            if (node->next_pages->failure() ||
                (node->next_superblock != nullptr && node->next_superblock->failure()))
                co_return refuse(
                    ErrorCode::io_error,
                    fmt::format("writing the metadata of {} at its new end failed", node->type));
        if (is_prepared()) co_return Outcome<>{};
        if (!co_await core_.progress_until(deadline))
            co_return refuse(ErrorCode::timed_out, "writing the metadata anew takes too long");
    }
}

// From here on
// ----------------------------------------------------------------------------------------

void Growing::switch_over() {
    const Shape from = core_.shape();
    const Shape to = next_->shape();
    const SectorIndex end(from.data_size.value());
    const RegionIndex last = to.region_of(end - SectorCount(1));
    const bool is_cut = to.sectors_of(last).end() > end && !next_->bits.unwritten().test(last);
    core_.growth = Core::Growth{.shape = to, .zero_from = is_cut ? end : SectorIndex()};
    for (Node* const node : data_nodes()) {
        node->pages->stop();
        old_pages_.push_back(std::exchange(node->pages, std::move(node->next_pages)));
        node->copied.reset();
        node->being_flushed.reset();
        if (node->next_superblock == nullptr) continue;
        node->superblock->stop();
        old_superblocks_.push_back(
            std::exchange(node->superblock, std::move(node->next_superblock)));
        old_ends_.push_back({node->cookie, node->size});
        node->size = node->next_size;
        node->backing->moved(node->size);
    }
    old_regions_ = std::exchange(core_.regions, std::move(next_));
}

/// Those that were not needed, or are not any more.
void Growing::stop_writers() {
    for (Node* const node : data_nodes()) {
        if (node->next_pages != nullptr) old_pages_.push_back(std::move(node->next_pages));
        if (node->next_superblock != nullptr)
            old_superblocks_.push_back(std::move(node->next_superblock));
    }
    for (const auto& writer : old_pages_) writer->stop();
    for (const auto& writer : old_superblocks_) writer->stop();
}

/// False if some of them have not ended yet.
bool Growing::forget_writers() {
    const auto has_ended = [](const auto& writer) { return writer->has_ended(); };
    if (!std::ranges::all_of(old_pages_, has_ended) ||
        !std::ranges::all_of(old_superblocks_, has_ended))
        return false;
    old_pages_.clear();
    old_superblocks_.clear();
    old_regions_.reset();
    next_.reset();
    return true;
}

/// Nobody needs them; but who looks where the node ended before, for he knows no better, shall not
/// take them for the truth. They lie in what was never written, or belongs to nobody.
async::Task<void> Growing::erase_old_superblocks() {
    for (const OldEnd& old : std::exchange(old_ends_, {})) {
        Node* const node = core_.find(old.cookie);
        for (unsigned copy = 0; copy < metadata::kSuperblockCopies; ++copy) {
            if (node == nullptr || !node->is_attached() || core_.is_over()) break;
            const SectorRange place = *metadata::superblock_place(old.end, copy);
            const Result<> done =
                co_await core_.deliveries.ask(*node, {.op = Op::write_zeroes, .range = place});
            if (!done)
                log::warning("storage {}: the superblock at the old end of {} is still there: {}",
                             core_.settings.name, node->type, to_string(done.error().code));
        }
    }
}

async::Task<bool> Growing::make_rest_zero() {
    while (core_.form->zero_from.value() > 0) {
        if (core_.is_over()) co_return false;
        const SectorIndex from = core_.form->zero_from;
        const RegionIndex region = core_.shape().region_of(from);
        Result<> done;
        // What counts as unwritten is zero, whatever is there.
        if (!core_.regions->is_unwritten(region)) {
            Request zeroes{.op = Op::write_zeroes,
                           .range = {from, core_.shape().sectors_of(region).end() - from}};
            done = co_await changes_.change(zeroes);
            if (done) done = co_await flushes_.flush();
        }
        if (!done) {
            log::warning("storage {}: what follows its data of before can't be made zero now: {}",
                         core_.settings.name, to_string(done.error().code));
            co_await core_.pause(kTryAgainAfter);
            continue;
        }
        const auto is_done = [](metadata::Form& form) { form.zero_from = {}; };
        static_cast<void>(co_await membership_.change(is_done, io::TimePoint::max()));
    }
    co_return !core_.is_over();
}

}  // namespace dst::mirror
