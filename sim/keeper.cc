#include "sim/keeper.h"

#include <fmt/format.h>

#include <algorithm>

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr io::Duration kPause = 100ms;
constexpr io::Duration kUpMax = 1s;

}  // namespace

Keeper::Keeper(World& world) : world_(world) {
    world_.after(kPause, [this] { look(); });
}

void Keeper::keep(Process& process) {
    const auto found = std::ranges::find(kept_, &process, &Kept::process);
    if (found == kept_.end())
        kept_.push_back({.process = &process, .down_until = {}});
    else
        found->down_until = {};
    if (!process.is_running() && process.host().has_power()) process.start();
}

void Keeper::hold_down(Process& process, io::Duration length) {
    for (Kept& kept : kept_)
        if (kept.process == &process)
            kept.down_until = std::max(kept.down_until, world_.now() + length);
}

void Keeper::let_all_up() {
    for (Kept& kept : kept_) kept.down_until = std::min(kept.down_until, world_.now() + kUpMax);
}

void Keeper::retire() { is_retired_ = true; }

void Keeper::resume() {
    is_retired_ = false;
    for (Kept& kept : kept_) look(kept);
}

void Keeper::look() {
    for (Kept& kept : kept_) look(kept);
    world_.after(kPause, [this] { look(); });
}

void Keeper::look(Kept& kept) {
    Process& process = *kept.process;
    if (!process.is_running()) {
        if (!is_retired_ && process.host().has_power() && world_.now() >= kept.down_until)
            process.start();
        return;
    }
    if (!process.is_stopping() || process.is_paused()) return;
    // The time in which it could not do anything does not count; nor that in which a disk does not
    // answer: what the kernel has can't be taken back.
    if (std::ranges::any_of(process.host().disks(),
                            [](const auto& disk) { return disk->is_stuck(); }))
        kept.hung_at = world_.now();
    if (world_.now() - std::max({process.stopping_since(), process.resumed_at(), kept.hung_at}) <
        kStopMax)
        return;
    complaints_.push_back(
        fmt::format("{} was asked to stop and has not for {} s", process.name(), kStopMax / 1s));
    process.kill();
}

}  // namespace dst::sim
