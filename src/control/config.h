// What the administrator wishes: the daemon, its exports, its storages, its loaded algorithms.
//
// Pure: text in, values out. A Config that `parse_config` returned is consistent (`check`); what
// only the world can tell (is there such a disk? such an algorithm?) is left to whoever opens it.
// The same specs come out of the configuration file, the state file, the API and the command line.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "control/durations.h"
#include "io/address.h"
#include "io/file.h"

namespace dst::control {

/// Where a thing was written, "FILE:LINE"; empty for what a command asked for. Never part of what
/// the thing is, so any two are equal.
struct Where {
    std::string text;
    friend bool operator==(const Where&, const Where&) { return true; }
};

// Devices and nodes ------------------------------------------------------------------------------

/// A file or a block device.
struct PathDevice {
    std::string path;
    friend bool operator==(const PathDevice&, const PathDevice&) = default;
};
/// `memory:SIZE`: gone with the process. Whole sectors, not zero.
struct MemoryDevice {
    ByteCount size;
    friend bool operator==(const MemoryDevice&, const MemoryDevice&) = default;
};
/// `storage:NAME`
struct StorageDevice {
    std::string name;
    friend bool operator==(const StorageDevice&, const StorageDevice&) = default;
};
using DeviceSpec = std::variant<PathDevice, MemoryDevice, StorageDevice>;

/// `L: DEVICE`
struct LocalNode {
    DeviceSpec device;
    /// For a path only.
    io::CacheMode cache = io::CacheMode::direct;
    friend bool operator==(const LocalNode&, const LocalNode&) = default;
};
/// `R: HOST[:PORT]/EXPORT`; the export's name may be empty (the server's default).
struct RemoteNode {
    io::Endpoint endpoint;
    std::string export_name;
    friend bool operator==(const RemoteNode&, const RemoteNode&) = default;
};
struct NodeSpec {
    std::variant<LocalNode, RemoteNode> place;
    /// The node uses no more than this, and the whole device if unset. Whole sectors, not zero.
    std::optional<ByteCount> size_max;
    friend bool operator==(const NodeSpec&, const NodeSpec&) = default;
};

/// The one algorithm whose nodes hold metadata.
inline constexpr std::string_view kMirror = "mirror";

inline constexpr std::uint16_t kDefaultPort = 10809;

[[nodiscard]] Outcome<DeviceSpec> parse_device(std::string_view text);
/// "/dev/sdb", "memory:512M", "storage:vol0": as `parse_device` reads it.
[[nodiscard]] std::string to_string(const DeviceSpec& device);
[[nodiscard]] Outcome<NodeSpec> parse_node(std::string_view text);
/// "L: /dev/sdb", "R: host:10809/disk0": as the tree shows it, without size and cache.
[[nodiscard]] std::string to_string(const NodeSpec& node);
/// 1..64 characters of [A-Za-z0-9._-], the first no dot.
[[nodiscard]] Outcome<> check_name(std::string_view name);

// Exports ----------------------------------------------------------------------------------------

enum class AccessMode : std::uint8_t { read_write, read_only, none };

struct AccessRule {
    std::string from;  // as written
    io::Subnet subnet;
    AccessMode mode = AccessMode::read_write;
    friend bool operator==(const AccessRule& a, const AccessRule& b) {
        return a.from == b.from && a.mode == b.mode;
    }
};
/// `FROM=MODE`, as the command line has it: "10.0.0.0/8=ro".
[[nodiscard]] Outcome<AccessRule> parse_access(std::string_view text);
/// Loopback may read and write, nobody else may anything.
[[nodiscard]] std::vector<AccessRule> default_access();

struct ExportSpec {
    std::string name;
    DeviceSpec device;
    /// The first rule that contains the client counts; without one it is refused.
    std::vector<AccessRule> access = default_access();
    io::CacheMode cache = io::CacheMode::direct;
    bool read_only = false;
    std::string description;
    Where where;
    friend bool operator==(const ExportSpec&, const ExportSpec&) = default;
};

// Storages ---------------------------------------------------------------------------------------

enum class InitMode : std::uint8_t { zero, adopt, assume_clean };
enum class Quorum : std::uint8_t { none, majority };
enum class ReadPolicy : std::uint8_t { nearest, least_busy, local_first };
enum class MetadataPlace : std::uint8_t { none, on_nodes };

/// Settings that are unset stand for a default that depends on others.
struct StorageSpec {
    std::string name;
    /// Any name: it may be loaded from a file later.
    std::string algorithm;
    std::vector<NodeSpec> nodes;
    /// Of a mirror: nodes that hold metadata alone, and have a vote.
    std::vector<NodeSpec> witnesses;
    InitMode init = InitMode::zero;
    Duration grace = std::chrono::seconds(5);
    Duration slow = std::chrono::seconds(30);
    /// Unset: for ever.
    std::optional<Duration> hold;
    Duration takeover = std::chrono::seconds(10);
    /// Unset: majority with three or more votes.
    std::optional<Quorum> quorum;
    ReadPolicy read_policy = ReadPolicy::nearest;
    ByteCount resync_size = ByteCount(1 << 20);
    Duration resync_timeout = std::chrono::seconds(1);
    /// Unset: see `replay_window()`.
    std::optional<ByteCount> replay_window;
    /// Unset: the daemon's.
    std::optional<unsigned> spin_us;
    /// Unset: the algorithm's own choice.
    std::optional<MetadataPlace> metadata;
    /// Settings of the algorithm's own, as text, in the order of their names.
    std::vector<std::pair<std::string, std::string>> options;
    /// Stopped by a command. Only the state file says so, never the configuration.
    bool stopped = false;
    Where where;
    friend bool operator==(const StorageSpec&, const StorageSpec&) = default;
};

struct AlgorithmSpec {
    std::string file;
    Where where;
    friend bool operator==(const AlgorithmSpec&, const AlgorithmSpec&) = default;
};

// All of it --------------------------------------------------------------------------------------

struct Config {
    std::string run_dir = "/run/dst";
    std::string state_dir = "/var/lib/dst";
    std::vector<io::Endpoint> listen = {{"127.0.0.1", kDefaultPort, {}}};
    std::optional<io::Endpoint> metrics_listen;
    ByteCount memory = ByteCount(256 << 20);
    unsigned spin_us = 0;
    std::vector<ExportSpec> exports;
    std::vector<StorageSpec> storages;
    std::vector<AlgorithmSpec> algorithms;
    friend bool operator==(const Config&, const Config&) = default;

    /// The spec of that name, or null.
    [[nodiscard]] const ExportSpec* find_export(std::string_view name) const;
    [[nodiscard]] const StorageSpec* find_storage(std::string_view name) const;
};

/// Reads and checks. A refusal is one line, `FILE:LINE: what, why, what to do`.
[[nodiscard]] Outcome<Config> parse_config(std::string_view toml, std::string_view file_name);

/// Whether everything fits together: names, references, devices used twice, settings that
/// contradict each other. For a Config that was changed since it was parsed. `newcomer`: what a
/// command adds or changes ("storage 'vol0'", "export 'disk0'"): of two users of a device it is the
/// one to blame.
[[nodiscard]] Outcome<> check(const Config& config, std::string_view newcomer = {});

/// What `parse_config` reads back as the same. Settings at their defaults are left out.
[[nodiscard]] std::string to_toml(const Config& config);
[[nodiscard]] std::string to_toml(const ExportSpec& spec);
[[nodiscard]] std::string to_toml(const StorageSpec& spec);
[[nodiscard]] std::string to_toml(const AlgorithmSpec& spec);

/// One spec as a JSON object of the same keys and values, as the API has it.
[[nodiscard]] Outcome<ExportSpec> parse_export_json(std::string_view json);
[[nodiscard]] Outcome<StorageSpec> parse_storage_json(std::string_view json);
/// A string as `parse_node` reads it, or an object {"device", "size", "cache"}.
[[nodiscard]] Outcome<NodeSpec> parse_node_json(std::string_view json);
[[nodiscard]] std::string to_json(const ExportSpec& spec);
[[nodiscard]] std::string to_json(const StorageSpec& spec);
[[nodiscard]] std::string to_json(const NodeSpec& node);

/// How many bytes of changes each node of the storage may keep for a replay: as set, else 64M, or
/// a quarter of `memory` if that is less.
[[nodiscard]] ByteCount replay_window(const StorageSpec& spec, const Config& config);
/// How long its reactor may poll before it sleeps; the storage's own, else the daemon's.
[[nodiscard]] unsigned spin_us(const StorageSpec& spec, const Config& config);

}  // namespace dst::control
