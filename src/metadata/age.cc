#include "metadata/age.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace dst::metadata {

namespace {

bool is_valid(const Age& age) {
    return age.id != 0 && age.generation >= 1 && age.generation <= kGenerationMax;
}

}  // namespace

std::string to_string(const Age& age) { return fmt::format("{:016x}.{}", age.id, age.generation); }

bool is_valid(const History& history) {
    if (history.path.size() > kPathMax || !is_valid(history.age)) return false;
    std::vector<std::uint64_t> ids{history.age.id};
    for (const Age& age : history.path) {
        if (!is_valid(age)) return false;
        ids.push_back(age.id);
    }
    std::ranges::sort(ids);
    return std::ranges::adjacent_find(ids) == ids.end();
}

std::optional<std::uint64_t> last_generation(const History& history, std::uint64_t id) {
    if (history.age.id == id) return history.age.generation;
    const auto entry = std::ranges::find(history.path, id, &Age::id);
    if (entry == history.path.end()) return std::nullopt;
    return entry->generation;
}

bool passes_through(const History& history, const Age& age) {
    const auto last = last_generation(history, age.id);
    return last && age.generation <= *last;
}

Order compare(const History& a, const History& b) {
    if (a.age == b.age) return Order::equal;
    const bool is_newer = passes_through(a, b.age);
    const bool is_older = passes_through(b, a.age);
    if (is_newer == is_older) return Order::diverged;
    return is_newer ? Order::newer : Order::older;
}

History first_history(std::uint64_t id) {
    CHECK(id != 0);
    return {.age = {.id = id, .generation = 1}, .path = {}, .is_cut_short = false};
}

History next_generation(History history) {
    CHECK(history.age.generation < kGenerationMax);
    ++history.age.generation;
    return history;
}

History fork(History history, std::uint64_t id) {
    CHECK(id != 0 && !last_generation(history, id));
    if (history.path.size() == kPathMax) {
        history.path.erase(history.path.begin());
        history.is_cut_short = true;
    }
    history.path.push_back(history.age);
    history.age = {.id = id, .generation = 1};
    return history;
}

History forget_before(History history, std::span<const Age> held) {
    CHECK(!held.empty());
    auto oldest = history.path.end();
    for (const Age& age : held) {
        if (!passes_through(history, age)) return history;
        oldest = std::min(oldest, std::ranges::find(history.path, age.id, &Age::id));
    }
    history.path.erase(history.path.begin(), oldest);
    history.is_cut_short = false;
    return history;
}

std::optional<Age> first_apart(const History& from, const History& to) {
    // Back along `to`'s way, to the last id that both went through.
    Age step = to.age;
    std::optional<Age> next;
    for (std::size_t left = to.path.size();;) {
        if (const auto common = last_generation(from, step.id)) {
            if (step.generation > *common) return Age{.id = step.id, .generation = *common + 1};
            return next;
        }
        if (left == 0) return std::nullopt;
        next = Age{.id = step.id, .generation = 1};
        step = to.path[--left];
    }
}

}  // namespace dst::metadata
