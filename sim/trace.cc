#include "sim/trace.h"

#include <iterator>

#include "sim/event_queue.h"

namespace dst::sim {

void Trace::write(io::TimePoint now, std::string_view who, std::string_view text) {
    const auto since = (now - EventQueue::kBegin).count();
    constexpr std::int64_t kSecond = 1'000'000'000;
    line_.clear();
    fmt::format_to(std::back_inserter(line_), "{:4}.{:09} {:<18} {}", since / kSecond,
                   since % kSecond, who, text);
    sink_(line_);
}

}  // namespace dst::sim
