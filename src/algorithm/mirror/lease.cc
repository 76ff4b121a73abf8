#include "algorithm/mirror/lease.h"

#include <algorithm>
#include <functional>
#include <vector>

namespace dst::mirror {

std::optional<io::TimePoint> Lease::vouched_at(const Node& node, io::TimePoint now) {
    if (node.backing == nullptr || node.is_taken()) return std::nullopt;
    return node.backing->vouched_at().value_or(now);
}

/// Until when those who have to have vouched; nothing if one of them does not.
std::optional<io::TimePoint> Lease::vouched_until() const {
    const io::TimePoint now = core_.world.clock.now();
    const io::Duration half = core_.settings.takeover / 2;
    if (core_.form->quorum == metadata::Quorum::none) {
        io::TimePoint first = now;
        for (const auto& node : core_.nodes) {
            if (!node->is_attached()) continue;
            const auto vouched = vouched_at(*node, now);
            if (!vouched) return std::nullopt;
            first = std::min(first, *vouched);
        }
        return first + half;
    }
    std::vector<io::TimePoint> votes;
    for (const metadata::NodeRecord& record : core_.form->nodes)
        if (const Node* const node = core_.find(record.cookie);
            record.has_vote && node != nullptr && node->has_say())
            if (const auto vouched = vouched_at(*node, now)) votes.push_back(*vouched);
    const std::size_t needed = core_.form->majority();
    if (votes.size() < needed) return std::nullopt;
    std::ranges::nth_element(votes, votes.begin() + static_cast<std::ptrdiff_t>(needed - 1),
                             std::greater<>());
    return votes[needed - 1] + half;
}

bool Lease::holds() const {
    if (!core_.fenced.empty()) return false;
    const io::TimePoint now = core_.world.clock.now();
    if (now < good_until_ && good_for_ == core_.changes) return true;
    const auto until = vouched_until();
    if (!until || *until <= now) return false;
    good_until_ = *until;
    good_for_ = core_.changes;
    return true;
}

async::Task<Result<>> Lease::held() {
    const io::TimePoint patience = core_.patience();
    while (!holds()) {
        if (core_.is_over()) co_return std::unexpected(core_.end_error());
        core_.wake_watch();
        ++waiting_;
        const bool in_time = co_await core_.progress_until(patience);
        --waiting_;
        if (!in_time) co_return fail(ErrorCode::io_error, "held for too long");
    }
    co_return Result<>{};
}

}  // namespace dst::mirror
