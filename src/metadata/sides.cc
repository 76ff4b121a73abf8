#include "metadata/sides.h"

#include <algorithm>

namespace dst::metadata {

namespace {

/// Those of `seen` that `is_wanted`, each age once.
template <typename IsWanted>
Histories select(std::span<const History* const> seen, IsWanted is_wanted) {
    Histories selected;
    for (const History* history : seen) {
        const bool is_there = std::ranges::any_of(
            selected, [history](const History* other) { return other->age == history->age; });
        if (!is_there && is_wanted(*history)) selected.push_back(history);
    }
    return selected;
}

}  // namespace

Histories newest_of(std::span<const History* const> seen) {
    Histories newest = select(seen, [seen](const History& history) {
        return std::ranges::none_of(seen, [&history](const History* other) {
            return compare(history, *other) == Order::older;
        });
    });
    if (newest.empty()) return select(seen, [](const History&) { return true; });
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
