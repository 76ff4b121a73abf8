#include "algorithm/mirror/changes.h"

#include <algorithm>

#include "algorithm/mirror/holds.h"
#include "base/check.h"

namespace dst::mirror {
namespace {

using block::Op;
using block::Request;

std::unexpected<Error> held_out() { return fail(ErrorCode::io_error, "held for too long"); }

}  // namespace

/// What the nodes are sent for it; nothing if there is nothing to do; an error if it can't be done.
/// The content of what was trimmed is undefined, and copies have to be equal: it is made zero where
/// that is fast on all nodes, and left alone where it isn't (rule 7).
Result<std::optional<Request>> Changes::adapted(const Request& request) const {
    Request sent = request;
    if (request.op != Op::trim && !request.fast_zero) return sent;
    const bool is_fast = std::ranges::all_of(core_.nodes, [](const auto& node) {
        return !node->takes_part() || node->backing->device().geometry().can_zero_fast;
    });
    if (!is_fast && request.fast_zero)
        return fail(ErrorCode::unsupported, "a node can't zero fast");
    if (!is_fast) return std::nullopt;
    sent.op = Op::write_zeroes;
    sent.fast_zero = false;  // what is fast everywhere need not be refused by one of them
    return sent;
}

async::Task<Result<>> Changes::change(Request& request) {
    CO_TRY(auto sent, adapted(request));
    if (!sent) {
        if (request.fua) co_return co_await flushes_.flush();
        co_return Result<>{};
    }
    const RegionRange regions = core_.shape().regions_of(request.range);
    if (!core_.regions->is_open(regions)) CO_TRY_VOID(co_await enter(regions));
    if (core_.regions->has_unwritten(regions)) co_return co_await first_change(*sent, regions);
    co_return co_await carry_out(*sent, regions);
}

async::Task<Result<>> Changes::enter(RegionRange regions) {
    struct Waits {
        std::size_t& count;
        explicit Waits(std::size_t& of) : count(of) { ++count; }
        ~Waits() { --count; }
        Waits(const Waits&) = delete;
        Waits& operator=(const Waits&) = delete;
    } const waits{waiting_};
    const io::TimePoint patience = core_.patience();
    while (true) {
        if (core_.is_over()) co_return std::unexpected(core_.end_error());
        if (!core_.regions->is_locked(regions)) {
            core_.bits().set(Bits::kIntent, regions);
            if (intent_is_durable(regions)) break;
            if (const auto error = membership_.failure_of_the_last())
                co_return std::unexpected(*error);
        }
        if (!co_await core_.progress_until(patience)) co_return held_out();
    }
    core_.regions->open(regions);
    co_return Result<>{};
}

/// On every attached node, and every other one that has its copy of the bits.
bool Changes::intent_is_durable(RegionRange regions) {
    const Bits& bits = core_.bits();
    const PageNumber first = bits.page_of(Bits::kIntent, regions.first);
    const PageNumber last =
        bits.page_of(Bits::kIntent, RegionIndex(regions.first.value() + regions.count.value() - 1));
    bool is_durable = true;
    for (const auto& node : core_.nodes) {
        if (!node->is_attached() && !node->holds_bits) continue;
        for (PageNumber page = first; page <= last; ++page) {
            if (node->pages->is_durable(page, bits.version(page))) continue;
            node->pages->hurry();
            is_durable = false;
        }
    }
    return is_durable;
}

/// Data that nobody else keeps must stay until the last node has let go of it.
async::Task<void> Changes::data_is_free(Delivery& delivery) {
    const block::Request& request = delivery.request;
    const bool is_lent = request.buffer == nullptr && !request.data.empty();
    while (is_lent && delivery.running > 0) co_await delivery.changed.wait();
}

async::Task<Result<>> Changes::carry_out(Request& request, RegionRange regions) {
    Result<> done;
    bool is_fresh = false;
    {
        const Entered entered(core_, regions);
        is_fresh = request.fua && core_.regions->fresh().any(regions);
        if (is_fresh) request.fua = false;
        Delivery& delivery = core_.deliveries.take(request);
        sender_.send_change(delivery, regions);
        done = co_await sender_.finish(delivery);
        co_await data_is_free(delivery);
        core_.deliveries.release(delivery);
        if (!done && !core_.is_over()) core_.regions->make_uneven(regions);
    }
    if (!done) {
        core_.progress.wake_all();
        co_return done;
    }
    // That the region is written has to be durable, too (rule 10).
    if (is_fresh) co_return co_await flushes_.flush();
    co_return co_await sender_.vouched();
}

/// Rule 10: the first change in an unwritten region makes the rest of it zero on every node that
/// takes it. Nobody else changes anything there meanwhile.
async::Task<Result<>> Changes::first_change(Request& request, RegionRange regions) {
    Result<> done;
    {
        Locked locked(core_, regions);
        // Others may have begun before, in regions that were written.
        if (!co_await locked.alone()) co_return std::unexpected(core_.end_error());
        const Entered entered(core_, regions);
        for (RegionIndex region = regions.first; done && region < regions.end(); ++region) {
            if (!core_.regions->is_unwritten(region)) continue;
            const SectorRange all = core_.shape().sectors_of(region);
            const SectorIndex from = std::max(all.first, request.range.first);
            const SectorIndex until = std::min(all.end(), request.range.end());
            for (const SectorRange rest : {SectorRange{all.first, from - all.first},
                                           SectorRange{until, all.end() - until}}) {
                if (!done || rest.count.value() == 0) continue;
                Delivery& zeroes = core_.deliveries.take({.op = Op::write_zeroes, .range = rest});
                sender_.send_change(zeroes, {region, RegionCount(1)});
                done = co_await sender_.finish(zeroes);
                core_.deliveries.release(zeroes);
            }
        }
        if (done) {
            const bool fua = std::exchange(request.fua, false);
            Delivery& delivery = core_.deliveries.take(request);
            sender_.send_change(delivery, regions);
            done = co_await sender_.finish(delivery);
            co_await data_is_free(delivery);
            core_.deliveries.release(delivery);
            request.fua = fua;
        }
        if (done) core_.regions->make_fresh(regions);
        // Those that stay unwritten read as zeroes, whatever is there.
        if (!done && !core_.is_over()) core_.regions->make_uneven(regions);
    }
    if (!done) co_return done;
    if (request.fua) co_return co_await flushes_.flush();
    co_return co_await sender_.vouched();
}

}  // namespace dst::mirror
