// Tally: what many runs come to: how many failed, how fast they were, how often each fault struck.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>

#include "sim/faults.h"
#include "sim/run/run.h"

namespace dst::sim {

class Tally {
  public:
    void add(const Report& report, std::uint64_t seed);
    [[nodiscard]] std::uint64_t failed() const { return failed_; }
    [[nodiscard]] double wall_seconds() const;
    /// Some lines.
    [[nodiscard]] std::string summary() const;

  private:
    struct Count {
        std::uint64_t runs = 0;
        std::uint64_t times = 0;
    };
    [[nodiscard]] std::string table() const;

    const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
    std::uint64_t runs_ = 0;
    std::uint64_t failed_ = 0;
    std::uint64_t first_seed_ = 0;
    std::uint64_t last_seed_ = 0;
    std::uint64_t requests_ = 0;
    double virtual_seconds_ = 0;
    double calm_most_ = 0;
    std::array<Count, kFaultKinds> faults_{};
};

}  // namespace dst::sim
