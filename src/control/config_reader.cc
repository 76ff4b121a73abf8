#include "control/config_reader.h"

#include <fmt/format.h>

#include <numeric>

namespace dst::control {
namespace {

/// Edits (insert, remove, replace, swap two neighbours) that make `a` of `b`.
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before;
    std::vector<std::size_t> last(b.size() + 1);
    std::iota(last.begin(), last.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::vector<std::size_t> row(b.size() + 1, i);
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, replace});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = std::min(row[j], before[j - 2] + 1);
            }
        }
        before = std::exchange(last, std::move(row));
    }
    return last.back();
}

}  // namespace

std::string location(std::string_view file_name, unsigned line) {
    if (file_name.empty() || line == 0) return {};
    return fmt::format("{}:{}: ", file_name, line);
}

std::string_view closest(std::string_view key, std::span<const std::string_view> known) {
    constexpr std::size_t kKeyMax = 64;
    if (key.size() > kKeyMax) return {};
    std::string_view best;
    std::size_t best_distance = 1 + std::max<std::size_t>(2, key.size() / 3);
    for (const std::string_view candidate : known) {
        const std::size_t d = distance(key, candidate);
        if (d < best_distance && d < candidate.size()) {
            best = candidate;
            best_distance = d;
        }
    }
    return best;
}

Problem unknown_key(std::string_view location, std::string_view key, std::string_view object,
                    std::span<const std::string_view> known) {
    const std::string_view meant = closest(key, known);
    const std::string hint = meant.empty() ? fmt::format("known are {}", fmt::join(known, ", "))
                                           : fmt::format("did you mean '{}'?", meant);
    return {ErrorCode::invalid,
            fmt::format("{}{}: unknown key {}; {}", location, object, in_quotes(key), hint)};
}

std::string object_name(std::string_view kind, const Value& table) {
    const Value* const name = table.find("name");
    const auto* const text = name == nullptr ? nullptr : name->as<std::string>();
    if (text == nullptr || !check_name(*text)) return fmt::format("[[{}]]", kind);
    return fmt::format("{} '{}'", kind, *text);
}

}  // namespace dst::control
