// Randomness for ids and jitter: xoshiro256** (Blackman and Vigna), seeded by the kernel.
#pragma once

#include <array>
#include <cstdint>

#include "io/clock.h"

namespace dst::io::uring {

class SystemRandom final : public Random {
  public:
    SystemRandom();
    [[nodiscard]] std::uint64_t next() override;

  private:
    std::array<std::uint64_t, 4> state_{};
};

}  // namespace dst::io::uring
