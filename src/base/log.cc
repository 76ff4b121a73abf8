#include "base/log.h"

#include <atomic>
#include <cstdio>

namespace dst::log {
namespace {

void to_stderr(Level, std::string_view line) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
}

// The one piece of global state: a line must be possible from everywhere, at any time.
std::atomic<Sink> current_sink = to_stderr;
std::atomic<Level> lowest = Level::info;

}  // namespace

void set_sink(Sink sink) { current_sink = sink; }
void set_level(Level level) { lowest = level; }
bool is_on(Level level) { return level >= lowest.load(std::memory_order_relaxed); }
void write(Level level, std::string_view line) {
    if (const Sink sink = current_sink) sink(level, line);
}

}  // namespace dst::log
