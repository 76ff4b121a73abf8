#include "sim/run/volume.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

/// Who needs longer for an orderly stop had no time to make everything durable. (A daemon gives
/// itself 8 s.)
constexpr io::Duration kCleanStopMax = 7900ms;

std::string_view to_string(Ending ending) {
    switch (ending) {
        case Ending::stopped:
            return "stops";
        case Ending::gave_up:
            return "gives up";
        case Ending::killed:
            return "is killed";
        case Ending::power_lost:
            return "loses its power";
    }
    return "ends";
}

/// Nothing of before a crash takes effect once something of after it was answered: what was under
/// way is dead, or was closed by the sessions of its successor. Plain servers have none.
bool is_fenced(Volume::Keeper keeper, const Route& route) {
    const bool first_is_far = keeper == Volume::Keeper::node;
    return !route.has_plain_server && !(first_is_far && route.daemons.front()->is_plain);
}

bool is_error(Fault fault) {
    return fault == Fault::read_error || fault == Fault::write_error ||
           fault == Fault::flush_error || fault == Fault::full_disk || fault == Fault::bad_sector;
}

}  // namespace

Volume::Volume(std::string name, std::uint16_t id, Keeper keeper, Route route, World& world,
               const Faults& faults)
    : keeper_(keeper),
      route_(std::move(route)),
      world_(world),
      faults_(faults),
      history_(std::move(name), id, is_fenced(keeper, route_)),
      heads_(history_, world) {}

bool Volume::has_disk_errors() const {
    return std::ranges::any_of(faults_.log(), [&](const Struck& struck) {
        return is_error(struck.fault) &&
               std::ranges::find(disks_, struck.target.disk) != disks_.end();
    });
}

void Volume::keeper_ended(Ending ending) {
    const io::TimePoint now = world_.now();
    const std::string why = fmt::format("{} {}", kept_by()->name(), to_string(ending));
    if (keeper_ != Keeper::node && route_.has_own_memory) {
        history_.lose_everything(why, now);
        return;
    }
    // Of several heads one may have been fenced, and had nothing left to make durable.
    const bool is_clean = ending == Ending::stopped && !has_disk_errors() &&
                          !heads_.are_several() &&
                          now - kept_by()->stopping_since() < kCleanStopMax;
    if (is_clean)
        history_.settle(why + ", in order", now);
    else if (keeper_ != Keeper::disk)
        history_.crash(why, true, now);
}

void Volume::disk_forgot(const Disk& disk, Disk::Loss loss) {
    if (keeper_ == Keeper::node) return;
    for (std::size_t at = 0; at < disks_.size(); ++at)
        if (disks_[at] == &disk && route_.disks[at].is_own)
            history_.crash(fmt::format("{} forgets what was not durable", disk.path()),
                           loss == Disk::Loss::power_cut, world_.now());
}

void Volume::storage_stopped(bool cleanly) {
    if (keeper_ != Keeper::storage) return;
    if (cleanly)
        history_.settle("the storage is stopped", world_.now());
    else
        history_.crash("the storage is stopped with a loss", true, world_.now());
}

}  // namespace dst::sim
