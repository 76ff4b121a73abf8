#include "control/status.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <chrono>
#include <utility>

namespace dst::control {

std::string_view to_string(StorageState state) {
    switch (state) {
        case StorageState::running:
            return "running";
        case StorageState::degraded:
            return "degraded";
        case StorageState::holding:
            return "holding";
        case StorageState::waiting:
            return "waiting";
        case StorageState::fenced:
            return "fenced";
        case StorageState::stopped:
            return "stopped";
    }
    return "waiting";
}

std::string to_rfc3339(io::WallTime time) {
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date(day);
    const std::chrono::hh_mm_ss clock(std::chrono::floor<std::chrono::milliseconds>(time - day));
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", int{date.year()},
                       unsigned{date.month()}, unsigned{date.day()}, clock.hours().count(),
                       clock.minutes().count(), clock.seconds().count(),
                       clock.subseconds().count());
}

Outcome<io::WallTime> parse_rfc3339(std::string_view text) {
    // 0123456789012345678901 23
    // 2026-01-31T12:00:00.250Z
    struct Part {
        std::size_t at;
        std::size_t length;
    };
    constexpr std::array<Part, 7> kParts = {
        {{0, 4}, {5, 2}, {8, 2}, {11, 2}, {14, 2}, {17, 2}, {20, 3}}};
    std::array<int, 7> numbers{};
    bool is_good = text.size() == 24 && text[4] == '-' && text[7] == '-' && text[10] == 'T' &&
                   text[13] == ':' && text[16] == ':' && text[19] == '.' && text[23] == 'Z';
    for (std::size_t i = 0; is_good && i < kParts.size(); ++i) {
        const char* const first = text.data() + kParts[i].at;
        const char* const last = first + kParts[i].length;
        is_good = std::from_chars(first, last, numbers[i]).ptr == last && numbers[i] >= 0;
    }
    const auto [year, month, day, hours, minutes, seconds, milliseconds] = numbers;
    const std::chrono::year_month_day date(std::chrono::year(year),
                                           std::chrono::month(static_cast<unsigned>(month)),
                                           std::chrono::day(static_cast<unsigned>(day)));
    if (!is_good || !date.ok() || hours > 23 || minutes > 59 || seconds > 60 || year < 1700 ||
        year > 2200) {
        return refuse("not a time such as 2026-01-31T12:00:00.250Z");
    }
    return std::chrono::sys_days(date) + std::chrono::hours(hours) + std::chrono::minutes(minutes) +
           std::chrono::seconds(seconds) + std::chrono::milliseconds(milliseconds);
}

}  // namespace dst::control
