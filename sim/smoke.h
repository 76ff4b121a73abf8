// Smoke: the smallest world that matters, as a proof that the simulator runs the real code, and as
// the measure of its speed: a disk behind an exporter on one host, a node with a load on another, a
// third one that looks on, and faults in between. Every read is compared with a model.
#pragma once

#include <cstdint>
#include <string>

#include "sim/trace.h"

namespace dst::sim {

struct SmokeSettings {
    std::uint64_t seed = 1;
    std::uint64_t requests = 2000;
    std::uint64_t faults = 10;
    Trace::Sink trace{};
};

struct SmokeResult {
    /// What went wrong, first of all; empty: nothing.
    std::string failure;
    std::uint64_t answered = 0;
    std::uint64_t faults = 0;
    std::uint64_t replayed = 0;  // changes that the node has sent again
    double virtual_seconds = 0;
    std::uint64_t events = 0;
    std::uint64_t digest = 0;
};

[[nodiscard]] SmokeResult run_smoke(const SmokeSettings& settings);

}  // namespace dst::sim
