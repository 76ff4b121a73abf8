#include "algorithm/mirror/sender.h"

#include <fmt/format.h>

namespace dst::mirror {

bool Sender::takes(const Node& node, RegionRange regions) const {
    if (!node.takes_part()) return false;
    if (node.is_attached()) return true;
    const Bitmap& stale = core_.bits().stale(node.slot);
    if (!stale.any(regions)) return true;
    for (RegionIndex at = regions.first; at < regions.end(); ++at)
        if (stale.test(at) && !node.is_copied(at)) return false;
    return true;
}

void Sender::send_change(Delivery& delivery, RegionRange regions) {
    for (const auto& node : core_.nodes) {
        if (takes(*node, regions)) {
            core_.deliveries.send(delivery, *node);
        } else if (core_.bits().uses_slot(node->slot)) {
            core_.bits().set(Bits::stale_of(node->slot), regions);
            node->missed(regions);
        }
    }
}

void Sender::send_to_all(Delivery& delivery) {
    for (const auto& node : core_.nodes)
        if (node->takes_part()) core_.deliveries.send(delivery, *node);
}

/// The failure that all attached nodes share; null if one of them has succeeded, or will be waited
/// for.
const Delivery::Part* Sender::common_failure(const Delivery& delivery) {
    const Delivery::Part* first = nullptr;
    for (const Delivery::Part& part : delivery.parts) {
        if (part.is_excused() || !part.was_attached) continue;
        if (!part.is_done || part.result) return nullptr;
        if (first == nullptr) first = &part;
    }
    return first;
}

/// Or the mirror ends, which waits for nobody who is silent.
async::Task<void> Sender::all_settled(Delivery& delivery) {
    while (!delivery.is_settled() && !core_.is_stopping) co_await delivery.changed.wait();
}

async::Task<Result<>> Sender::finish(Delivery& delivery) {
    while (true) {
        co_await all_settled(delivery);
        if (!delivery.is_settled()) co_return std::unexpected(core_.end_error());
        if (const Delivery::Part* const failure = common_failure(delivery)) {
            // The error of all: nobody is to blame alone.
            for (const Delivery::Part& part : delivery.parts)
                if (part.has_failed()) membership_.note_losses(*part.node);
            co_return failure->result;
        }
        if (!delivery.has_failed()) co_return Result<>{};
        if (core_.is_over()) co_return std::unexpected(core_.end_error());
        for (const Delivery::Part& part : delivery.parts) {
            if (!part.has_failed()) continue;
            std::string why =
                fmt::format("{} failed there: {}", block::to_string(delivery.request.op),
                            to_string(part.result.error().code));
            // The last one that could go on: what it says is what there is to say.
            if (!membership_.expel(*part.node, std::move(why))) co_return part.result;
        }
        // Until it has left; or whoever succeeded can't be had any more, and comes back.
        if (delivery.has_failed()) co_await delivery.changed.wait();
    }
}

}  // namespace dst::mirror
