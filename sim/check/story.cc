#include "sim/check/story.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "sim/event_queue.h"

namespace dst::sim::check {

using block::Op;

std::string to_string(const Operation& operation, History::Number number) {
    std::string text = fmt::format("{} #{}", block::to_string(operation.op), number);
    if (operation.fua) text += " (fua)";
    if (operation.op != Op::flush)
        text +=
            fmt::format(" of {}+{}", operation.range.first.value(), operation.range.count.value());
    return text;
}

std::string to_string(io::TimePoint time) {
    constexpr std::int64_t kSecond = 1'000'000'000;
    const auto since = (time - EventQueue::kBegin).count();
    return fmt::format("{}.{:06}", since / kSecond, since % kSecond / 1000);
}

namespace {

std::string fate_of(const Operation& operation) {
    switch (operation.fate) {
        case Fate::open:
            return "not answered";
        case Fate::done:
            return "done";
        case Fate::failed:
            return fmt::format("failed: {}", to_string(operation.error));
        case Fate::lost:
            return "never answered: its client or its connection was gone";
    }
    return {};
}

}  // namespace

Story::Story(const History& history, SectorIndex sector, History::Number read,
             History::Number other)
    : history_(history),
      sector_(sector),
      read_(read),
      other_(other),
      touches_(history.touches_of(sector)) {
    std::set<History::Number> told;
    for (const auto& touch : touches_)
        if (told.insert(touch.number).second) tell(touch.number);
    if (told.insert(read).second) tell(read);
    tell_flushes();
    tell_events();
    std::ranges::sort(lines_, {}, &Line::order);
    // What came after the contradiction explains nothing.
    const Order until = history_.operation(read_).end;
    std::erase_if(lines_, [&](const Line& line) { return line.order > until; });
}

void Story::tell(History::Number number) {
    const Operation& operation = history_.operation(number);
    std::string what = fate_of(operation);
    for (const auto& touch : touches_) {
        if (touch.number != number || block::is_change(operation.op) ||
            operation.fate != Fate::done)
            continue;
        what = touch.kind == Sight::Kind::data   ? fmt::format("found #{}", touch.found)
               : touch.kind == Sight::Kind::zero ? std::string("found zeroes")
                                                 : std::string("found what nobody wrote");
    }
    const bool is_marked = number == read_ || number == other_;
    const std::string end =
        operation.end == kNever ? std::string("...") : to_string(operation.end_time);
    lines_.push_back(
        {operation.begin, fmt::format("  {} {:>12} .. {:>12}  {:<10} {}: {}",
                                      is_marked ? "->" : "  ", to_string(operation.begin_time), end,
                                      operation.client, to_string(operation, number), what)});
}

/// Of the many flushes those alone that were the first to make a change of this sector durable.
void Story::tell_flushes() {
    std::set<History::Number> told;
    for (const auto& touch : touches_) {
        const Operation& change = history_.operation(touch.number);
        if (!block::is_change(change.op) || change.fate != Fate::done || change.fua) continue;
        for (History::Number number = touch.number; number <= history_.operations_.size();
             ++number) {
            const Operation& flush = history_.operation(number);
            if (flush.op != Op::flush || flush.fate != Fate::done || flush.begin < change.end)
                continue;
            if (told.insert(number).second) tell(number);
            break;
        }
    }
}

void Story::tell_events() {
    for (const auto& event : history_.events_)
        lines_.push_back({event.order, fmt::format("     {:>12}                  {}",
                                                   to_string(event.time), event.why)});
}

Finding Story::finding(std::string_view check, std::string_view text) const {
    std::string told;
    const std::size_t skipped = lines_.size() > kLinesMax ? lines_.size() - kLinesMax : 0;
    if (skipped > 0) told = fmt::format("     ... {} lines before\n", skipped);
    for (std::size_t at = skipped; at < lines_.size(); ++at) told += lines_[at].text + "\n";
    return {.check = std::string(check),
            .text = fmt::format("{}, sector {}: {}", history_.name(), sector_.value(), text),
            .when = history_.operation(read_).end_time,
            .story = told};
}

}  // namespace dst::sim::check
