// For tests: configurations drawn at random, all of which `check` accepts.
#pragma once

#include <random>
#include <string>

#include "control/config.h"

namespace dst::control {

class RandomConfig {
  public:
    explicit RandomConfig(std::uint64_t seed) : random_(seed) {}

    Config config();
    ExportSpec share();
    StorageSpec storage();
    AlgorithmSpec algorithm() { return {"/lib/" + text() + unique("a"), {}}; }

    std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
    bool maybe() { return below(2) == 0; }

  private:
    std::string unique(const std::string& prefix) { return prefix + std::to_string(next_++); }
    std::string text();
    std::string path();
    Duration duration(Duration least, Duration most);
    DeviceSpec device();
    NodeSpec node();

    std::mt19937_64 random_;
    unsigned next_ = 0;
};

}  // namespace dst::control
