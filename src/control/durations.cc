#include "control/durations.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

namespace dst::control {
namespace {

struct DurationUnit {
    std::string_view name;
    std::int64_t nanoseconds;
};
// Largest first.
constexpr std::array kDurationUnits = {
    DurationUnit{"d", 86'400'000'000'000}, DurationUnit{"h", 3'600'000'000'000},
    DurationUnit{"m", 60'000'000'000},     DurationUnit{"s", 1'000'000'000},
    DurationUnit{"ms", 1'000'000},         DurationUnit{"us", 1'000},
};
constexpr Duration kDurationMax = std::chrono::hours(24 * 3653);

constexpr std::string_view kSizeUnits = "KMGTPE";

/// Takes the digits off the front of `text`; nothing if there are none or too many.
std::optional<std::uint64_t> take_number(std::string_view& text) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{}) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return number;
}

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return out;
}

/// The shift that a unit stands for; nothing if it is none.
std::optional<unsigned> size_shift(std::string_view unit) {
    if (unit.empty()) return 0U;
    const std::string name = lower(unit);
    if (name.size() != 1 && name.substr(1) != "ib") return std::nullopt;
    const auto at = lower(kSizeUnits).find(name.front());
    if (at == std::string::npos) return std::nullopt;
    return static_cast<unsigned>(10 * (at + 1));
}

}  // namespace

Outcome<Duration> parse_duration(std::string_view text) {
    std::string_view rest = text;
    const auto number = take_number(rest);
    if (!number) {
        return refuse(
            fmt::format("{} is no duration; write a whole number and a unit, such as 5s or 100ms",
                        in_quotes(text)));
    }
    if (rest.empty()) {
        return refuse(fmt::format("{} has no unit; write {}s, {}ms or {}m", in_quotes(text),
                                  *number, *number, *number));
    }
    for (const auto& unit : kDurationUnits) {
        if (rest != unit.name) continue;
        if (*number == 0)
            return refuse(fmt::format("{} is zero; it must be longer", in_quotes(text)));
        const auto most = static_cast<std::uint64_t>(kDurationMax.count() / unit.nanoseconds);
        if (*number > most) {
            return refuse(fmt::format("{} is more than ten years; choose less", in_quotes(text)));
        }
        return Duration(static_cast<std::int64_t>(*number) * unit.nanoseconds);
    }
    return refuse(fmt::format(
        "{} has an unknown unit; use us, ms, s, m, h or d after a whole number", in_quotes(text)));
}

std::string to_string(Duration duration) {
    for (const auto& unit : kDurationUnits) {
        if (duration.count() != 0 && duration.count() % unit.nanoseconds == 0) {
            return fmt::format("{}{}", duration.count() / unit.nanoseconds, unit.name);
        }
    }
    return fmt::format("{}us", duration.count() / 1000);
}

Outcome<ByteCount> parse_size(std::string_view text) {
    std::string_view rest = text;
    const auto number = take_number(rest);
    const auto shift = number ? size_shift(rest) : std::nullopt;
    if (!shift) {
        return refuse(fmt::format(
            "{} is no size; write a whole number and K, M, G or T (powers of 1024), such as 64M",
            in_quotes(text)));
    }
    if (*number > (std::numeric_limits<std::uint64_t>::max() >> 1 >> *shift)) {
        return refuse(fmt::format("{} is more than 8 EiB; choose less", in_quotes(text)));
    }
    return ByteCount(*number << *shift);
}

std::string to_string(ByteCount size) {
    std::uint64_t number = size.value();
    std::size_t unit = 0;
    while (number != 0 && number % 1024 == 0 && unit < kSizeUnits.size()) {
        number /= 1024;
        ++unit;
    }
    return unit == 0 ? fmt::format("{}", number)
                     : fmt::format("{}{}", number, kSizeUnits[unit - 1]);
}

std::string human_size(ByteCount size) {
    if (size.value() < 1024) return fmt::format("{} B", size.value());
    auto number = static_cast<double>(size.value()) / 1024;
    std::size_t unit = 0;
    // 999.5 and more would be printed with four digits.
    while (number >= 999.5 && unit + 1 < kSizeUnits.size()) {
        number /= 1024;
        ++unit;
    }
    const int decimals = number < 9.995 ? 2 : number < 99.95 ? 1 : 0;
    return fmt::format("{:.{}f} {}iB", number, decimals, kSizeUnits[unit]);
}

std::string human_duration(Duration duration) {
    std::string out;
    int parts = 0;
    for (const auto& unit : kDurationUnits) {
        if (unit.name == "ms") break;
        const auto number = duration.count() / unit.nanoseconds;
        duration %= unit.nanoseconds;
        if (number <= 0 && parts == 0) continue;
        if (number > 0) out += fmt::format("{}{}{}", out.empty() ? "" : " ", number, unit.name);
        if (++parts == 2) break;
    }
    return out.empty() ? "0s" : out;
}

std::string in_quotes(std::string_view value) {
    constexpr std::size_t kShownMax = 120;
    std::string out = "\"";
    for (const char c : value.substr(0, kShownMax)) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') out += '\\';
        if (byte < 0x20 || byte == 0x7f) {
            out += fmt::format("\\x{:02x}", byte);
        } else {
            out += c;
        }
    }
    if (value.size() > kShownMax) out += "...";
    return out + "\"";
}

}  // namespace dst::control
