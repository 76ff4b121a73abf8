// Library: the scenarios of scenarios/, which every dst-sim has in it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sim/scenario/scenario.h"

namespace dst::sim {

struct LibraryEntry {
    std::string_view name;
    std::string_view text;
};
/// By name.
[[nodiscard]] std::span<const LibraryEntry> library();

/// A scenario of the library by its name, or of a file by its path (which has a `/` or ends in
/// `.toml`), as `seed` draws it.
[[nodiscard]] Outcome<Scenario> load_scenario(const std::string& name, std::uint64_t seed);

}  // namespace dst::sim
