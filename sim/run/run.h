// Run: a scenario from its first start to its last stop, and what was found.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "sim/check/finding.h"
#include "sim/faults.h"
#include "sim/scenario/scenario.h"
#include "sim/trace.h"

namespace dst::sim {

struct Report {
    std::vector<check::Finding> findings;  // empty: all is well
    std::uint64_t requests = 0;            // answered
    std::uint64_t failed = 0;              // of those: with an error, or lost
    std::array<std::uint64_t, kFaultKinds> faults{};
    double virtual_seconds = 0;
    double calm_seconds = 0;  // from when it was calm until the last request was answered
    std::uint64_t events = 0;
    /// Equal for equal runs.
    std::uint64_t digest = 0;
};

/// The same scenario and seed give the same report, and the same trace, everywhere.
[[nodiscard]] Report run(const Scenario& scenario, std::uint64_t seed, Trace::Sink trace = {});

}  // namespace dst::sim
