// Measures: how much was asked of something that takes requests, and how long it took.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/latency.h"
#include "base/result.h"
#include "base/units.h"
#include "block/request.h"

namespace dst::block {

inline constexpr std::size_t kOps = static_cast<std::size_t>(Op::block_status) + 1;

/// By operation.
template <typename T>
class ByOp {
  public:
    [[nodiscard]] T& operator[](Op op) { return all_[static_cast<std::size_t>(op)]; }
    [[nodiscard]] const T& operator[](Op op) const { return all_[static_cast<std::size_t>(op)]; }

  private:
    std::array<T, kOps> all_{};
};

/// Grows only. Requests are counted when they are done; how many they were says `took`.
struct Measure {
    std::uint64_t errors = 0;
    std::uint64_t sectors = 0;
    Latency took;
};

struct Measures : ByOp<Measure> {
    void note(const Request& request, const Result<>& done, std::chrono::nanoseconds took) {
        Measure& measure = (*this)[request.op];
        measure.took.add(took);
        if (!done)
            ++measure.errors;
        else if (request.op != Op::flush)
            measure.sectors += request.range.count.value();
    }
};

}  // namespace dst::block
