// Swarm: each seed draws a scenario of its own: its cluster, its settings, its load, and which
// kinds of faults there are at all. (Groce and others, "Swarm Testing", 2012: who leaves out much
// at random finds more than who does a little of everything every time.)
//
// `dst-sim --seed N --print` shows what a seed has drawn; as a file it is a scenario as any other,
// and with the same seed the same run.
#pragma once

#include <cstdint>

#include "sim/scenario/scenario.h"

namespace dst::sim {

[[nodiscard]] Scenario draw_scenario(std::uint64_t seed);

}  // namespace dst::sim
