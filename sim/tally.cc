#include "sim/tally.h"

#include <fmt/format.h>

#include <algorithm>

namespace dst::sim {

void Tally::add(const Report& report, std::uint64_t seed) {
    if (runs_++ == 0) first_seed_ = seed;
    last_seed_ = seed;
    if (!report.findings.empty()) ++failed_;
    requests_ += report.requests;
    virtual_seconds_ += report.virtual_seconds;
    calm_most_ = std::max(calm_most_, report.calm_seconds);
    for (std::size_t at = 0; at < kFaultKinds; ++at) {
        faults_[at].times += report.faults[at];
        if (report.faults[at] > 0) ++faults_[at].runs;
    }
}

double Tally::wall_seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

std::string Tally::summary() const {
    const double seconds = wall_seconds();
    return fmt::format(
        "{}seeds {}..{}, {} runs: {} failed; {} requests; {:.1f} s, {:.0f} runs a minute, {:.3f} h "
        "simulated, {:.4f} h a second; all answered {:.1f} s after the last fault\n",
        runs_ > 1 ? table() : std::string(), first_seed_, last_seed_, runs_, failed_, requests_,
        seconds, static_cast<double>(runs_) / seconds * 60, virtual_seconds_ / 3600,
        virtual_seconds_ / 3600 / seconds, calm_most_);
}

std::string Tally::table() const {
    std::string lines = fmt::format("{:<20}{:>10}{:>10}\n", "fault", "% of runs", "times");
    for (const Fault fault : all_faults()) {
        const Count& count = faults_[static_cast<std::size_t>(fault)];
        const double share = 100.0 * static_cast<double>(count.runs) / static_cast<double>(runs_);
        lines += fmt::format("{:<20}{:>10.1f}{:>10}\n", to_string(fault), share, count.times);
    }
    return lines;
}

}  // namespace dst::sim
