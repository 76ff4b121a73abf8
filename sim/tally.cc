#include "sim/tally.h"

#include <fmt/format.h>

namespace dst::sim {

void Tally::add(const Report& report) {
    ++seeds_;
    if (!report.findings.empty()) ++failed_;
    requests_ += report.requests;
    virtual_seconds_ += report.virtual_seconds;
    for (std::size_t at = 0; at < kFaultKinds; ++at) {
        faults_[at].times += report.faults[at];
        if (report.faults[at] > 0) ++faults_[at].seeds;
    }
}

double Tally::wall_seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

std::string Tally::summary(std::uint64_t first) const {
    const double seconds = wall_seconds();
    const auto seeds = static_cast<double>(seeds_);
    return fmt::format(
        "{}seeds {}..{}: {} failed; {} requests; {:.1f} s, {:.0f} seeds a minute, {:.3f} h "
        "simulated, {:.4f} h a second\n",
        seeds_ > 1 ? table() : std::string(), first, first + seeds_ - 1, failed_, requests_,
        seconds, seeds / seconds * 60, virtual_seconds_ / 3600, virtual_seconds_ / 3600 / seconds);
}

std::string Tally::table() const {
    std::string lines = fmt::format("{:<20}{:>10}{:>10}\n", "fault", "% of seeds", "times");
    for (const Fault fault : all_faults()) {
        const Count& count = faults_[static_cast<std::size_t>(fault)];
        const double share = 100.0 * static_cast<double>(count.seeds) / static_cast<double>(seeds_);
        lines += fmt::format("{:<20}{:>10.1f}{:>10}\n", to_string(fault), share, count.times);
    }
    return lines;
}

}  // namespace dst::sim
