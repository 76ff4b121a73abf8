#include "algorithm/mirror/flushes.h"

#include <limits>
#include <utility>

namespace dst::mirror {

async::Task<Result<>> Flushes::flush() {
    const std::uint64_t wanted = begun_ + 1;  // begins after this
    co_await turn_.acquire();
    struct Turn {
        async::Semaphore& turn;
        ~Turn() { turn.release(); }
    } const release_turn{turn_};
    if (succeeded_ >= wanted) co_return Result<>{};
    co_return co_await flush_now();
}

async::Task<Result<>> Flushes::flush_now() {
    if (core_.is_over()) co_return std::unexpected(core_.end_error());
    const std::uint64_t number = ++begun_;
    Regions::Flush flush = core_.regions->begin_flush();
    Delivery& delivery = core_.deliveries.take({.op = block::Op::flush});
    sender_.send_to_all(delivery);
    Result<> done = co_await sender_.finish(delivery);
    core_.deliveries.release(delivery);
    if (!done) {
        core_.regions->flush_failed(flush);
        co_return done;
    }
    core_.regions->flush_succeeded(flush, core_.world.clock.now());
    if (!flush.fresh.empty()) {
        done = co_await written_bits_are_durable(flush);
        if (done) core_.regions->make_written(flush);
    }
    if (done) done = co_await sender_.vouched();
    if (done) succeeded_ = number;
    co_return done;
}

/// Rule 10: that a region was written for the first time is known to every attached node before
/// anybody may rely on what was written; and, as with intents (rule 1), to every other one that has
/// its copy of the bits: an age may name that one at any moment, and the next head start from it.
async::Task<Result<>> Flushes::written_bits_are_durable(const Regions::Flush& flush) {
    Bits& bits = core_.bits();
    std::vector<std::pair<PageNumber, Version>> pages;
    for (const RegionIndex region : flush.fresh) {
        const PageNumber page = bits.page_of(Bits::kUnwritten, region);
        if (pages.empty() || pages.back().first != page)
            pages.emplace_back(page, bits.version(page));
    }
    while (true) {
        bool is_durable = true;
        for (const auto& node : core_.nodes) {
            if (!node->is_attached() && !node->holds_bits) continue;
            for (const auto& [page, version] : pages) {
                if (node->pages->is_durable(page, version)) continue;
                if (const auto error = membership_.failure_to_stay(*node))
                    co_return std::unexpected(*error);
                node->pages->hurry();
                is_durable = false;
            }
        }
        if (is_durable) co_return Result<>{};
        if (core_.is_over()) co_return std::unexpected(core_.end_error());
        co_await core_.progress.wait();
    }
}

/// That those who lack what was changed there are stale has to be durable first (rule 1).
bool Flushes::may_clear(RegionIndex region) {
    const Bits& bits = core_.bits();
    for (const metadata::NodeRecord& record : core_.form->nodes) {
        if (record.attached || record.is_witness || !bits.stale(record.slot).test(region)) continue;
        const PageNumber page = bits.page_of(Bits::stale_of(record.slot), region);
        for (const auto& node : core_.nodes)
            if (node->is_attached() && !node->pages->is_durable(page, bits.version(page))) {
                node->pages->hurry();
                return false;
            }
    }
    return true;
}

bool Flushes::clear_all_intents() {
    core_.regions->clear_intents(io::TimePoint::max(), std::numeric_limits<std::size_t>::max(),
                                 [this](RegionIndex region) { return may_clear(region); });
    return !core_.regions->has_settled();
}

bool Flushes::clear_intents() {
    constexpr std::size_t kMost = 4096;
    core_.regions->clear_intents(core_.world.clock.now() - kIntentLingers, kMost,
                                 [this](RegionIndex region) { return may_clear(region); });
    return core_.regions->has_settled();
}

}  // namespace dst::mirror
