#include "sim/faults.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::array<std::string_view, kFaultKinds> kNames{
    "kill",        "restart",           "pause",          "clock step",   "power cut",
    "partition",   "one-way partition", "reset",          "stall",        "slow link",
    "lossy link",  "flipped bits",      "slow disk",      "hanging disk", "stuck requests",
    "read errors", "write errors",      "flush errors",   "full disk",    "bad sector",
    "bit rot",     "metadata rot",      "exchanged disk", "smaller disk"};

constexpr std::array<Fault, kFaultKinds> kAll = [] {
    std::array<Fault, kFaultKinds> all{};
    for (std::size_t at = 0; at < kFaultKinds; ++at) all[at] = static_cast<Fault>(at);
    return all;
}();

}  // namespace

std::string_view to_string(Fault fault) { return kNames[static_cast<std::size_t>(fault)]; }

std::optional<Fault> parse_fault(std::string_view name) {
    const auto found = std::ranges::find(kNames, name);
    if (found == kNames.end()) return std::nullopt;
    return kAll[static_cast<std::size_t>(found - kNames.begin())];
}

std::span<const Fault> all_faults() { return kAll; }

TargetKind target_kind(Fault fault) {
    if (fault <= Fault::pause) return TargetKind::process;
    if (fault <= Fault::power_cut) return TargetKind::host;
    if (fault <= Fault::flip_bits) return TargetKind::link;
    return fault < Fault::exchanged_disk ? TargetKind::disk : TargetKind::used_disk;
}

Faults::Faults(World& world, Keeper& keeper) : world_(world), keeper_(keeper) {}

void Faults::permit(Permit permit) {
    for (const Fault fault : permit.faults)
        for (const Target& target : permit.targets) {
            const TargetKind kind = target_kind(fault);
            CHECK((kind == TargetKind::process || kind == TargetKind::used_disk) ==
                  (target.process != nullptr));
            CHECK((kind == TargetKind::host || kind == TargetKind::link) ==
                  (target.host != nullptr));
            CHECK((kind == TargetKind::link) == (target.other != nullptr));
            CHECK((kind == TargetKind::disk || kind == TargetKind::used_disk) ==
                  (target.disk != nullptr));
        }
    permits_.push_back(std::move(permit));
}

bool Faults::is_open(Fault fault, const Target& target) const {
    return std::ranges::any_of(open_, [&](const Open& open) {
        return open.struck->fault == fault && open.struck->target == target;
    });
}

bool Faults::is_possible(Fault fault, const Target& target) const {
    if (is_open(fault, target)) return false;
    switch (fault) {
        case Fault::kill:
            return target.process->is_running();
        case Fault::exchanged_disk:
        case Fault::smaller_disk:
            return target.process->is_running() && !target.disk->is_exchanged();
        case Fault::restart:
            return target.process->is_serving();
        case Fault::pause:
            return target.process->is_running() && !target.process->is_paused();
        case Fault::power_cut:
            return target.host->has_power();
        case Fault::reset:
        case Fault::stall:
            return !connections(target).empty();
        default:
            return true;
    }
}

bool Faults::strike() {
    struct Choice {
        Fault fault;
        Target target;
        Permit* permit;
    };
    std::vector<Choice> choices;
    for (Permit& permit : permits_)
        for (const Fault fault : permit.faults)
            for (const Target& target : permit.targets)
                if (permit.most != 0 && is_possible(fault, target))
                    choices.push_back({fault, target, &permit});
    if (choices.empty()) return false;
    // First the kind, then whom it strikes, so that no kind is rare because it has few targets.
    std::vector<Fault> kinds;
    for (const Choice& choice : choices)
        if (std::ranges::find(kinds, choice.fault) == kinds.end()) kinds.push_back(choice.fault);
    const Fault fault = kinds[world_.random().below(kinds.size())];
    std::erase_if(choices, [&](const Choice& choice) { return choice.fault != fault; });
    const Choice& chosen = choices[world_.random().below(choices.size())];
    if (chosen.permit->most) --*chosen.permit->most;
    return strike(chosen.fault, chosen.target, draw_length(chosen.fault));
}

void Faults::strike_often(std::uint64_t count, io::Duration pause_max) {
    if (count == 0) return;
    world_.after(world_.random().up_to(pause_max),
                 [this, count, pause_max] { strike_next(count, pause_max); });
}

void Faults::strike_next(std::uint64_t left, io::Duration pause_max) {
    if (is_calm_) return;
    const bool struck = strike();
    strike_often(struck ? left - 1 : left, pause_max);
}

bool Faults::strike(Fault fault, const Target& target, std::optional<io::Duration> length) {
    // Longer than any run, and far from overflowing.
    constexpr io::Duration kUntilCalm = 24h * 365;
    const io::Duration lasts = length.value_or(kUntilCalm);
    if (is_calm_ || !is_possible(fault, target)) return false;
    ++counts_[static_cast<std::size_t>(fault)];
    log_.push_back(
        {.fault = fault, .target = target, .begin = world_.now(), .end = world_.now() + lasts});
    if (length)
        world_.trace("fault", "{} for {} ms", to_string(fault), lasts / 1ms);
    else
        world_.trace("fault", "{}", to_string(fault));
    switch (target_kind(fault)) {
        case TargetKind::process:
            strike_process(log_.back());
            break;
        case TargetKind::host:
            strike_host(log_.back());
            break;
        case TargetKind::link:
            strike_link(log_.back());
            break;
        case TargetKind::disk:
            strike_disk(log_.back());
            break;
        case TargetKind::used_disk:
            exchange(log_.back());
            break;
    }
    return true;
}

io::Duration Faults::draw_length(Fault fault) {
    // Short ones are the most interesting: they end while their consequences go on.
    const bool is_long = world_.random().one_in(4);
    io::Duration most = is_long ? 8s : 800ms;
    if (fault == Fault::hanging_disk || fault == Fault::stuck_requests) most *= 2;
    return world_.random().between(5ms, most);
}

void Faults::undo_after(io::Duration length, Struck& struck, std::function<void()> undo) {
    const std::uint64_t number = ++opened_;
    open_.push_back({number, &struck, std::move(undo)});
    world_.after(length, [this, number] {
        const auto found = std::ranges::find(open_, number, &Open::number);
        if (found == open_.end()) return;
        const auto action = std::move(found->undo);
        found->struck->end = world_.now();
        open_.erase(found);
        action();
    });
}

void Faults::calm() {
    if (std::exchange(is_calm_, true)) return;
    world_.trace("fault", "calm");
    while (!open_.empty()) {
        const auto undo = std::move(open_.back().undo);
        open_.pop_back();
        undo();
    }
    for (Struck& struck : log_) struck.end = std::min(struck.end, world_.now());
    world_.network().mend_all();
    keeper_.let_all_up();
}

}  // namespace dst::sim
