// dst-sim: runs simulated clusters, seed by seed.
//
//     dst-sim [--scenario exporter|errors|stack] [--seed N | --seeds A..B] [--trace]
//
// Exit code: 0 clean, 1 a check failed, 2 usage.
#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string_view>

#include "sim/smoke.h"
#include "sim/world.h"

namespace {

struct Options {
    std::string_view scenario = "exporter";
    std::uint64_t first = 1;
    std::uint64_t last = 1;
    bool trace = false;
};

std::optional<std::uint64_t> number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::optional<Options> parse(int count, char** words) {
    Options options;
    for (int at = 1; at < count; ++at) {
        const std::string_view word = words[at];
        if (word == "--trace") {
            options.trace = true;
            continue;
        }
        if (++at == count) return std::nullopt;
        const std::string_view value = words[at];
        if (word == "--scenario" && dst::sim::parse_shape(value)) {
            options.scenario = value;
            continue;
        }
        if (word != "--seed" && word != "--seeds") return std::nullopt;
        const std::size_t dots = value.find("..");
        const auto first = number(value.substr(0, dots));
        const auto last = dots == std::string_view::npos ? first : number(value.substr(dots + 2));
        if (!first || !last || *last < *first) return std::nullopt;
        options.first = *first;
        options.last = *last;
    }
    return options;
}

/// A CHECK of the product has failed: say which seed leads there.
void on_abort(int) {
    if (const auto* const world = dst::sim::World::current())
        std::fprintf(stderr, "aborted: dst-sim --seed %llu --trace\n",
                     static_cast<unsigned long long>(world->seed()));
}

}  // namespace

int main(int count, char** words) {
    const auto options = parse(count, words);
    if (!options) {
        std::fputs(
            "usage: dst-sim [--scenario exporter|errors|stack] [--seed N | --seeds A..B] "
            "[--trace]\n",
            stderr);
        return 2;
    }
    std::signal(SIGABRT, on_abort);
    const auto begin = std::chrono::steady_clock::now();
    std::uint64_t failed = 0;
    double virtual_seconds = 0;
    std::uint64_t seed = options->first;
    while (true) {
        dst::sim::SmokeSettings settings{.seed = seed,
                                         .shape = *dst::sim::parse_shape(options->scenario)};
        if (options->trace)
            settings.trace = [](std::string_view line) { fmt::print("{}\n", line); };
        const auto result = dst::sim::run_smoke(settings);
        virtual_seconds += result.virtual_seconds;
        if (!result.failure.empty()) {
            ++failed;
            fmt::print(
                "seed {} failed after {:.3f} s: {}\n  dst-sim --scenario {} --seed {} --trace\n",
                seed, result.virtual_seconds, result.failure, options->scenario, seed);
        } else if (options->first == options->last) {
            fmt::print(
                "seed {}: {} requests, {} failed, {} faults, {} replayed, {:.3f} s, {} events, "
                "{:x}\n",
                seed, result.answered, result.failed, result.faults, result.replayed,
                result.virtual_seconds, result.events, result.digest);
        }
        if (seed == options->last) break;
        ++seed;
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const std::uint64_t seeds = options->last - options->first + 1;
    fmt::print("{} seeds, {} failed, {:.1f} s, {:.0f} seeds a minute, {:.1f} h simulated\n", seeds,
               failed, seconds, static_cast<double>(seeds) / seconds * 60, virtual_seconds / 3600);
    return failed > 0 ? 1 : 0;
}
