#include "sim/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/check/story.h"
#include "sim/regressions.h"
#include "sim/run/run.h"
#include "sim/scenario/library.h"
#include "sim/swarm/swarm.h"
#include "sim/tally.h"

namespace dst::sim {
namespace {

constexpr int kClean = 0;
constexpr int kCheckFailed = 1;
constexpr int kUsage = 2;

constexpr std::string_view kSwarm = "swarm";
constexpr std::string_view kAll = "all";

struct Seeds {
    std::uint64_t first = 1;
    std::uint64_t last = 1;
};

struct Options {
    std::string scenario{kSwarm};
    Seeds seeds;
    bool trace = false;
    bool print = false;
    bool until_failure = false;
    std::optional<double> seconds;
    std::string regressions;
};

// What runs now, for a signal handler that may do next to nothing.
char now_running[512];

void note_running(std::string_view command) {
    const std::size_t length = std::min(command.size(), sizeof now_running - 1);
    command.copy(now_running, length);
    now_running[length] = '\0';
}

/// A CHECK of the product has failed, or something worse: say which seed leads there.
void on_abort(int signal) {
    std::fprintf(stderr, "aborted; replay: %s\n", now_running);
    std::fflush(nullptr);
    std::signal(signal, SIG_DFL);
    std::raise(signal);
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

std::string replay_command(std::string_view scenario, std::uint64_t seed) {
    return fmt::format("dst-sim{}{} --seed {} --trace", scenario == kSwarm ? "" : " --scenario ",
                       scenario == kSwarm ? "" : scenario, seed);
}

Outcome<Scenario> scenario_of(const std::string& name, std::uint64_t seed) {
    if (name == kSwarm) return draw_scenario(seed);
    return load_scenario(name, seed);
}

int list() {
    fmt::print("{:<20} Each seed draws a scenario of its own; this is the default.\n", kSwarm);
    fmt::print("{:<20} All of these with each seed.\n", kAll);
    for (const LibraryEntry& entry : library()) {
        const auto scenario = load_scenario(std::string(entry.name), 1);
        fmt::print("{:<20} {}\n", entry.name,
                   scenario ? scenario->about : "can't be read: " + scenario.error().text);
    }
    return kClean;
}

void print_failure(const Report& report, std::string_view scenario, std::uint64_t seed) {
    fmt::print("seed {} of {} failed:\n", seed, scenario);
    for (const check::Finding& finding : report.findings)
        fmt::print("  {} s, {}: {}\n{}", check::to_string(finding.when), finding.check,
                   finding.text, finding.story);
    fmt::print("  replay: {}\n", replay_command(scenario, seed));
}

/// What one call of the program does.
class Session {
  public:
    explicit Session(const Options& options) : options_(options) {}

    int run() {
        const Outcome<> ran =
            options_.regressions.empty() ? run_seeds() : run_regressions(options_.regressions);
        if (!ran) {
            fmt::print(stderr, "dst-sim: {}\n", ran.error().text);
            return kUsage;
        }
        if (!options_.print) fmt::print("{}", tally_.summary());
        return tally_.failed() > 0 ? kCheckFailed : kClean;
    }

  private:
    Outcome<> run_seeds() {
        std::vector<std::string> names{options_.scenario};
        if (options_.scenario == kAll) {
            names = {std::string(kSwarm)};
            for (const LibraryEntry& entry : library()) names.emplace_back(entry.name);
        }
        for (std::uint64_t seed = options_.seeds.first;; ++seed) {
            for (const std::string& name : names) {
                TRY_VOID(run_one(name, seed));
                if (is_enough()) return {};
            }
            if (seed == options_.seeds.last) return {};
        }
    }
    [[nodiscard]] bool is_enough() const {
        const bool is_late = options_.seconds && tally_.wall_seconds() >= *options_.seconds;
        return is_late || (tally_.failed() > 0 && options_.until_failure);
    }

    Outcome<> run_regressions(const std::string& file) {
        TRY(const auto regressions, load_regressions(file));
        for (const Regression& each : regressions) TRY_VOID(run_one(each.scenario, each.seed));
        return {};
    }

    Outcome<> run_one(const std::string& name, std::uint64_t seed) {
        TRY(const Scenario scenario, scenario_of(name, seed));
        if (options_.print) {
            fmt::print("{}", to_toml(scenario));
            return {};
        }
        note_running(replay_command(name, seed));
        Trace::Sink sink;
        if (options_.trace) sink = [](std::string_view line) { fmt::print("{}\n", line); };
        const Report report = sim::run(scenario, seed, std::move(sink));
        tally_.add(report, seed);
        if (!report.findings.empty()) print_failure(report, name, seed);
        if (options_.seeds.first == options_.seeds.last && options_.regressions.empty())
            fmt::print(
                "seed {} of {}: {} requests, {} failed, {:.3f} s, {} events, digest {:016x}\n",
                seed, name, report.requests, report.failed, report.virtual_seconds, report.events,
                report.digest);
        return {};
    }

    const Options& options_;
    Tally tally_;
};

}  // namespace

int cli_main(int count, char** words) {
    Options options;
    bool lists = false;
    std::string seeds = "1";
    CLI::App app("Runs simulated clusters: each seed is a run of its own, and always the same.");
    app.add_option("--scenario", options.scenario,
                   "one of the list, or a file; none: each seed draws its own");
    app.add_option("--seed,--seeds", seeds, "N, or A..B: from the first to the last");
    app.add_flag("--trace", options.trace, "a line an event");
    app.add_flag("--list", lists, "name the scenarios");
    app.add_flag("--print", options.print, "print the scenario of each seed instead of running it");
    app.add_flag("--until-failure", options.until_failure, "end with the first seed that fails");
    app.add_option("--seconds", options.seconds, "end after so much time");
    app.add_option("--regressions", options.regressions, "run what that list says instead");
    try {
        app.parse(count, words);
    } catch (const CLI::CallForHelp& help) {
        return app.exit(help);
    } catch (const CLI::ParseError& error) {
        app.exit(error);
        return kUsage;
    }
    if (lists) return list();
    const auto parsed = parse_seeds(seeds);
    if (!parsed) {
        fmt::print(stderr, "dst-sim: --seeds {}: write N or A..B\n", seeds);
        return kUsage;
    }
    options.seeds = *parsed;
    std::signal(SIGABRT, on_abort);
    std::signal(SIGSEGV, on_abort);
    return Session(options).run();
}

}  // namespace dst::sim
