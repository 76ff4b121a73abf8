// Finding: something that is wrong, and which check has seen it.
#pragma once

#include <string>

#include "io/clock.h"

namespace dst::sim::check {

struct Finding {
    /// The property that does not hold: "linearizable", "durable", "torn", "hang", ...
    std::string check;
    /// What was seen, in one sentence.
    std::string text;
    io::TimePoint when;
    /// What led there, a line each; may be empty.
    std::string story;
};

}  // namespace dst::sim::check
