// Log lines: what, which object, why. Where they go is for the program to say (`set_sink`).
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string_view>
#include <utility>

namespace dst::log {

enum class Level : std::uint8_t { debug, info, warning, error };

/// Takes lines from any thread.
using Sink = void (*)(Level level, std::string_view line);
/// Where lines go from now on; null: nowhere. Before the first call they go to standard error.
void set_sink(Sink sink);
/// Lines below `level` are dropped before they are made.
void set_level(Level level);
[[nodiscard]] bool is_on(Level level);
void write(Level level, std::string_view line);

template <typename... Args>
void at(Level level, fmt::format_string<Args...> format, Args&&... args) {
    if (is_on(level)) write(level, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
    at(Level::debug, format, std::forward<Args>(args)...);
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
    at(Level::info, format, std::forward<Args>(args)...);
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
    at(Level::warning, format, std::forward<Args>(args)...);
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
    at(Level::error, format, std::forward<Args>(args)...);
}

}  // namespace dst::log
