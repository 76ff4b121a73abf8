#include "sim/faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr io::Duration kSupervisePause = 100ms;
/// A machine that has power again needs so long before its processes start.
constexpr io::Duration kBootMax = 1s;
/// The kernel has closed a killed process's files by then.
constexpr io::Duration kUntilClosed = 500ms;

constexpr std::array<std::string_view, kFaultKinds> kNames{
    "kill",        "restart",           "pause",        "clock step",   "power cut",
    "partition",   "one-way partition", "reset",        "stall",        "slow link",
    "lossy link",  "flipped bits",      "slow disk",    "hanging disk", "stuck requests",
    "read errors", "write errors",      "flush errors", "full disk",    "bad sector",
    "bit rot",     "exchanged disk",    "smaller disk"};

bool is_of_process(Fault fault) { return fault <= Fault::pause; }
bool is_of_host(Fault fault) { return fault == Fault::clock_step || fault == Fault::power_cut; }
bool is_of_network(Fault fault) { return fault >= Fault::partition && fault <= Fault::flip_bits; }
bool is_exchange(Fault fault) { return fault >= Fault::exchanged_disk; }
bool is_of_disk(Fault fault) { return fault >= Fault::slow_disk && !is_exchange(fault); }

}  // namespace

std::string_view to_string(Fault fault) { return kNames[static_cast<std::size_t>(fault)]; }

Faults::Faults(World& world) : world_(world) {
    world_.after(kSupervisePause, [this] { supervise(); });
}

void Faults::keep(Process& process) {
    process.start();
    kept_.push_back({.process = &process, .down_until = {}, .stopping_since = {}});
}

void Faults::permit(Fault fault, Process& process) {
    CHECK(is_of_process(fault));
    targets_.push_back({.fault = fault, .process = &process});
}

void Faults::permit(Fault fault, Host& host) {
    CHECK(is_of_host(fault));
    targets_.push_back({.fault = fault, .host = &host});
}

void Faults::permit(Fault fault, Host& a, Host& b) {
    CHECK(is_of_network(fault) && &a != &b);
    targets_.push_back({.fault = fault, .host = &a, .other = &b});
}

void Faults::permit(Fault fault, Disk& disk) {
    CHECK(is_of_disk(fault));
    targets_.push_back({.fault = fault, .disk = &disk});
}

void Faults::permit(Fault fault, Disk& disk, Process& user) {
    CHECK(is_exchange(fault));
    targets_.push_back({.fault = fault, .process = &user, .disk = &disk});
}

std::uint64_t Faults::total() const {
    return std::accumulate(counts_.begin(), counts_.end(), std::uint64_t{0});
}

bool Faults::is_possible(const Target& target) const {
    if (target.is_struck) return false;
    switch (target.fault) {
        case Fault::kill:
        case Fault::exchanged_disk:
        case Fault::smaller_disk:
            return target.process->is_running() &&
                   (target.disk == nullptr || !target.disk->is_exchanged());
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
    std::vector<Fault> possible;
    for (const Target& target : targets_)
        if (is_possible(target) && std::ranges::find(possible, target.fault) == possible.end())
            possible.push_back(target.fault);
    if (possible.empty()) return false;
    return strike(possible[world_.random().below(possible.size())]);
}

bool Faults::strike(Fault fault) {
    std::vector<Target*> possible;
    for (Target& target : targets_)
        if (target.fault == fault && is_possible(target)) possible.push_back(&target);
    if (possible.empty() || is_calm_) return false;
    strike(*possible[world_.random().below(possible.size())]);
    return true;
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

void Faults::strike(Target& target) {
    ++counts_[static_cast<std::size_t>(target.fault)];
    const io::Duration length = draw_length(target.fault);
    world_.trace("fault", "{} for {} ms", to_string(target.fault), length / 1ms);
    if (is_of_process(target.fault) || is_of_host(target.fault))
        strike_process(target, length);
    else if (is_of_network(target.fault))
        strike_network(target, length);
    else if (is_exchange(target.fault))
        exchange(target, length);
    else
        strike_disk(target, length);
}

io::Duration Faults::draw_length(Fault fault) {
    // Short ones are the most interesting: they end while their consequences go on.
    const bool is_long = world_.random().one_in(4);
    io::Duration most = is_long ? 8s : 800ms;
    if (fault == Fault::hanging_disk || fault == Fault::stuck_requests) most *= 2;
    return world_.random().between(5ms, most);
}

void Faults::undo_after(io::Duration length, std::function<void()> undo) {
    const std::uint64_t number = ++opened_;
    open_.push_back({number, std::move(undo)});
    world_.after(length, [this, number] {
        const auto found = std::ranges::find(open_, number, &Open::number);
        if (found == open_.end()) return;
        const auto action = std::move(found->undo);
        open_.erase(found);
        action();
    });
}

void Faults::hold_down(Process& process, io::Duration length) {
    for (Kept& kept : kept_)
        if (kept.process == &process)
            kept.down_until = std::max(kept.down_until, world_.now() + length);
}

void Faults::strike_process(Target& target, io::Duration length) {
    switch (target.fault) {
        case Fault::kill:
            target.process->kill();
            hold_down(*target.process, length);
            break;
        case Fault::restart:
            target.process->stop();
            hold_down(*target.process, length);
            break;
        case Fault::pause: {
            target.process->pause();
            Process* const paused = target.process;
            undo_after(length, [paused] { paused->resume(); });
            break;
        }
        case Fault::clock_step: {
            const io::Duration half = 12h;
            target.host->step_wall_clock(world_.random().up_to(2 * half) - half);
            break;
        }
        default: {
            Host* const host = target.host;
            host->lose_power();
            undo_after(length, [this, host] {
                host->restore_power();
                for (const auto& process : host->processes())
                    hold_down(*process, world_.random().up_to(kBootMax));
            });
        }
    }
}

std::vector<Connection*> Faults::connections(const Target& target) const {
    std::vector<Connection*> found;
    Network& network = world_.network();
    for (std::size_t at = 0; at < network.connection_count(); ++at) {
        Connection& each = network.connection(at);
        if (each.is_between(*target.host, *target.other) && !each.is_stalled())
            found.push_back(&each);
    }
    return found;
}

void Faults::strike_network(Target& target, io::Duration length) {
    switch (target.fault) {
        case Fault::partition:
            cut(target, *target.host, *target.other, length);
            cut(target, *target.other, *target.host, length);
            break;
        case Fault::one_way_partition:
            if (world_.random().one_in(2))
                cut(target, *target.host, *target.other, length);
            else
                cut(target, *target.other, *target.host, length);
            break;
        case Fault::reset: {
            const auto all = connections(target);
            all[world_.random().below(all.size())]->reset();
            break;
        }
        case Fault::stall:
            stall(target, length);
            break;
        default:
            change_links(target, length);
    }
}

void Faults::cut(Target& target, const Host& from, const Host& to, io::Duration length) {
    Network& network = world_.network();
    if (network.is_cut(from, to)) return;
    network.cut(from, to);
    undo_after(length, [&network, &from, &to] { network.mend(from, to); });
    static_cast<void>(target);
}

void Faults::stall(Target& target, io::Duration length) {
    const auto all = connections(target);
    Connection& stalled = *all[world_.random().below(all.size())];
    const std::uint64_t number = stalled.number();
    world_.trace("fault", "connection {} is stalled", number);
    stalled.stall(static_cast<unsigned>(world_.random().below(2)));
    if (world_.random().one_in(2)) return;  // for ever: somebody has to notice
    undo_after(length, [this, number] {
        Network& network = world_.network();
        for (std::size_t at = 0; at < network.connection_count(); ++at)
            if (network.connection(at).number() == number) network.connection(at).unstall();
    });
}

void Faults::change_links(Target& target, io::Duration length) {
    Network& network = world_.network();
    Host& a = *target.host;
    Host& b = *target.other;
    const LinkSettings normal = network.settings().link;
    LinkSettings changed = network.link(a, b).settings;
    if (target.fault == Fault::slow_link) {
        changed.latency = world_.random().between(1ms, 40ms);
        changed.jitter = world_.random().between(1ms, 40ms);
        changed.bytes_per_second = world_.random().between(1'000'000, 50'000'000);
    } else if (target.fault == Fault::lossy_link) {
        changed.loss = percent(static_cast<std::uint32_t>(world_.random().between(1, 10)));
    } else {
        changed.flip = percent(static_cast<std::uint32_t>(world_.random().between(1, 20)));
    }
    network.link(a, b).settings = network.link(b, a).settings = changed;
    undo_after(length, [&network, &a, &b, normal] {
        network.link(a, b).settings = network.link(b, a).settings = normal;
    });
}

void Faults::strike_disk(Target& target, io::Duration length) {
    Disk& disk = *target.disk;
    Random& random = world_.random();
    if (target.fault == Fault::bad_sector || target.fault == Fault::bit_rot) {
        const SectorIndex sector(random.below(disk.medium().size().value()));
        if (target.fault == Fault::bit_rot) {
            static_cast<void>(disk.medium().rot(sector));
            return;
        }
        disk.make_unreadable(sector);
        undo_after(length, [&disk] { disk.make_readable(); });
        return;
    }
    DiskFaults faults = disk.faults();
    const Rate often = percent(static_cast<std::uint32_t>(random.between(1, 50)));
    switch (target.fault) {
        case Fault::slow_disk:
            faults.slowness = random.between(1ms, 300ms);
            break;
        case Fault::hanging_disk:
            faults.hangs = true;
            break;
        case Fault::stuck_requests:
            faults.stuck = percent(static_cast<std::uint32_t>(random.between(1, 5)));
            break;
        case Fault::read_error:
            faults.read_error = often;
            break;
        case Fault::write_error:
            faults.write_error = often;
            break;
        case Fault::flush_error:
            faults.flush_error = often;
            break;
        default:
            faults.is_full = true;
    }
    disk.set_faults(faults);
    target.is_struck = true;
    const auto place = static_cast<std::size_t>(&target - targets_.data());
    undo_after(length, [this, place] {
        Target& ended = targets_[place];
        ended.is_struck = false;
        DiskFaults left = ended.disk->faults();
        const DiskFaults none;
        switch (ended.fault) {
            case Fault::slow_disk:
                left.slowness = none.slowness;
                break;
            case Fault::hanging_disk:
                left.hangs = none.hangs;
                break;
            case Fault::stuck_requests:
                left.stuck = none.stuck;
                break;
            case Fault::read_error:
                left.read_error = none.read_error;
                break;
            case Fault::write_error:
                left.write_error = none.write_error;
                break;
            case Fault::flush_error:
                left.flush_error = none.flush_error;
                break;
            default:
                left.is_full = none.is_full;
        }
        ended.disk->set_faults(left);
    });
}

/// Kills the user, exchanges the disk when it is closed, and everything back again later.
void Faults::exchange(Target& target, io::Duration length) {
    Process* const user = target.process;
    Disk* const disk = target.disk;
    const SectorCount size = disk->medium().size();
    const bool smaller = target.fault == Fault::smaller_disk;
    user->kill();
    hold_down(*user, 2 * kUntilClosed);
    const auto put_back = [this, user, disk] {
        if (!disk->is_exchanged()) return;
        user->kill();
        hold_down(*user, 2 * kUntilClosed);
        const auto when_closed = [this, disk] {
            if (!disk->is_exchanged() || disk->is_open()) return;
            world_.trace("fault", "{} is the old disk again", disk->path());
            disk->put_back();
        };
        if (disk->is_open())
            world_.after(kUntilClosed, when_closed);
        else
            when_closed();
    };
    world_.after(kUntilClosed, [this, disk, size, smaller, put_back, length] {
        if (disk->is_open() || disk->is_exchanged() || is_calm_) return;
        const std::uint64_t sectors =
            smaller ? 8 * world_.random().between(1, size.value() / 8 - 1) : size.value();
        world_.trace("fault", "{} is another disk now, of {} sectors", disk->path(), sectors);
        disk->exchange(SectorCount(sectors));
        undo_after(length + 2 * kUntilClosed, put_back);
    });
}

void Faults::supervise() {
    for (Kept& kept : kept_) supervise(kept);
    world_.after(kSupervisePause, [this] { supervise(); });
}

void Faults::supervise(Kept& kept) {
    Process& process = *kept.process;
    if (!process.is_running()) {
        kept.stopping_since = {};
        if (process.host().has_power() && world_.now() >= kept.down_until) process.start();
        return;
    }
    if (!process.is_stopping() || process.is_paused()) {
        kept.stopping_since = {};
        return;
    }
    if (kept.stopping_since == io::TimePoint{}) kept.stopping_since = world_.now();
    if (world_.now() - kept.stopping_since < kStopMax) return;
    complaints_.push_back(
        fmt::format("{} was asked to stop and has not for {} s", process.name(), kStopMax / 1s));
    process.kill();
}

void Faults::calm() {
    if (std::exchange(is_calm_, true)) return;
    world_.trace("fault", "calm");
    while (!open_.empty()) {
        const auto undo = std::move(open_.back().undo);
        open_.pop_back();
        undo();
    }
    world_.network().mend_all();
    for (Kept& kept : kept_) kept.down_until = std::min(kept.down_until, world_.now() + 1s);
}

}  // namespace dst::sim
