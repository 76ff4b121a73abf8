#include "metadata/sides.h"

#include <algorithm>

namespace dst::metadata {

Histories newest_of(std::span<const History* const> seen) {
    Histories newest;
    for (const History* history : seen) {
        const bool is_older = std::ranges::any_of(seen, [history](const History* other) {
            return compare(*history, *other) == Order::older;
        });
        const bool is_there = std::ranges::any_of(
            newest, [history](const History* other) { return other->age == history->age; });
        if (!is_older && !is_there) newest.push_back(history);
    }
    return newest;
}

bool is_safe(const History& candidate, std::span<const History* const> newest, const Votes& votes) {
    const auto is_cut_short = [](const History* history) { return history->is_cut_short; };
    if (std::ranges::any_of(newest, is_cut_short) ||
        std::ranges::any_of(votes.present, is_cut_short))
        return newest.size() == 1 && newest.front()->age == candidate.age;
    return std::ranges::all_of(newest, [&](const History* other) {
        if (other->age == candidate.age) return true;
        const auto apart = first_apart(candidate, *other);
        if (!apart) return false;
        const auto holders = std::ranges::count_if(
            votes.present, [&](const History* vote) { return passes_through(*vote, *apart); });
        return static_cast<std::size_t>(holders) + votes.absent < votes.majority;
    });
}

}  // namespace dst::metadata
