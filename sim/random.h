// Random: the one stream of pseudo-random numbers that everything in a world is drawn from.
//
// xoshiro256** (Blackman and Vigna), seeded by SplitMix64: our own, because the distributions of
// the standard library differ from one library to the next, and a seed must mean the same on every
// machine. Nothing here computes with floating point.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "base/check.h"
#include "io/clock.h"

namespace dst::sim {

/// How often something happens: so many times in a million.
struct Rate {
    std::uint32_t per_million = 0;
    friend bool operator==(Rate, Rate) = default;
};
[[nodiscard]] constexpr Rate percent(std::uint32_t hundredths) { return {hundredths * 10'000}; }

/// One step of SplitMix64: spreads `state` over all bits, and moves it on.
[[nodiscard]] constexpr std::uint64_t split_mix(std::uint64_t& state) {
    std::uint64_t mixed = state += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
}

class Random final : public io::Random {
  public:
    explicit Random(std::uint64_t seed) {
        for (std::uint64_t& word : state_) word = split_mix(seed);
    }

    [[nodiscard]] std::uint64_t next() override {
        const std::uint64_t drawn = std::rotl(state_[1] * 5, 7) * 9;
        const std::uint64_t shifted = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= shifted;
        state_[3] = std::rotl(state_[3], 45);
        return drawn;
    }

    /// True once in `count` times.
    [[nodiscard]] bool one_in(std::uint64_t count) { return below(count) == 0; }
    [[nodiscard]] bool happens(Rate rate) {
        return rate.per_million > 0 && below(1'000'000) < rate.per_million;
    }
    /// Uniform in [least, most].
    [[nodiscard]] std::uint64_t between(std::uint64_t least, std::uint64_t most) {
        CHECK(least <= most);
        return least + below(most - least + 1);
    }
    [[nodiscard]] io::Duration between(io::Duration least, io::Duration most) {
        CHECK(least <= most);
        return least + up_to(most - least);
    }
    /// Uniform in [0, most].
    [[nodiscard]] io::Duration up_to(io::Duration most) {
        if (most <= io::Duration::zero()) return io::Duration::zero();
        const auto bound = static_cast<std::uint64_t>(most.count()) + 1;
        return io::Duration(static_cast<io::Duration::rep>(below(bound)));
    }

  private:
    std::array<std::uint64_t, 4> state_{};
};

}  // namespace dst::sim
