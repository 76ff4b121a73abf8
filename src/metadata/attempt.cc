#include "metadata/attempt.h"

#include <algorithm>

#include "base/check.h"
#include "metadata/assembly_text.h"
#include "metadata/sides.h"

namespace dst::metadata {

bool is_source(const Seen& seen, const Form& base) {
    const NodeRecord* record = base.find(seen.superblock->cookie);
    return record != nullptr && record->attached &&
           passes_through(base.history, seen.history().age);
}

namespace {

using Kind = Obstacle::Kind;

/// The form that holds `age`, as an attached node has it, if one is there.
const Form& form_of(const SeenNodes& nodes, const Age& age) {
    const Form* found = nullptr;
    for (const Seen& seen : nodes) {
        if (seen.history().age != age) continue;
        if (found == nullptr || seen.superblock->self().attached) found = &seen.form();
        if (seen.superblock->self().attached) break;
    }
    CHECK(found != nullptr);
    return *found;
}

bool has_vote(const Seen& seen, const Form& form) {
    const NodeRecord* record = form.find(seen.superblock->cookie);
    return record != nullptr && record->has_vote && seen.place->can_reserve;
}

/// Counting votes decides only among those who agree on who votes.
bool agree_on_votes(const std::vector<const Form*>& forms) {
    return std::ranges::all_of(forms, [&](const Form* form) {
        return form->quorum == Quorum::majority && form->votes_since == forms.front()->votes_since;
    });
}

bool is_any_cut_short(const SeenNodes& nodes) {
    return std::ranges::any_of(nodes, [](const Seen& seen) { return seen.history().is_cut_short; });
}

std::vector<text::Side> sides_of(const SeenNodes& nodes, const Histories& newest) {
    std::vector<text::Side> sides;
    for (const History* history : newest) {
        sides.push_back({.age = history->age, .holders = {}});
        for (const Seen& seen : nodes)
            if (seen.history().age == history->age)
                sides.back().holders.push_back(seen.superblock->cookie);
    }
    return sides;
}

/// Of the histories that are safe to go on with, one that there is a source for, if any: best one
/// that holds the very age.
const Form* safe_base(const SeenNodes& nodes, const Histories& newest, const Votes& votes) {
    const Form* best = nullptr;
    int best_rank = -1;
    for (const History* history : newest) {
        if (!is_safe(*history, newest, votes)) continue;
        const Form& form = form_of(nodes, history->age);
        int rank = 0;
        for (const Seen& seen : nodes)
            if (is_source(seen, form))
                rank = std::max(rank, seen.history().age == history->age ? 2 : 1);
        if (rank > best_rank) best = &form;
        best_rank = std::max(rank, best_rank);
    }
    return best;
}

/// The one side that passes through what the node `keep` holds.
const Form* kept_base(const SeenNodes& nodes, const Histories& newest, Cookie keep) {
    const auto kept = std::ranges::find_if(
        nodes, [keep](const Seen& seen) { return seen.superblock->cookie == keep; });
    if (kept == nodes.end()) return nullptr;
    const Form* base = nullptr;
    for (const History* history : newest) {
        if (!passes_through(*history, kept->history().age)) continue;
        if (base != nullptr) return nullptr;
        base = &form_of(nodes, history->age);
    }
    return base;
}

/// Which of several newest ages to go on with.
void choose_side(const Situation& situation, const Histories& newest, Attempt& attempt) {
    std::vector<const Form*> forms;
    for (const History* history : newest) forms.push_back(&form_of(attempt.nodes, history->age));
    const bool can_count = agree_on_votes(forms) && !is_any_cut_short(attempt.nodes);
    const auto absent = absent_votes_of(attempt.nodes, *forms.front());
    if (can_count) {
        Votes votes{.present = {}, .absent = absent.size(), .majority = forms.front()->majority()};
        for (const Seen& seen : attempt.nodes)
            if (has_vote(seen, *forms.front())) votes.present.push_back(&seen.history());
        attempt.base = safe_base(attempt.nodes, newest, votes);
        if (attempt.base != nullptr) return;
    }
    if (situation.keep) attempt.base = kept_base(attempt.nodes, newest, *situation.keep);
    attempt.is_resolved = attempt.base != nullptr;
    if (attempt.is_resolved) return;
    const auto sides = sides_of(attempt.nodes, newest);
    if (can_count && !absent.empty()) {
        attempt.obstruct(Kind::undecided, text::undecided(situation, sides, absent));
    } else {
        attempt.obstruct(Kind::diverged, text::diverged(situation, sides));
    }
}

/// With `base` given: are those there whom it takes?
void check_presence(const Situation& situation, Attempt& attempt) {
    const Form& base = *attempt.base;
    const auto is_source_here = [&](const NodeRecord& record) {
        return std::ranges::any_of(attempt.nodes, [&](const Seen& seen) {
            return seen.superblock->cookie == record.cookie && is_source(seen, base);
        });
    };
    attempt.absent_votes = absent_votes_of(attempt.nodes, base);
    if (base.quorum == Quorum::majority &&
        base.votes() - attempt.absent_votes.size() < base.majority())
        attempt.obstruct(Kind::no_majority,
                         text::no_majority(situation, base, attempt.absent_votes));
    if (std::ranges::none_of(base.nodes, is_source_here)) {
        attempt.obstruct(Kind::no_source, text::no_source(situation, base));
        return;
    }
    if (base.quorum == Quorum::majority) return;
    for (const NodeRecord& record : base.nodes)
        if (record.attached && !is_source_here(record))
            attempt.obstruct(Kind::missing, "waits for " + text::missing(situation, record) +
                                                ", attached in the newest age");
}

}  // namespace

std::vector<const NodeRecord*> absent_votes_of(const SeenNodes& nodes, const Form& form) {
    std::vector<const NodeRecord*> absent;
    for (const NodeRecord& record : form.nodes) {
        const bool is_here = std::ranges::any_of(nodes, [&](const Seen& seen) {
            return seen.superblock->cookie == record.cookie && has_vote(seen, form);
        });
        if (record.has_vote && !is_here) absent.push_back(&record);
    }
    return absent;
}

Attempt attempt_with(const Situation& situation, SeenNodes nodes) {
    Attempt attempt{.nodes = std::move(nodes)};
    std::vector<const History*> histories;
    for (const Seen& seen : attempt.nodes) histories.push_back(&seen.history());
    const Histories newest = newest_of(histories);
    if (newest.size() == 1) {
        attempt.base = &form_of(attempt.nodes, newest.front()->age);
    } else {
        choose_side(situation, newest, attempt);
    }
    if (attempt.base != nullptr) check_presence(situation, attempt);
    return attempt;
}

}  // namespace dst::metadata
