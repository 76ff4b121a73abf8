// Keeper: starts again whatever is down, as an init system would; and notices who does not stop.
#pragma once

#include <string>
#include <vector>

#include "sim/world.h"

namespace dst::sim {

/// Belongs to one world, and outlives what that runs.
class Keeper {
  public:
    /// An orderly stop may take so long (the daemon promises 10 s); it is noted, and killed, then.
    static constexpr io::Duration kStopMax = std::chrono::seconds(12);

    explicit Keeper(World& world);
    Keeper(const Keeper&) = delete;
    Keeper& operator=(const Keeper&) = delete;

    /// Starts the process, whatever held it down, and again whenever it is down later.
    void keep(Process& process);
    /// If it is down it stays so for that long, at least.
    void hold_down(Process& process, io::Duration length);
    /// Nothing holds anybody down any more; they come up within a second.
    void let_all_up();
    /// Who stops from now on stays down.
    void retire();
    /// Starts all of them again that are down.
    void resume();

    /// What was late to stop, a sentence each.
    [[nodiscard]] const std::vector<std::string>& complaints() const { return complaints_; }

  private:
    struct Kept {
        Process* process;
        io::TimePoint down_until;
        io::TimePoint hung_at{};  // when a disk of its host was last seen not to answer
    };
    void look();
    void look(Kept& kept);

    World& world_;
    bool is_retired_ = false;
    std::vector<Kept> kept_;
    std::vector<std::string> complaints_;
};

}  // namespace dst::sim
