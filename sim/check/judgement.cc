#include "sim/check/judgement.h"

#include <algorithm>

#include "sim/check/story.h"

namespace dst::sim::check {

using block::Op;

Judgement::Judgement(const History& history) : history_(history) {
    find_crashes();
    find_flushes();
    for (History::Number number = 1; number <= history_.operations_.size(); ++number)
        changes_.push_back(change_of(history_.operation(number), number));
}

void Judgement::find_crashes() {
    using Kind = History::Event::Kind;
    for (const auto& event : history_.events_) {
        if (event.kind == Kind::settled) continue;
        crashes_.push_back({.order = event.order, .is_final = event.kind != Kind::forgot});
        if (event.kind == Kind::loss)
            losses_.push_back({.kind = Change::Kind::undefined,
                               .is_acknowledged = true,
                               .number = kNever,
                               .begin = event.order,
                               .end = event.order});
    }
    settled_after_.assign(crashes_.size(), kNever);
    if (!history_.is_fenced_) return;
    Order settled = kNever;  // after the next final crash
    auto at = settled_after_.rbegin();
    for (auto event = history_.events_.rbegin(); event != history_.events_.rend(); ++event) {
        if (event->kind == Kind::settled) continue;
        if (event->kind != Kind::forgot) settled = first_answer_after(event->order);
        *at++ = settled;
    }
}

/// When the first request was answered well that began after `crash`.
Order Judgement::first_answer_after(Order crash) const {
    Order first = kNever;
    for (const Operation& operation : history_.operations_)
        if (operation.begin > crash && operation.fate == Fate::done)
            first = std::min(first, operation.end);
    return first;
}

/// The flushes in the order of their begins, each with the earliest end of itself and all behind.
void Judgement::find_flushes() {
    for (const Operation& operation : history_.operations_)
        if (operation.op == Op::flush && operation.fate == Fate::done &&
            crash_within(operation) == crashes_.end())
            flushes_.push_back({operation.begin, operation.end});
    for (const auto& event : history_.events_)
        if (event.kind == History::Event::Kind::settled)
            flushes_.push_back({event.order, event.order});
    std::ranges::sort(flushes_, {}, &Flush::from);
    Order earliest = kNever;
    for (auto flush = flushes_.rbegin(); flush != flushes_.rend(); ++flush)
        flush->at = earliest = std::min(earliest, flush->at);
}

/// The crash that it was under way in; the end of the crashes if there is none.
Judgement::CrashAt Judgement::crash_within(const Operation& operation) const {
    const auto first = std::ranges::upper_bound(crashes_, operation.begin, {}, &Crash::order);
    return first != crashes_.end() && first->order < operation.end ? first : crashes_.end();
}

Change Judgement::change_of(const Operation& operation, History::Number number) const {
    Change change{.kind = operation.op == Op::write          ? Change::Kind::data
                          : operation.op == Op::write_zeroes ? Change::Kind::zero
                                                             : Change::Kind::undefined,
                  .number = number,
                  .begin = operation.begin,
                  .end = operation.end};
    const auto crash = crash_within(operation);
    if (crash != crashes_.end() || operation.fate == Fate::open || operation.fate == Fate::lost) {
        // An answer of before the crash, even if it arrives afterwards, says nothing for what is
        // after it.
        const auto next = std::ranges::upper_bound(crashes_, operation.begin, {}, &Crash::order);
        change.end = next == crashes_.end()
                         ? kNever
                         : settled_after_[static_cast<std::size_t>(next - crashes_.begin())];
        return change;
    }
    if (operation.fate == Fate::failed) {
        change.kind = Change::Kind::undefined;
        return change;
    }
    change.is_acknowledged = true;
    if (operation.fua) change.durable = operation.end;
    const auto flush = std::ranges::upper_bound(flushes_, operation.end, {}, &Flush::from);
    if (flush == flushes_.end()) return change;
    // What a crash took a later flush does not bring back.
    const auto next = std::ranges::upper_bound(crashes_, operation.end, {}, &Crash::order);
    if (next == crashes_.end() || flush->at < next->order)
        change.durable = std::min(change.durable, flush->at);
    return change;
}

std::vector<Finding> Judgement::run(std::size_t most) {
    std::vector<Finding> findings;
    for (const auto& damage : history_.damage_) {
        if (findings.size() == most) return findings;
        findings.push_back(Story(history_, damage.sector, damage.read, damage.other)
                               .finding(damage.check, damage.text));
    }
    for (SectorIndex sector; sector < history_.sectors_end(); sector = sector + SectorCount(1)) {
        if (findings.size() == most) return findings;
        if (const auto wrong = judge_sector(sector))
            findings.push_back(Story(history_, sector, wrong->read, wrong->other)
                                   .finding(wrong->check, wrong->text));
    }
    return findings;
}

std::optional<Verdict> Judgement::judge_sector(SectorIndex sector) {
    sector_changes_ = losses_;
    sector_sights_.clear();
    for (const auto& touch : history_.touches_of(sector)) {
        const Operation& operation = history_.operation(touch.number);
        if (block::is_change(operation.op))
            sector_changes_.push_back(changes_[touch.number - 1]);
        else if (operation.fate == Fate::done)
            sector_sights_.push_back({.kind = touch.kind,
                                      .number = touch.found,
                                      .read = touch.number,
                                      .begin = operation.begin,
                                      .end = operation.end});
    }
    std::ranges::sort(sector_changes_, {}, &Change::begin);
    return judge({.changes = sector_changes_, .sights = sector_sights_, .crashes = crashes_});
}

std::vector<Finding> History::judge(std::size_t most) const { return Judgement(*this).run(most); }

}  // namespace dst::sim::check
