// What the daemon shows of itself: one picture for the CLI, the API and everything else.
//
// The JSON is a contract (design §9): fields may be added, never renamed. Sizes and positions are
// sectors, rates bytes a second, times RFC 3339 in UTC.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "control/table.h"
#include "io/clock.h"

namespace dst::control {

enum class StorageState : std::uint8_t {
    running,   // all is well
    degraded,  // works, with a node missing or stale
    holding,   // requests wait, because no copy can answer them now
    waiting,   // not assembled yet; `reason` says for whom it waits
    fenced,    // another head has it
    stopped,   // by a command
};
[[nodiscard]] std::string_view to_string(StorageState state);

struct NodeStatus {
    std::string cookie;  // 16 lower-case hex digits
    std::string type;    // "L: /dev/sdb", "R: host:10809/disk0"
    SectorIndex start;
    SectorCount size;
    bool in_sync = false;  // shown as sync or notsync
    bool connected = false;
    SectorCount stale;
    std::string reason;
    /// Of: connected checksum tls readonly unprotected volatile resync witness fenced
    std::vector<std::string> flags;
    /// Of a mirror: reads that failed there, and how many of them were written again from another
    /// copy.
    std::uint64_t read_errors = 0;
    std::uint64_t rewritten = 0;
    friend bool operator==(const NodeStatus&, const NodeStatus&) = default;
};

/// The one that goes on, or else the last since the storage was started: `done` is `total` then.
struct ResyncStatus {
    SectorCount done;
    SectorCount total;
    std::uint64_t rate = 0;  // bytes a second
    /// Settings: its window, and the time between its worker's checks. 0: it has no resync.
    SectorCount size{};
    std::chrono::milliseconds timeout{0};
    friend bool operator==(const ResyncStatus&, const ResyncStatus&) = default;
};

/// Of `dst storage verify`.
struct ComparisonStatus {
    bool running = false;
    bool complete = false;  // it came to the end
    SectorCount done;
    SectorCount total;
    SectorCount different;
    SectorCount repaired;
    SectorCount undecided;  // to be made equal, and without a majority that tells how
    SectorCount skipped;    // could not be compared
    friend bool operator==(const ComparisonStatus&, const ComparisonStatus&) = default;
};

struct StorageStatus {
    std::string name;
    std::string algorithm;
    SectorCount size;
    StorageState state = StorageState::waiting;
    /// Why it is in this state, and what would change it.
    std::string reason;
    io::WallTime since;
    /// Names in /dev.
    std::vector<std::string> attached_as;
    std::vector<NodeStatus> nodes;
    ResyncStatus resync;
    /// Nothing if its copies were not compared since it was formed.
    std::optional<ComparisonStatus> verify{};
    friend bool operator==(const StorageStatus&, const StorageStatus&) = default;
};

struct ExportStatus {
    std::string name;
    std::string device;
    SectorCount size;  // 0 while its device is not there
    std::uint64_t clients = 0;
    bool read_only = false;
    std::string description;
    /// Id of the head that has reserved the device, 16 lower-case hex digits; empty: none has.
    std::string reserved_by{};
    /// The reservation's number: grows with each change of holder.
    std::uint64_t reservation = 0;
    friend bool operator==(const ExportStatus&, const ExportStatus&) = default;
};

struct AttachmentStatus {
    std::string name;    // of the storage
    std::string via;     // "fuse"
    std::string device;  // "/dev/loop0", or the file
    SectorCount size;
    bool read_only = false;
    /// What is wrong with it; empty: nothing.
    std::string reason{};
    /// Why better ways were not taken, a line each. Only in the answer to an attach.
    std::vector<std::string> passed_over{};
    friend bool operator==(const AttachmentStatus&, const AttachmentStatus&) = default;
};

struct AlgorithmStatus {
    std::string name;
    std::string description;
    std::string file;        // empty: built in
    std::uint64_t uses = 0;  // storages that it makes
    friend bool operator==(const AlgorithmStatus&, const AlgorithmStatus&) = default;
};

struct MemoryStatus {
    ByteCount limit;  // in JSON both are bytes
    ByteCount used;
    friend bool operator==(const MemoryStatus&, const MemoryStatus&) = default;
};

struct Status {
    std::string version;
    /// When this picture was taken.
    io::WallTime time;
    MemoryStatus memory;
    std::vector<StorageStatus> storages;
    std::vector<ExportStatus> exports;
    std::vector<AttachmentStatus> attachments;
    std::vector<AlgorithmStatus> algorithms;
    /// Differences from the configuration file, things that do not work here.
    std::vector<std::string> warnings;
    /// Number of the last event (events.h).
    std::uint64_t last_event = 0;
    friend bool operator==(const Status&, const Status&) = default;
};

[[nodiscard]] std::string to_json(const Status& status);
/// {"storages": [...]}, {"exports": [...]}, {"attachments": [...]}, {"algorithms": [...]}
[[nodiscard]] std::string to_json(const std::vector<StorageStatus>& storages);
[[nodiscard]] std::string to_json(const std::vector<ExportStatus>& exports);
[[nodiscard]] std::string to_json(const std::vector<AttachmentStatus>& attachments);
[[nodiscard]] std::string to_json(const std::vector<AlgorithmStatus>& algorithms);
/// Reads what any of the above wrote; what is missing stays at its default, what is new is ignored.
[[nodiscard]] Outcome<Status> parse_status(std::string_view json);

/// For people: aligned columns, a line each. Empty parts are left out.
[[nodiscard]] std::string to_table(const Status& status, TableStyle style);
[[nodiscard]] std::string storage_table(const Status& status, TableStyle style);
[[nodiscard]] std::string export_table(const std::vector<ExportStatus>& exports, TableStyle style);
[[nodiscard]] std::string attachment_table(const std::vector<AttachmentStatus>& attachments,
                                           TableStyle style);
[[nodiscard]] std::string algorithm_table(const std::vector<AlgorithmStatus>& algorithms,
                                          TableStyle style);

/// "2026-01-31T12:00:00.250Z"
[[nodiscard]] std::string to_rfc3339(io::WallTime time);
[[nodiscard]] Outcome<io::WallTime> parse_rfc3339(std::string_view text);

}  // namespace dst::control
