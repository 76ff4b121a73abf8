#include "algorithm/mirror/evening.h"

#include <fmt/format.h>

#include <algorithm>

#include "algorithm/mirror/holds.h"
#include "base/log.h"

namespace dst::mirror {
namespace {

using block::Op;
using block::Request;
using namespace std::chrono_literals;

constexpr SectorCount kPiece{(256 << 10) >> kSectorShift};
/// What could not be read anywhere is tried again after this time.
constexpr io::Duration kTryAgainAfter = 1s;

}  // namespace

async::Task<void> Evening::run() {
    while (!core_.is_over()) {
        const auto region = core_.regions->uneven().next_set(RegionIndex(0));
        if (!region) {
            co_await core_.progress.wait();
            continue;
        }
        if (!co_await make_even(*region)) co_await core_.pause(kTryAgainAfter);
    }
}

async::Task<bool> Evening::make_even(RegionIndex region) {
    const RegionRange regions{region, RegionCount(1)};
    while (core_.regions->is_locked(regions) && !core_.is_over()) co_await core_.progress.wait();
    if (core_.is_over()) co_return false;
    Locked locked(core_, regions);
    if (!co_await locked.alone()) co_return false;
    const SectorRange range = core_.shape().sectors_of(region);
    const std::uint64_t doubts = core_.regions->doubts();
    for (SectorIndex at = range.first; at < range.end(); at = at + kPiece)
        if (!co_await copy({at, std::min(kPiece, range.end() - at)})) co_return false;
    // Lost since it was read, by the node that the others have it from.
    if (core_.regions->doubts() != doubts) co_return true;
    core_.regions->make_even(regions);
    log::info("storage {}: sectors {}+{} are equal on all nodes again, after a change failed",
              core_.settings.name, range.first.value(), range.count.value());
    co_return true;
}

/// From the node that reads of it come from to all others that take changes there.
async::Task<Result<>> Evening::copy(SectorRange range) {
    const block::Buffer buffer =
        co_await core_.memory.copies.allocate(to_bytes(range.count).value());
    if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
    Node* const source = reads_.choose(range, {});
    if (source == nullptr) co_return fail(ErrorCode::node_lost, "no node answers");
    Request read{.op = Op::read,
                 .range = range,
                 .data = buffer.bytes().first(to_bytes(range.count).value()),
                 .buffer = &buffer};
    read.if_connected = true;
    CO_TRY_VOID(co_await core_.deliveries.ask(*source, read));
    const Request write{.op = Op::write, .range = range, .data = read.data, .buffer = &buffer};
    for (Node* const each : core_.snapshot()) {
        Node& node = *each;
        if (&node == source || !node.takes_part()) continue;
        const std::uint64_t membership = node.membership;
        const Result<> done = co_await core_.deliveries.ask(node, write);
        if (done || node.membership != membership) continue;
        membership_.expel(node, fmt::format("it can't be made equal to the others: {}",
                                            to_string(done.error().code)));
        // Not equal as long as it is there: until it has left all is read from one place.
        co_return done;
    }
    co_return Result<>{};
}

}  // namespace dst::mirror
