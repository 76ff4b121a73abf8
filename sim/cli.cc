#include "sim/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "sim/run/run.h"
#include "sim/scenario/library.h"
#include "sim/swarm/swarm.h"
#include "sim/tally.h"

namespace dst::sim {
namespace {

constexpr int kClean = 0;
constexpr int kCheckFailed = 1;
constexpr int kUsage = 2;

struct Seeds {
    std::uint64_t first = 1;
    std::uint64_t last = 1;
};

struct Options {
    std::string scenario;
    Seeds seeds;
    bool trace = false;
    bool print = false;
    bool until_failure = false;
    std::optional<double> seconds;
};

// What runs now, for a signal handler that may do next to nothing.
char now_running[512];

void note_running(std::string_view command) {
    const std::size_t length = std::min(command.size(), sizeof now_running - 1);
    command.copy(now_running, length);
    now_running[length] = '\0';
}

/// A CHECK of the product has failed, or something worse: say which seed leads there.
void on_abort(int) {
    std::fprintf(stderr, "aborted; replay: %s\n", now_running);
    std::fflush(nullptr);
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// N, or A..B.
std::optional<Seeds> parse_seeds(std::string_view text) {
    const std::size_t dots = text.find("..");
    const auto first = parse_number(text.substr(0, dots));
    const auto last = dots == std::string_view::npos ? first : parse_number(text.substr(dots + 2));
    if (!first || !last || *last < *first) return std::nullopt;
    return Seeds{*first, *last};
}

std::string replay_command(const Options& options, std::uint64_t seed) {
    return fmt::format("dst-sim{}{} --seed {} --trace",
                       options.scenario.empty() ? "" : " --scenario ", options.scenario, seed);
}

int list() {
    for (const LibraryEntry& entry : library()) {
        const auto scenario = load_scenario(std::string(entry.name), 1);
        fmt::print("{:<20} {}\n", entry.name,
                   scenario ? scenario->about : "can't be read: " + scenario.error().text);
    }
    return kClean;
}

Outcome<Scenario> scenario_of(const Options& options, std::uint64_t seed) {
    if (options.scenario.empty()) return draw_scenario(seed);
    return load_scenario(options.scenario, seed);
}

void print_failure(const Options& options, const Report& report, std::uint64_t seed) {
    fmt::print("seed {} of {} failed:\n", seed,
               options.scenario.empty() ? "the swarm" : options.scenario);
    for (const check::Finding& finding : report.findings)
        fmt::print("  {:.6f} s, {}: {}\n{}",
                   std::chrono::duration<double>(finding.when - EventQueue::kBegin).count(),
                   finding.check, finding.text, finding.story);
    fmt::print("  replay: {}\n", replay_command(options, seed));
}

/// One seed; false if a check failed.
Outcome<bool> run_seed(const Options& options, std::uint64_t seed, Tally& tally) {
    TRY(const Scenario scenario, scenario_of(options, seed));
    if (options.print) {
        fmt::print("{}", to_toml(scenario));
        return true;
    }
    note_running(replay_command(options, seed));
    Trace::Sink sink;
    if (options.trace) sink = [](std::string_view line) { fmt::print("{}\n", line); };
    const Report report = run(scenario, seed, std::move(sink));
    tally.add(report);
    if (!report.findings.empty()) print_failure(options, report, seed);
    if (options.seeds.first == options.seeds.last)
        fmt::print("seed {}: {} requests, {} failed, {:.3f} s, {} events, digest {:016x}\n", seed,
                   report.requests, report.failed, report.virtual_seconds, report.events,
                   report.digest);
    return report.findings.empty();
}

int run_all(const Options& options) {
    std::signal(SIGABRT, on_abort);
    std::signal(SIGSEGV, on_abort);
    Tally tally;
    for (std::uint64_t seed = options.seeds.first;; ++seed) {
        const auto passed = run_seed(options, seed, tally);
        if (!passed) {
            fmt::print(stderr, "dst-sim: {}\n", passed.error().text);
            return kUsage;
        }
        const bool is_late = options.seconds && tally.wall_seconds() >= *options.seconds;
        if (seed == options.seeds.last || is_late || (!*passed && options.until_failure)) break;
    }
    if (!options.print) fmt::print("{}", tally.summary(options.seeds.first));
    return tally.failed() > 0 ? kCheckFailed : kClean;
}

}  // namespace

int cli_main(int count, char** words) {
    Options options;
    bool lists = false;
    std::string seeds;
    CLI::App app("Runs simulated clusters: each seed is a run of its own, and always the same.");
    app.add_option("--scenario", options.scenario,
                   "one of the list, or a file; none: each seed draws its own");
    app.add_option("--seed,--seeds", seeds, "N, or A..B: from the first to the last")
        ->default_str("1");
    app.add_flag("--trace", options.trace, "a line an event");
    app.add_flag("--list", lists, "name the scenarios");
    app.add_flag("--print", options.print, "print the scenario of each seed instead of running it");
    app.add_flag("--until-failure", options.until_failure, "end with the first seed that fails");
    app.add_option("--seconds", options.seconds, "end after so much time");
    try {
        app.parse(count, words);
    } catch (const CLI::CallForHelp& help) {
        return app.exit(help);
    } catch (const CLI::ParseError& error) {
        app.exit(error);
        return kUsage;
    }
    if (lists) return list();
    const auto parsed = parse_seeds(seeds.empty() ? "1" : seeds);
    if (!parsed) {
        fmt::print(stderr, "dst-sim: --seeds {}: write N or A..B\n", seeds);
        return kUsage;
    }
    options.seeds = *parsed;
    return run_all(options);
}

}  // namespace dst::sim
