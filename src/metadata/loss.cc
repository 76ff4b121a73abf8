#include "metadata/loss.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/check.h"

namespace dst::metadata {
namespace {

bool is_among(std::span<const Cookie> cookies, Cookie cookie) {
    return std::ranges::find(cookies, cookie) != cookies.end();
}

const NodeNow* find(std::span<const NodeNow> nodes, Cookie cookie) {
    const auto at = std::ranges::find(nodes, cookie, &NodeNow::cookie);
    return at == nodes.end() ? nullptr : &*at;
}

/// What a head sees that begins when those of `lost` are away and the others hold `form`.
Decision decide_with(const Form& form, std::span<const NodeNow> nodes, std::span<const Cookie> lost,
                     bool is_other_head) {
    // Any id but that of the age's head: never 0.
    const std::uint64_t other = form.head.id == 1 ? 2 : 1;
    Situation situation{.storage_name = form.name,
                        .storage_id = form.storage_id,
                        .head_id = is_other_head ? other : form.head.id};
    for (const NodeRecord& record : form.nodes) {
        const NodeNow* const now = find(nodes, record.cookie);
        Place place{.name = now != nullptr && !now->name.empty() ? now->name : record.type,
                    .seen = Unreachable{"lost"},
                    .can_reserve = now == nullptr || now->can_reserve,
                    .instance = record.instance,
                    .size = record.size};
        if (place.can_reserve) place.holder = is_other_head ? Holder::lapsed : Holder::us;
        if (now != nullptr && now->is_there && !is_among(lost, record.cookie))
            place.seen = Superblock{.form = form, .cookie = record.cookie, .sequence = 1};
        else if (!is_among(lost, record.cookie))
            place.seen = Unreachable{"not there now"};
        situation.places.push_back(std::move(place));
    }
    // A place that can't be looked at might be blank; these are not.
    if (std::ranges::all_of(situation.places, [](const Place& place) {
            return std::holds_alternative<Unreachable>(place.seen);
        }))
        return Wait{.reason = "waits for its nodes: none of them is there", .obstacles = {}};
    return decide(situation);
}

}  // namespace

Outlook outlook_after(std::span<const Form* const> forms, std::span<const NodeNow> nodes,
                      std::span<const Cookie> lost, bool is_head_lost) {
    CHECK(!forms.empty());
    const auto is_left = [&](const NodeRecord& record) {
        const NodeNow* const now = find(nodes, record.cookie);
        return now != nullptr && now->is_there && !is_among(lost, record.cookie);
    };
    const Form& form = *forms.front();
    Outlook outlook{.standing = standing_of(form, is_left)};
    for (const Form* const sent : forms) {
        const Standing there = standing_of(*sent, is_left);
        const auto rank = [](const Standing& of) { return std::tuple(of.goes_on(), of.attached); };
        if (rank(there) < rank(outlook.standing)) outlook.standing = there;
    }
    outlook.detaches = std::ranges::any_of(form.nodes, [&](const NodeRecord& record) {
        return record.attached && is_among(lost, record.cookie);
    });
    Form after = form;
    if (!is_head_lost && outlook.standing.goes_on()) {
        after.history = next_generation(std::move(after.history));
        for (NodeRecord& record : after.nodes) record.attached &= is_left(record);
    }
    outlook.restart = decide_with(after, nodes, lost, is_head_lost);
    outlook.restart_after = decide_with(form, nodes, {}, false);
    return outlook;
}

std::string reason_of(const Decision& decision) {
    if (const auto* wait = std::get_if<Wait>(&decision)) return wait->reason;
    if (const auto* refuse = std::get_if<Refuse>(&decision)) return refuse->reason;
    return {};
}

}  // namespace dst::metadata
