// Faults: what goes wrong in a world, where it may, how often it did, and the end of all of it.
//
// Which faults are permitted. The product promises much, but not the impossible; so nothing is
// struck that was not permitted for that very target, and whoever permits keeps to this:
//
//   kill, restart, pause, clock_step   any process or host, at any time. The kill of a daemon that
//                      forms a storage, or of a client that is a node, counts as a power cut for
//                      what it acknowledged and did not flush.
//   power_cut          any host. Its disks keep what was synced, and any part of the rest.
//   partition, one_way_partition, reset, stall, slow_link, lossy_link   any two hosts.
//   flip_bits          only where both ends use checksums: TCP's own would not notice. Bits are
//                      flipped behind the handshake, which has no checksum.
//   slow_disk, hanging_disk, stuck_requests   any disk; a hanging one answers again later.
//   read_error, write_error, full_disk   any disk; requests may fail with io_error or no_space from
//                      when it begins until it ends. What a failed write left is undefined.
//   flush_error        any disk; flushes fail from then until the process that has it open has been
//                      started again, and unsynced changes may be undone then. So where nobody
//                      keeps those changes (a node does) it counts as a power cut at that time.
//   bad_sector         a sector that can't be read until it is written again: io_error for reads of
//                      it, unless there is a copy.
//   bit_rot            only where there is a copy AND something that tells right from wrong (a
//                      checksum over it): plain data on one disk has neither.
//   exchanged_disk, smaller_disk   only while nobody has the disk open: its process is killed
//                      before and started after, twice, because the old disk is put back in the
//                      end. Requests wait meanwhile; none may be answered from the other disk.
//
// Never: sectors torn within, synced data lost, bytes out of order or twice in a connection, memory
// that changes, clocks that run backwards (the wall clock may).
//
// Every fault ends by itself some time after it began; `calm()` ends all of them. Processes that
// are `kept` are started again whenever they are down and may be up.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/world.h"

namespace dst::sim {

enum class Fault : std::uint8_t {
    kill,
    restart,
    pause,
    clock_step,
    power_cut,
    partition,
    one_way_partition,
    reset,
    stall,
    slow_link,
    lossy_link,
    flip_bits,
    slow_disk,
    hanging_disk,
    stuck_requests,
    read_error,
    write_error,
    flush_error,
    full_disk,
    bad_sector,
    bit_rot,
    exchanged_disk,
    smaller_disk,
};
inline constexpr std::size_t kFaultKinds = 23;
[[nodiscard]] std::string_view to_string(Fault fault);

/// Belongs to one world, and outlives what that runs.
class Faults {
  public:
    /// An orderly stop may take so long (the daemon promises 10 s); it is reported, and killed,
    /// then.
    static constexpr io::Duration kStopMax = std::chrono::seconds(12);

    explicit Faults(World& world);
    Faults(const Faults&) = delete;
    Faults& operator=(const Faults&) = delete;

    /// Starts the process, and starts it again whenever it is down and nothing holds it down.
    void keep(Process& process);

    // What may be struck. kill, restart, pause: a process. power_cut, clock_step: a host. Those of
    // the network: two hosts. Those of disks: a disk; an exchange needs the process that uses it.
    void permit(Fault fault, Process& process);
    void permit(Fault fault, Host& host);
    void permit(Fault fault, Host& a, Host& b);
    void permit(Fault fault, Disk& disk);
    void permit(Fault fault, Disk& disk, Process& user);

    /// Strikes a fault, drawn from what is permitted and possible now; false if nothing is.
    bool strike();
    bool strike(Fault fault);
    /// So many, each some time after the one before, at most `pause_max`.
    void strike_often(std::uint64_t count, io::Duration pause_max);
    /// Ends all that is wrong, now, and strikes nothing more. Kept processes come up soon.
    void calm();

    [[nodiscard]] std::uint64_t count(Fault fault) const {
        return counts_[static_cast<std::size_t>(fault)];
    }
    [[nodiscard]] std::uint64_t total() const;
    /// What the product did wrong that no answer of a request shows; empty: nothing.
    [[nodiscard]] const std::vector<std::string>& complaints() const { return complaints_; }

  private:
    struct Target {
        Fault fault;
        Process* process = nullptr;
        Host* host = nullptr;
        Host* other = nullptr;
        Disk* disk = nullptr;
        bool is_struck = false;
    };
    struct Kept {
        Process* process;
        io::TimePoint down_until;
        io::TimePoint stopping_since;
    };
    /// Something that will be undone.
    struct Open {
        std::uint64_t number;
        std::function<void()> undo;
    };

    [[nodiscard]] bool is_possible(const Target& target) const;
    void strike(Target& target);
    void strike_process(Target& target, io::Duration length);
    void strike_network(Target& target, io::Duration length);
    void strike_disk(Target& target, io::Duration length);
    void exchange(Target& target, io::Duration length);
    void cut(Target& target, const Host& from, const Host& to, io::Duration length);
    void stall(Target& target, io::Duration length);
    void change_links(Target& target, io::Duration length);
    [[nodiscard]] std::vector<Connection*> connections(const Target& target) const;
    [[nodiscard]] io::Duration draw_length(Fault fault);
    void undo_after(io::Duration length, std::function<void()> undo);
    void hold_down(Process& process, io::Duration length);
    void supervise();
    void supervise(Kept& kept);
    void strike_next(std::uint64_t left, io::Duration pause_max);

    World& world_;
    std::vector<Target> targets_;
    std::vector<Kept> kept_;
    std::vector<Open> open_;
    std::uint64_t opened_ = 0;
    bool is_calm_ = false;
    std::array<std::uint64_t, kFaultKinds> counts_{};
    std::vector<std::string> complaints_;
};

}  // namespace dst::sim
