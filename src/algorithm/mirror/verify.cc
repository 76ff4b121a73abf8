#include "algorithm/mirror/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "algorithm/mirror/holds.h"
#include "base/log.h"

namespace dst::mirror {
namespace {

using block::Op;
using block::Request;

constexpr SectorCount kPiece{(256 << 10) >> kSectorShift};

template <typename Do>
async::Task<void> for_each_piece(SectorRange range, Do action) {
    for (SectorIndex at = range.first; at < range.end(); at = at + kPiece)
        if (!co_await action(SectorRange{at, std::min(kPiece, range.end() - at)})) co_return;
}

/// It may have been removed since it was listed: then it has no device any more.
bool is_there(const Node& node) { return node.is_attached() && node.is_connected(); }

}  // namespace

struct Verify::Copies {
    std::vector<Node*> nodes;
    std::vector<Digest> digests;  // one for each node

    [[nodiscard]] bool are_equal() const {
        return std::ranges::all_of(digests,
                                   [&](const Digest& digest) { return digest == digests[0]; });
    }
    /// One of more than half that are alike; nothing if there is none.
    [[nodiscard]] std::optional<std::size_t> right() const {
        for (std::size_t at = 0; at < nodes.size(); ++at)
            if (2 * static_cast<std::size_t>(std::ranges::count(digests, digests[at])) >
                nodes.size())
                return at;
        return std::nullopt;
    }
};

async::Task<Outcome<Comparison>> Verify::run(bool repair) {
    if (view_ && view_->is_running)
        co_return refuse(ErrorCode::busy, "its copies are being compared already");
    view_.emplace();
    view_->is_running = true;
    view_->total = core_.shape().data_size;
    log::info("storage {}: comparing the copies{}", core_.settings.name,
              repair ? ", and making them equal" : "");
    for (RegionIndex at(0); at < RegionIndex(core_.shape().regions().value()); ++at) {
        co_await verify_region(at, repair);
        if (core_.is_over()) break;
        view_->done += core_.shape().sectors_of(at).count;
        if (at.value() % 64 == 0) core_.owner.mirror_changed();
    }
    view_->is_running = false;
    view_->is_complete = !core_.is_over();
    if (!view_->is_complete)
        co_return refuse(ErrorCode::cancelled, "the storage was stopped before all was compared");
    log::info(
        "storage {}: compared: {} sectors differ, {} were made equal, {} have no majority, {} "
        "could not be compared",
        core_.settings.name, view_->different.value(), view_->repaired.value(),
        view_->undecided.value(), view_->skipped.value());
    core_.changed();
    co_return *view_;
}

std::vector<Node*> Verify::attached() const {
    std::vector<Node*> nodes;
    for (const auto& node : core_.nodes)
        if (is_there(*node)) nodes.push_back(node.get());
    return nodes;
}

async::Task<void> Verify::verify_region(RegionIndex region, bool repair) {
    const RegionRange regions{region, RegionCount(1)};
    SectorCount different;
    SectorCount unknown;
    while (core_.regions->is_locked(regions) && !core_.is_over()) co_await core_.progress.wait();
    if (core_.is_over()) co_return;
    {
        Locked locked(core_, regions);
        if (!co_await locked.alone()) co_return;
        // What was never written reads as zeroes, whatever is there; what is uneven is being
        // mended.
        if (core_.regions->is_unwritten(region) || core_.regions->uneven().test(region)) co_return;
        co_await for_each_piece(core_.shape().sectors_of(region),
                                [&](SectorRange piece) -> async::Task<bool> {
                                    const Verdict verdict = co_await compare(piece);
                                    if (verdict == Verdict::different) different += piece.count;
                                    if (verdict == Verdict::unknown) unknown += piece.count;
                                    co_return !core_.is_over();
                                });
    }
    if (core_.is_over()) co_return;
    view_->skipped += unknown;
    view_->different += different;
    if (different.value() == 0) co_return;
    log::warning("storage {}: copies differ within sectors {}+{}", core_.settings.name,
                 core_.shape().sectors_of(region).first.value(),
                 core_.shape().sectors_of(region).count.value());
    if (repair) co_await repair_region(region);
}

async::Task<Verify::Verdict> Verify::compare(SectorRange range) {
    Copies copies{.nodes = attached(), .digests = {}};
    if (copies.nodes.size() < 2) co_return Verdict::unknown;
    for (Node* const node : copies.nodes) {
        const Result<Digest> digest = co_await digest_of(*node, range);
        if (!digest) co_return Verdict::unknown;
        copies.digests.push_back(*digest);
    }
    co_return copies.are_equal() ? Verdict::equal : Verdict::different;
}

/// Made there where that can be done, else here.
async::Task<Result<Digest>> Verify::digest_of(Node& node, SectorRange range) {
    if (!is_there(node)) co_return fail(ErrorCode::node_lost, "the node has left");
    Result<Digest> there = fail(ErrorCode::cancelled, "");
    {
        const Reading reading(core_, node);
        there = co_await node.backing->device().digest(range);
    }
    if (there || there.error().code != ErrorCode::unsupported) co_return there;
    const block::Buffer buffer =
        co_await core_.memory.copies.allocate(to_bytes(range.count).value());
    if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
    CO_TRY_VOID(co_await read(node, range, buffer));
    co_return dst::digest_of(buffer.bytes().first(to_bytes(range.count).value()));
}

async::Task<Result<>> Verify::read(Node& node, SectorRange range, const block::Buffer& buffer) {
    if (!is_there(node)) co_return fail(ErrorCode::node_lost, "the node has left");
    Request request{.op = Op::read,
                    .range = range,
                    .data = buffer.bytes().first(to_bytes(range.count).value()),
                    .buffer = &buffer};
    request.if_connected = true;
    co_return co_await core_.deliveries.ask(node, request);
}

/// As a change: its intent is durable before anything is written.
async::Task<void> Verify::repair_region(RegionIndex region) {
    const RegionRange regions{region, RegionCount(1)};
    if (!co_await changes_.enter(regions)) co_return;
    Locked locked(core_, regions);
    if (!co_await locked.alone()) co_return;
    const Entered entered(core_, regions);
    co_await for_each_piece(core_.shape().sectors_of(region),
                            [&](SectorRange piece) -> async::Task<bool> {
                                // What came to differ since it was compared counts as well.
                                const Repair done = co_await make_equal(piece);
                                if (done == Repair::undecided) view_->undecided += piece.count;
                                co_return done != Repair::failed && !core_.is_over();
                            });
}

async::Task<Verify::Repair> Verify::make_equal(SectorRange range) {
    Copies copies{.nodes = attached(), .digests = {}};
    for (Node* const node : copies.nodes) {
        const Result<Digest> digest = co_await digest_of(*node, range);
        if (!digest) co_return Repair::failed;
        copies.digests.push_back(*digest);
    }
    if (copies.are_equal()) co_return Repair::done;
    const auto right = copies.right();
    if (!right) co_return Repair::undecided;
    if (!co_await copy_to_others(copies, *right, range)) co_return Repair::failed;
    view_->repaired += range.count;
    co_return Repair::done;
}

/// To those that take part and are not known to have it.
async::Task<bool> Verify::copy_to_others(const Copies& copies, std::size_t right,
                                         SectorRange range) {
    const block::Buffer buffer =
        co_await core_.memory.copies.allocate(to_bytes(range.count).value());
    if (!buffer) co_return false;
    if (!co_await read(*copies.nodes[right], range, buffer)) co_return false;
    const Request write{.op = Op::write,
                        .range = range,
                        .data = buffer.bytes().first(to_bytes(range.count).value()),
                        .buffer = &buffer};
    for (Node* const each : core_.snapshot()) {
        Node& node = *each;
        if (&node == copies.nodes[right] || !node.takes_part()) continue;
        const auto seen = std::ranges::find(copies.nodes, &node);
        if (seen != copies.nodes.end() &&
            copies.digests[static_cast<std::size_t>(seen - copies.nodes.begin())] ==
                copies.digests[right])
            continue;
        const std::uint64_t membership = node.membership;
        const Result<> done = co_await core_.deliveries.ask(node, write);
        if (!done && node.membership == membership)
            membership_.expel(node, fmt::format("it can't be made equal to the others: {}",
                                                to_string(done.error().code)));
    }
    co_return !core_.is_over();
}

}  // namespace dst::mirror
