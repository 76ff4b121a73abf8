#include "metadata/assembly.h"

#include <fmt/format.h>

#include <algorithm>
#include <ranges>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "metadata/assembly_text.h"
#include "metadata/attempt.h"

namespace dst::metadata {

namespace {

using Kind = Obstacle::Kind;

/// What is at the places: nodes of this storage, and what is none.
struct Survey {
    SeenNodes nodes;
    std::vector<LeftOut> left_out;
};

bool is_ours(const Situation& situation, const Form& form) {
    return form.name == situation.storage_name &&
           (!situation.storage_id || form.storage_id == *situation.storage_id);
}

Survey survey(const Situation& situation) {
    Survey found;
    for (std::size_t i = 0; i < situation.places.size(); ++i) {
        const Place& place = situation.places[i];
        const auto* superblock = std::get_if<Superblock>(&place.seen);
        if (superblock != nullptr && is_ours(situation, superblock->form)) {
            found.nodes.push_back({.index = i, .place = &place, .superblock = superblock});
        } else {
            found.left_out.push_back({.place = i, .reason = text::unusable(situation, place)});
        }
    }
    return found;
}

/// A making that was interrupted left nodes that never served anybody. Beside nodes of a storage
/// that did, they are none of its nodes.
void leave_out_interrupted(Survey& found) {
    const auto is_settled = [](const Seen& seen) { return !seen.form().is_forming; };
    const auto settled = std::ranges::find_if(found.nodes, is_settled);
    if (settled == found.nodes.end()) return;
    const StorageId id = settled->form().storage_id;
    std::erase_if(found.nodes, [&](const Seen& seen) {
        if (is_settled(seen) || seen.form().storage_id == id) return false;
        found.left_out.push_back({.place = seen.index, .reason = text::interrupted(*seen.place)});
        return true;
    });
}

std::vector<Obstacle> contradictions(const Situation& situation, const SeenNodes& nodes) {
    std::vector<Obstacle> obstacles;
    for (const Place& place : situation.places) {
        const auto* unreadable = std::get_if<Unreadable>(&place.seen);
        if (unreadable != nullptr && unreadable->kind == Unreadable::Kind::newer)
            obstacles.push_back({Kind::newer_version, text::newer_version(place, *unreadable)});
    }
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            const Cookie cookie = nodes[i].superblock->cookie;
            if (nodes[j].superblock->cookie == cookie)
                obstacles.push_back(
                    {Kind::twice, text::twice(*nodes[j].place, *nodes[i].place, cookie)});
        }
        const bool is_settled = !nodes[i].form().is_forming;
        if (is_settled && nodes[i].form().storage_id != nodes[0].form().storage_id)
            obstacles.push_back(
                {Kind::two_storages,
                 text::two_storages(*nodes[0].place, *nodes[i].place, situation.storage_name)});
    }
    return obstacles;
}

/// True if there is no storage yet: no node served anybody, and no making reached all its nodes.
bool is_to_be_made(const Situation& situation, const SeenNodes& nodes) {
    if (nodes.empty()) return true;
    const Form& first = nodes.front().form();
    return std::ranges::all_of(nodes, [](const Seen& seen) { return seen.form().is_forming; }) &&
           (nodes.size() != situation.places.size() || nodes.size() != first.nodes.size() ||
            std::ranges::any_of(
                nodes, [&](const Seen& seen) { return seen.form().history != first.history; }));
}

Decision blocked(std::vector<Obstacle> obstacles) {
    CHECK(!obstacles.empty());
    std::string reason = text::reason(obstacles);
    if (std::ranges::all_of(obstacles, &Obstacle::may_pass))
        return Wait{.reason = std::move(reason), .obstacles = std::move(obstacles)};
    return Refuse{.reason = std::move(reason), .obstacles = std::move(obstacles)};
}

bool is_all_forced(const Situation& situation, const std::vector<Obstacle>& obstacles) {
    return obstacles.empty() ||
           (situation.force && std::ranges::all_of(obstacles, &Obstacle::can_be_forced));
}

Decision make_new(const Situation& situation) {
    std::vector<Obstacle> obstacles;
    const auto is_away = [](const Place& place) {
        return std::holds_alternative<Unreachable>(place.seen);
    };
    if (std::ranges::any_of(situation.places, is_away))
        obstacles.push_back({Kind::not_ready, text::not_ready(situation)});
    for (const Place& place : situation.places) {
        if (is_away(place)) continue;
        const auto* unreadable = std::get_if<Unreadable>(&place.seen);
        const auto* superblock = std::get_if<Superblock>(&place.seen);
        const bool is_free = unreadable != nullptr ? unreadable->kind == Unreadable::Kind::blank
                                                   : is_ours(situation, superblock->form);
        if (!is_free) obstacles.push_back({Kind::occupied, text::unusable(situation, place)});
        // Whoever reserved a node has used it, and left it in no order. That it looks blank means
        // that its metadata is somewhere else: where it ended before it grew.
        if (!is_available(place))
            obstacles.push_back({Kind::held, text::held(place)});
        else if (superblock == nullptr && place.holder == Holder::lapsed)
            obstacles.push_back({Kind::held, text::used(place)});
    }
    const auto last =
        std::ranges::find(std::views::reverse(obstacles), Kind::occupied, &Obstacle::kind);
    if (last != obstacles.rend()) last->text += text::how_to_free(situation);
    if (is_all_forced(situation, obstacles)) return Create{};
    return blocked(std::move(obstacles));
}

bool is_other_heads(const Situation& situation, const Form& base) {
    return base.head.id != situation.head_id && !base.stopped_cleanly;
}

/// Makes the attempt with the nodes that this head may have without displacing anybody. Plain nodes
/// can't be reserved, so those of another head are left alone.
Attempt attempt_freely(const Situation& situation, const SeenNodes& nodes,
                       std::vector<LeftOut>& left_out) {
    SeenNodes free;
    for (const Seen& seen : nodes) {
        if (is_available(*seen.place)) {
            free.push_back(seen);
        } else {
            left_out.push_back({.place = seen.index, .reason = text::held(*seen.place)});
        }
    }
    if (free.empty()) return {};
    Attempt attempt = attempt_with(situation, free);
    if (attempt.base == nullptr || !is_other_heads(situation, *attempt.base)) return attempt;
    const Form& base = *attempt.base;
    std::erase_if(free, [&](const Seen& seen) {
        if (seen.place->can_reserve) return false;
        left_out.push_back(
            {.place = seen.index, .reason = text::other_head(*seen.superblock, base)});
        return true;
    });
    if (free.empty()) return {};
    return attempt_with(situation, std::move(free));
}

/// Makes the attempt with all nodes; its obstacles are all that is in the way.
Attempt attempt_with_all(const Situation& situation, const SeenNodes& nodes) {
    Attempt attempt = attempt_with(situation, nodes);
    for (const Seen& seen : nodes) {
        if (!is_available(*seen.place)) attempt.obstruct(Kind::held, text::held(*seen.place));
        if (!seen.place->can_reserve && attempt.base != nullptr &&
            is_other_heads(situation, *attempt.base))
            attempt.obstruct(Kind::other_head, text::other_head(*seen.superblock, *attempt.base));
    }
    return attempt;
}

/// Sources, the best first: not found to be broken, not restarted since it was seen last, then with
/// the newest age itself.
void sort_sources(SeenNodes& sources, const Form& base) {
    const auto rank = [&base](const Seen& seen) {
        const std::uint64_t recorded = base.find(seen.superblock->cookie)->instance;
        const bool is_restarted = recorded == 0 || recorded != seen.place->instance;
        return std::tuple(seen.place->is_broken, is_restarted,
                          seen.history().age != base.history.age, seen.index);
    };
    std::ranges::sort(sources, {}, rank);
}

/// `is_decided`: what went another way than the one that is taken is given up by a person.
void take_witness(Start& start, const Seen& seen, bool is_decided) {
    start.witnesses.push_back(seen.member());
    if (is_decided && !passes_through(start.base.history, seen.history().age))
        start.given_up_witnesses.push_back(seen.superblock->cookie);
}

Start start_from(Attempt attempt, std::vector<LeftOut> left_out) {
    Start start{.base = *attempt.base, .left_out = std::move(left_out)};
    SeenNodes sources;
    for (const Seen& seen : attempt.nodes) {
        const NodeRecord* record = start.base.find(seen.superblock->cookie);
        if (record == nullptr) {
            start.left_out.push_back({.place = seen.index, .reason = text::no_member(*seen.place)});
        } else if (record->is_witness) {
            take_witness(start, seen, attempt.is_resolved);
        } else if (is_source(seen, start.base)) {
            sources.push_back(seen);
        } else {
            const bool is_astray = !passes_through(start.base.history, seen.history().age);
            start.joiners.push_back(
                {.member = seen.member(), .is_all_stale = attempt.is_resolved && is_astray});
        }
    }
    sort_sources(sources, start.base);
    for (const Seen& seen : sources) start.sources.push_back(seen.member());
    const bool is_minority = std::ranges::find(attempt.obstacles, Kind::no_majority,
                                               &Obstacle::kind) != attempt.obstacles.end();
    if (is_minority)
        for (const NodeRecord* record : attempt.absent_votes)
            start.lost_votes.push_back(record->cookie);
    start.votes_begin_anew = is_minority || attempt.is_resolved;
    start.overridden = std::move(attempt.obstacles);
    return start;
}

/// Starts from the copy that a person has declared to be right, on the way of the newest age that
/// came from it, if there is one such.
Decision start_declared(const Situation& situation, const Survey& found, Cookie clean) {
    const auto declared = std::ranges::find_if(
        found.nodes, [clean](const Seen& seen) { return seen.superblock->cookie == clean; });
    if (declared == found.nodes.end()) return blocked({{Kind::no_source, text::not_there(clean)}});
    std::vector<Obstacle> obstacles;
    for (const Seen& seen : found.nodes)
        if (!is_available(*seen.place)) obstacles.push_back({Kind::held, text::held(*seen.place)});
    if (!is_all_forced(situation, obstacles)) return blocked(std::move(obstacles));
    const Form* base = &declared->form();
    for (const Seen& seen : found.nodes)
        if (passes_through(seen.history(), base->history.age)) base = &seen.form();
    if (situation.left && passes_through(situation.left->history, base->history.age))
        base = &*situation.left;
    const NodeRecord* const record = base->find(clean);
    if (record == nullptr || record->is_witness)
        return Refuse{.reason = text::no_member(*declared->place), .obstacles = {}};
    Start start{.base = *base, .left_out = found.left_out, .is_declared = true};
    start.votes_begin_anew = true;
    start.sources.push_back(declared->member());
    for (const Seen& seen : found.nodes) {
        const NodeRecord* const other = base->find(seen.superblock->cookie);
        if (other == nullptr)
            start.left_out.push_back({.place = seen.index, .reason = text::no_member(*seen.place)});
        else if (other->is_witness)
            take_witness(start, seen, true);
        else if (seen.superblock->cookie != clean)
            start.joiners.push_back({.member = seen.member(), .is_all_stale = true});
    }
    for (const NodeRecord* const absent : absent_votes_of(found.nodes, *base))
        start.lost_votes.push_back(absent->cookie);
    start.overridden = std::move(obstacles);
    return start;
}

}  // namespace

Decision decide(const Situation& situation) {
    CHECK(!situation.places.empty() && situation.head_id != 0);
    Survey found = survey(situation);
    leave_out_interrupted(found);
    if (auto obstacles = contradictions(situation, found.nodes); !obstacles.empty())
        return blocked(std::move(obstacles));
    if (is_to_be_made(situation, found.nodes)) return make_new(situation);
    if (situation.clean) return start_declared(situation, found, *situation.clean);

    std::vector<LeftOut> left_out = found.left_out;
    Attempt free = attempt_freely(situation, found.nodes, left_out);
    if (free.base != nullptr && free.obstacles.empty())
        return start_from(std::move(free), std::move(left_out));
    Attempt all = attempt_with_all(situation, found.nodes);
    if (!is_all_forced(situation, all.obstacles)) return blocked(std::move(all.obstacles));
    return start_from(std::move(all), std::move(found.left_out));
}

Form first_form(const Start& start, std::span<const Cookie> attached, std::uint64_t new_id,
                Head head) {
    CHECK(!attached.empty() && (attached.size() == 1 || start.base.stopped_cleanly));
    Form form = start.base;
    form.history = fork(std::move(form.history), new_id);
    form.head = head;
    form.stopped_cleanly = false;
    form.is_forming = false;
    if (start.votes_begin_anew) form.votes_since = form.history.age;
    const auto is_lost = [&start](const NodeRecord& node) {
        return std::ranges::find(start.lost_votes, node.cookie) != start.lost_votes.end();
    };
    std::erase_if(form.nodes,
                  [&](const NodeRecord& node) { return node.is_witness && is_lost(node); });
    for (NodeRecord& node : form.nodes) {
        node.attached = std::ranges::find(attached, node.cookie) != attached.end();
        if (is_lost(node)) node.has_vote = false;
    }
    if (form.votes() == 0) form.quorum = Quorum::none;
    for (const Cookie cookie : attached)
        CHECK(std::ranges::find(start.sources, cookie, &Member::cookie) != start.sources.end());
    CHECK(broken_rule(form) == nullptr);
    return form;
}

std::string stranger(const Form& current, const Place& seen) {
    if (const auto* superblock = std::get_if<Superblock>(&seen.seen))
        return text::stranger(current, *superblock);
    if (const auto* unreadable = std::get_if<Unreadable>(&seen.seen))
        return text::stranger(*unreadable);
    return std::get<Unreachable>(seen.seen).why;
}

Admission admit(const Form& current, const Superblock& arriving) {
    if (arriving.form.storage_id != current.storage_id) return Admission::is_foreign;
    switch (compare(arriving.form.history, current.history)) {
        case Order::newer:
            return Admission::is_newer;
        case Order::equal:
        case Order::older:
            break;
        case Order::diverged:
            // Each age that was in force since the votes are what they are is on the way to this
            // one: it comes from one in force, and each two majorities have a vote in common.
            const bool can_count =
                current.quorum == Quorum::majority && arriving.form.quorum == Quorum::majority &&
                arriving.form.votes_since == current.votes_since &&
                !arriving.form.history.is_cut_short && !current.history.is_cut_short;
            if (!can_count) return Admission::is_diverged;
            break;
    }
    return current.find(arriving.cookie) != nullptr ? Admission::joins : Admission::is_no_member;
}

}  // namespace dst::metadata
