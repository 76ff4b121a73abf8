// Durations and sizes as people write them: "5s", "100ms", "64M". Pure.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/units.h"

namespace dst::control {

using Duration = std::chrono::nanoseconds;

/// A whole number with a unit: us, ms, s, m, h or d. More than zero, at most ten years.
/// The text of a refusal begins with the quoted value; it names no key and no file.
[[nodiscard]] Outcome<Duration> parse_duration(std::string_view text);
/// As `parse_duration` reads it, in the largest unit that fits exactly; below 1 us it is cut.
[[nodiscard]] std::string to_string(Duration duration);

/// Bytes: a whole number, alone or with K, M, G, T, P or E (powers of 1024; "64MiB" too), in
/// either case. Zero is a size; whoever can't use it refuses it.
[[nodiscard]] Outcome<ByteCount> parse_size(std::string_view text);
/// As `parse_size` reads it, in the largest unit that fits exactly.
[[nodiscard]] std::string to_string(ByteCount size);

/// For reading only, three digits: "1.50 GiB", "12.0 KiB", "512 B".
[[nodiscard]] std::string human_size(ByteCount size);
/// For reading only, the two largest units: "3d 4h", "5m 2s", "12s", "0s".
[[nodiscard]] std::string human_duration(Duration duration);

/// The value in double quotes, with what would break the line escaped; long ones are cut.
[[nodiscard]] std::string in_quotes(std::string_view value);

}  // namespace dst::control
