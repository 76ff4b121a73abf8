#include <array>

#include "sim/checkers/checker.h"

namespace dst::sim {

std::span<const CheckerKind> checkers() {
    static constexpr std::array kAll{
        CheckerKind{"history", "every sector is linearizable, and durable over crashes",
                    make_history_checker},
        CheckerKind{"error", "no request fails without a fault that excuses it",
                    make_error_checker},
        CheckerKind{"stop", "an orderly stop ends in time", make_stop_checker},
        CheckerKind{"limit", "memory, replay windows and requests in flight stay within bounds",
                    make_limit_checker},
        CheckerKind{"mirror", "copies are equal where they say so, and ages never go back",
                    make_mirror_checker},
        CheckerKind{"heirs", "whoever a head could go on from has and knows what it needs",
                    make_heirs_checker},
    };
    return kAll;
}

}  // namespace dst::sim
