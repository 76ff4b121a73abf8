// Volume: what keeps a client's data, and when it may forget.
//
// Whoever sees the same data through the same memory shares one: all clients at an export of a
// daemon, and inside of it; but a node is a volume of its own, because it keeps what its peer may
// lose. A crash of the keeper is what a power cut is to a disk with a cache: of a storage, the end
// of its daemon's process, or that a disk of its own forgets; of a node, the end of its client's
// process; of an export of a disk, that the disk forgets; of a mirror that several daemons may form
// (heads.h), also that another one forms it. A keeper that stops in order, in time and without a
// disk that fails has forgotten nothing, and nothing of it will be lost.
#pragma once

#include <string>
#include <vector>

#include "sim/check/history.h"
#include "sim/faults.h"
#include "sim/process.h"
#include "sim/run/heads.h"
#include "sim/scenario/route.h"

namespace dst::sim {

class Volume {
  public:
    enum class Keeper : std::uint8_t { node, storage, disk };

    Volume(std::string name, std::uint16_t id, Keeper keeper, Route route, World& world,
           const Faults& faults);
    Volume(const Volume&) = delete;
    Volume& operator=(const Volume&) = delete;

    [[nodiscard]] check::History& history() { return history_; }
    [[nodiscard]] const check::History& history() const { return history_; }
    [[nodiscard]] const std::string& name() const { return history_.name(); }
    [[nodiscard]] const Route& route() const { return route_; }
    [[nodiscard]] Keeper keeper() const { return keeper_; }

    /// Its keeper's process has ended. (Of a disk: its exporter's.)
    void keeper_ended(Ending ending);
    /// A disk on the way has forgotten something.
    void disk_forgot(const Disk& disk, Disk::Loss loss);
    /// Its storage was stopped by a command, `cleanly` or with a loss.
    void storage_stopped(bool cleanly);

    /// Who may form it, if that is a storage.
    [[nodiscard]] Heads& heads() { return heads_; }
    [[nodiscard]] const Heads& heads() const { return heads_; }

    // What lies on the way, once there is a world.
    void set_keeper(const Process* process) { process_ = process; }
    /// Of several heads: whoever has it now.
    [[nodiscard]] const Process* kept_by() const {
        return heads_.are_several() ? heads_.holder() : process_;
    }
    /// In the order of the route.
    void set_disks(std::vector<const Disk*> disks) { disks_ = std::move(disks); }
    [[nodiscard]] const std::vector<const Disk*>& disks() const { return disks_; }

  private:
    [[nodiscard]] bool has_disk_errors() const;

    const Keeper keeper_;
    const Route route_;
    World& world_;
    const Faults& faults_;
    const Process* process_ = nullptr;
    std::vector<const Disk*> disks_;
    check::History history_;
    Heads heads_;
};

}  // namespace dst::sim
