// Trace: what happened, a line an event, when somebody wants to read it; and always a number that
// two equal runs have in common.
//
// Lines hold names, times and numbers that mean the same on every machine; never an address.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "io/clock.h"

namespace dst::sim {

class Trace {
  public:
    using Sink = std::function<void(std::string_view line)>;

    explicit Trace(Sink sink) : sink_(std::move(sink)) {}

    [[nodiscard]] bool is_on() const { return sink_ != nullptr; }
    /// `TIME WHO TEXT`, the time in seconds from the world's begin.
    template <typename... Args>
    void line(io::TimePoint now, std::string_view who, fmt::format_string<Args...> format,
              Args&&... args) {
        if (is_on()) write(now, who, fmt::format(format, std::forward<Args>(args)...));
    }
    void write(io::TimePoint now, std::string_view who, std::string_view text);

    /// Takes part in the digest.
    void mix(std::uint64_t value) { digest_ = (digest_ ^ value) * 0x9e3779b97f4a7c15 + 1; }
    /// The same for two runs in which the same happened in the same order.
    [[nodiscard]] std::uint64_t digest() const { return digest_ ^ (digest_ >> 32); }

  private:
    Sink sink_;
    std::string line_;
    std::uint64_t digest_ = 0;
};

}  // namespace dst::sim
