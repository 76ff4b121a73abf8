#include "algorithm/mirror/reads.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "algorithm/mirror/holds.h"
#include "base/log.h"

namespace dst::mirror {

using block::Request;

bool Reads::can_read(const Node& node, RegionRange regions) const {
    if (node.has_lost_changes()) return false;
    if (node.is_attached()) return true;
    return node.takes_part() && !core_.bits().stale(node.slot).any(regions);
}

Node* Reads::choose(SectorRange range, const std::vector<Node*>& but) const {
    const RegionRange regions = core_.shape().regions_of(range);
    // What is not equal yet is read from one place, whichever is asked for it.
    const bool is_uneven = core_.regions->uneven().any(regions);
    Node* best = nullptr;
    ReadCandidate best_one{};
    for (const auto& node : core_.nodes) {
        if (!node->is_connected() || node->is_taken() || !can_read(*node, regions) ||
            std::ranges::find(but, node.get()) != but.end())
            continue;
        if (is_uneven && node->is_attached()) return node.get();
        const ReadCandidate one{node->position, node->in_flight, node->is_local};
        if (best != nullptr && !is_better(core_.settings.read_policy, range.first, one, best_one))
            continue;
        best = node.get();
        best_one = one;
    }
    return is_uneven ? nullptr : best;
}

/// All of them can be read in one go, wherever that is: none unwritten, or all of them.
bool Reads::is_alike(RegionRange regions) const {
    const bool first = core_.regions->is_unwritten(regions.first);
    for (RegionIndex at = regions.first; at < regions.end(); ++at)
        if (core_.regions->is_unwritten(at) != first) return false;
    return true;
}

async::Task<Result<>> Reads::read(Request& request) {
    const RegionRange regions = core_.shape().regions_of(request.range);
    const bool has_unwritten = core_.bits().unwritten().any(regions);
    if (has_unwritten && !is_alike(regions))
        co_return co_await by_regions(request, &Reads::read_alike);
    co_return co_await read_alike(request);
}

/// Region by region, in their order.
async::Task<Result<>> Reads::by_regions(Request& request, Execute execute) {
    const RegionRange regions = core_.shape().regions_of(request.range);
    for (RegionIndex region = regions.first; region < regions.end(); ++region) {
        const SectorRange all = core_.shape().sectors_of(region);
        const SectorIndex first = std::max(all.first, request.range.first);
        const SectorIndex end = std::min(all.end(), request.range.end());
        Request part = block::part_of(request, {first, end - first});
        const SectorCount before =
            part.extents != nullptr ? part.extents->described() : SectorCount();
        CO_TRY_VOID(co_await (this->*execute)(part));
        if (part.extents != nullptr && part.extents->described() - before < part.range.count) break;
    }
    co_return Result<>{};
}

async::Task<Result<>> Reads::read_alike(Request& request) {
    if (core_.regions->is_unwritten(core_.shape().region_of(request.range.first))) {
        std::memset(request.data.data(), 0, request.data.size());
        co_return co_await sender_.vouched();
    }
    std::vector<Node*> failed;
    const Result<> done = co_await ask(request, failed);
    if (done)
        for (Node* const node : failed) core_.scope.spawn(rewrite(*node, request.range));
    if (!done) co_return done;
    co_return co_await sender_.vouched();
}

/// Asks one node after another until one answers; an error if all that could have failed. Whoever
/// is not connected is waited for only if nobody else is (rule 7).
async::Task<Result<>> Reads::ask(Request& request, std::vector<Node*>& failed) {
    const io::TimePoint patience = core_.patience();
    const RegionRange regions = core_.shape().regions_of(request.range);
    request.if_connected = true;
    block::ExtentList::Mark mark;
    if (request.extents != nullptr) mark = request.extents->mark();
    Error error{};
    while (true) {
        if (core_.is_over()) co_return std::unexpected(core_.end_error());
        Node* const node = choose(request.range, failed);
        if (node == nullptr) {
            const bool may_come = std::ranges::any_of(core_.nodes, [&](const auto& other) {
                return can_read(*other, regions) &&
                       std::ranges::find(failed, other.get()) == failed.end();
            });
            if (!may_come && !failed.empty()) co_return std::unexpected(error);
            ++waiting_;
            const bool in_time = co_await core_.progress_until(patience);
            --waiting_;
            if (!in_time) co_return fail(ErrorCode::io_error, "held for too long");
            continue;
        }
        const std::uint64_t membership = node->membership;
        node->position = request.range.end();
        if (request.extents != nullptr) request.extents->rewind(mark);
        Result<> done;
        {
            const Reading reading(core_, *node);
            done = co_await node->backing->device().execute(request);
        }
        // What it had to say when it was still one of us.
        if (done && node->membership == membership && !node->has_lost_changes()) co_return done;
        if (done || done.error().code == ErrorCode::node_lost) continue;
        error = done.error();
        ++node->read_errors;
        failed.push_back(node);
        log::warning("storage {}: reading sectors {}+{} of {} failed: {}", core_.settings.name,
                     request.range.first.value(), request.range.count.value(), node->type,
                     to_string(error.code));
    }
}

async::Task<Result<>> Reads::read_copy(Request& request) {
    std::vector<Node*> others;
    for (const auto& node : core_.nodes)
        if (!node->is_attached()) others.push_back(node.get());
    co_return co_await ask(request, others);
}

/// What another node has is written where reading failed: a disk may have a spare sector for it. A
/// node that can't take it has to leave.
async::Task<void> Reads::rewrite(Node& node, SectorRange range) {
    const InUse use(core_, node);
    const RegionRange regions = core_.shape().regions_of(range);
    while (core_.regions->is_locked(regions) && !core_.is_over()) co_await core_.progress.wait();
    if (core_.is_over()) co_return;
    Locked locked(core_, regions);
    if (!co_await locked.alone()) co_return;
    const std::uint64_t membership = node.membership;
    if (!can_read(node, regions)) co_return;  // it is copied to anyway
    const block::Buffer buffer =
        co_await core_.memory.copies.allocate(to_bytes(range.count).value());
    if (!buffer) co_return;
    Request request{.op = block::Op::read,
                    .range = range,
                    .data = buffer.bytes().first(to_bytes(range.count).value())};
    std::vector<Node*> failed{&node};
    if (!co_await ask(request, failed)) co_return;
    if (node.membership != membership) co_return;
    request.op = block::Op::write;
    request.buffer = &buffer;
    request.if_connected = false;
    const Result<> done = co_await core_.deliveries.ask(node, request);
    if (node.membership != membership) co_return;
    core_.regions->enter(regions);
    core_.regions->leave(regions);
    if (!done) {
        membership_.expel(node, fmt::format("what can't be read there can't be written again: {}",
                                            to_string(done.error().code)));
        co_return;
    }
    ++node.rewritten;
    log::info("storage {}: sectors {}+{} of {} were written again", core_.settings.name,
              range.first.value(), range.count.value(), node.type);
}

async::Task<Result<>> Reads::block_status(Request& request) {
    const RegionRange regions = core_.shape().regions_of(request.range);
    if (!is_alike(regions)) co_return co_await by_regions(request, &Reads::block_status);
    if (core_.regions->is_unwritten(regions.first)) {
        request.extents->add({.count = request.range.count, .hole = true, .zero = true});
        co_return co_await sender_.vouched();
    }
    std::vector<Node*> failed;
    CO_TRY_VOID(co_await ask(request, failed));
    co_return co_await sender_.vouched();
}

}  // namespace dst::mirror
