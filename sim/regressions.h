// Regressions: seeds that have found something once, a line each:
//
//     SCENARIO SEED   what it was
//
// Lines that begin with # are for people. A seed means something else when anything before its
// discovery draws one number more, so a scenario with steps or a unit test is better where it can
// be had.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace dst::sim {

struct Regression {
    std::string scenario;
    std::uint64_t seed = 0;
    std::string what;
};
[[nodiscard]] Outcome<std::vector<Regression>> load_regressions(const std::string& path);

}  // namespace dst::sim
