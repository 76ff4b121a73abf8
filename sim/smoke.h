// Smoke: the smallest clusters that matter, as a proof that the simulator runs the real code, and
// as the measure of its speed. Every read of a client is compared with a model, while everything
// happens that may happen to everybody but the client.
//
//     exporter   a disk behind an exporter on one host, a node on another, a third looks on
//     errors     the same, and the disk fails in every way that is permitted
//     stack      two exporters; a head that joins their disks and one of its own; a node to that
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sim/trace.h"

namespace dst::sim {

enum class Shape : std::uint8_t { exporter, errors, stack };
[[nodiscard]] std::optional<Shape> parse_shape(std::string_view name);

struct SmokeSettings {
    std::uint64_t seed = 1;
    Shape shape = Shape::exporter;
    std::uint64_t requests = 2000;
    std::uint64_t faults = 10;
    Trace::Sink trace{};
};

struct SmokeResult {
    /// What went wrong, first of all; empty: nothing.
    std::string failure;
    std::uint64_t answered = 0;
    std::uint64_t failed = 0;  // of those answered
    std::uint64_t faults = 0;
    std::uint64_t replayed = 0;  // changes that the node has sent again
    double virtual_seconds = 0;
    std::uint64_t events = 0;
    std::uint64_t digest = 0;
};

[[nodiscard]] SmokeResult run_smoke(const SmokeSettings& settings);

}  // namespace dst::sim
