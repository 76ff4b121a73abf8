// Faults: what goes wrong in a world, where it may, how often it did, and the end of all of it.
//
// Which faults are permitted. The product promises much, but not the impossible; so nothing is
// struck that was not permitted for that very target, and whoever permits keeps to this:
//
//   kill, restart, pause, clock step   any process or host, at any time. The kill of a daemon that
//                   forms a storage, or of a client that is a node, counts as a power cut for what
//                   it acknowledged and did not flush.
//   power cut       any host. Its disks keep what was synced, and any part of the rest.
//   partition, one-way partition, reset, stall, slow link, lossy link   any two hosts.
//   none that breaks a connection between a node and a plain NBD server, unless that server ends:
//                   nobody fences its old connections (design §5, `unprotected`), and what stands
//                   in them is written at any time. So no partition, reset or stall there, no end
//                   of the node's process, no flush errors, no long pause. A mirror leaves out who
//                   is slow, and that breaks the connection, too: so where a plain server is a node
//                   of a mirror, neither it nor its disk is made to wait.
//   flipped bits    only where both ends use checksums: TCP's own would not notice. Bits are
//                   flipped behind the handshake, which has no checksum.
//   slow disk, hanging disk, stuck requests   any disk; a hanging one answers again later.
//   read errors, write errors, full disk   any disk; requests may fail with io_error or no_space
//                   from when it begins until it ends. What a failed write left is undefined.
//   flush errors    any disk; flushes fail from then until the process that has it open has been
//                   started again, and unsynced changes may be undone then. So where nobody keeps
//                   those changes (a node does) it counts as a power cut at that time.
//   bad sector      a sector that can't be read until it is written again: io_error for reads of
//                   it, unless there is a copy.
//   bit rot         only where there is a copy AND something that tells right from wrong (a
//                   checksum over it): plain data on one disk has neither.
//   metadata rot    bit rot within the metadata of a mirror's node, which has checksums, and of
//   which
//                   the other nodes have copies: so of one node of a mirror only, and once, for it
//                   has two superblocks, and if neither can be read it is no node any more.
//   exchanged disk, smaller disk   only while nobody has the disk open: its process is killed
//                   before and started after, twice, because the old disk is put back in the end.
//                   Requests wait meanwhile; none may be answered from the other disk. Not where a
//                   head may be started anew meanwhile, which would take the disk for the one that
//                   it knows: what has no metadata can't tell.
//   any that ends a process   not one with memory devices that somebody else relies on: they are
//                   gone with it.
//
// Never: sectors torn within, synced data lost, bytes out of order or twice in a connection, memory
// that changes, clocks that run backwards (the wall clock may).
//
// Every fault ends by itself some time after it began; `calm()` ends all of them. Processes that
// are kept (sim/keeper.h) are started again whenever they are down and may be up.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "sim/keeper.h"
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
    metadata_rot,
    exchanged_disk,
    smaller_disk,
};
inline constexpr std::size_t kFaultKinds = 24;
[[nodiscard]] std::string_view to_string(Fault fault);
[[nodiscard]] std::optional<Fault> parse_fault(std::string_view name);
[[nodiscard]] std::span<const Fault> all_faults();

/// What a fault strikes.
enum class TargetKind : std::uint8_t {
    process,    // kill, restart, pause
    host,       // clock_step, power_cut
    link,       // two hosts: partition ... flip_bits
    disk,       // slow_disk ... bit_rot
    used_disk,  // a disk and the process that has it open: exchanged_disk, smaller_disk
};
[[nodiscard]] TargetKind target_kind(Fault fault);

struct Target {
    Process* process = nullptr;
    Host* host = nullptr;
    Host* other = nullptr;
    Disk* disk = nullptr;
    friend bool operator==(const Target&, const Target&) = default;
};

/// Faults that may strike any of some targets, at most so many times.
struct Permit {
    std::vector<Fault> faults;
    std::vector<Target> targets;
    std::optional<std::uint64_t> most{};
};

/// Something that went wrong, and for how long.
struct Struck {
    Fault fault;
    Target target;
    io::TimePoint begin;
    io::TimePoint end;  // when it ended, or shall
};

/// Belongs to one world, and outlives what that runs.
class Faults {
  public:
    Faults(World& world, Keeper& keeper);
    Faults(const Faults&) = delete;
    Faults& operator=(const Faults&) = delete;

    /// The targets fit the faults.
    void permit(Permit permit);
    /// Strikes a fault, drawn from what is permitted and possible now; false if nothing is.
    bool strike();
    /// So many, each some time after the one before, at most `pause_max`.
    void strike_often(std::uint64_t count, io::Duration pause_max);
    /// This one, permitted or not; no length: until it is calm. False if it is not possible now.
    bool strike(Fault fault, const Target& target, std::optional<io::Duration> length);
    /// Ends all that is wrong, now, and strikes nothing more. Kept processes come up soon.
    void calm();

    [[nodiscard]] std::uint64_t count(Fault fault) const {
        return counts_[static_cast<std::size_t>(fault)];
    }
    [[nodiscard]] std::uint64_t total() const { return log_.size(); }
    /// All that was struck, in order.
    [[nodiscard]] const std::deque<Struck>& log() const { return log_; }

  private:
    /// Something that will be undone.
    struct Open {
        std::uint64_t number;
        Struck* struck;
        std::function<void()> undo;
    };

    [[nodiscard]] bool is_possible(Fault fault, const Target& target) const;
    [[nodiscard]] bool is_open(Fault fault, const Target& target) const;
    [[nodiscard]] io::Duration draw_length(Fault fault);
    void strike_next(std::uint64_t left, io::Duration pause_max);
    void undo_after(io::Duration length, Struck& struck, std::function<void()> undo);
    void undo_at_end(Struck& struck, std::function<void()> undo) {
        undo_after(struck.end - world_.now(), struck, std::move(undo));
    }

    // fault_strikes.cc: what each of them does
    void strike_process(Struck& struck);
    void strike_host(Struck& struck);
    void strike_link(Struck& struck);
    void cut(Struck& struck, const Host& from, const Host& to);
    void stall(Struck& struck);
    void change_links(Struck& struck);
    void strike_disk(Struck& struck);
    void rot_metadata(Disk& disk);
    void set_disk_fault(Struck& struck);
    void exchange(Struck& struck);
    void put_back(Process& user, Disk& disk);
    [[nodiscard]] std::vector<Connection*> connections(const Target& target) const;

    World& world_;
    Keeper& keeper_;
    std::vector<Permit> permits_;
    std::vector<Open> open_;
    std::uint64_t opened_ = 0;
    bool is_calm_ = false;
    std::array<std::uint64_t, kFaultKinds> counts_{};
    std::deque<Struck> log_;  // what was struck never moves
};

}  // namespace dst::sim
