// Scenario: a cluster, what its clients do, and what goes wrong, as data.
//
// Files of scenarios/ hold scenarios (docs/simulation.md says how to write one), and each seed can
// draw one of its own (swarm/). Either way a run is made by a scenario and a seed, and by nothing
// else. A daemon's configuration is the product's own, read by the product.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "control/config.h"
#include "sim/faults.h"

namespace dst::sim {

using control::Duration;

struct DiskSpec {
    std::string path;
    ByteCount size{2 << 20};
    unsigned block = 512;       // bytes that are never torn
    bool is_device = false;     // a block device instead of a file
    bool can_discard = true;    // or trims are ignored
    bool has_fast_zero = true;  // or zeroes are written
    bool is_used = false;       // but for its end it holds what somebody left there
    Duration latency = std::chrono::microseconds(60);
    friend bool operator==(const DiskSpec&, const DiskSpec&) = default;
};

struct HostSpec {
    std::string name;
    std::vector<DiskSpec> disks;
    friend bool operator==(const HostSpec&, const HostSpec&) = default;
};

/// Of every link between two hosts.
struct NetworkSpec {
    Duration latency = std::chrono::microseconds(30);
    Duration jitter = std::chrono::microseconds(60);
    ByteCount send_buffer{256 << 10};
    ByteCount receive_buffer{256 << 10};
    friend bool operator==(const NetworkSpec&, const NetworkSpec&) = default;
};

struct DaemonSpec {
    std::string name;
    std::string host;
    /// What the file would say. Where it says nothing of them a simulated daemon listens to the
    /// network, lets everybody in, and has 40 MiB of memory.
    control::Config config;
    /// A plain NBD server instead of ours: no sessions, no instance, no checksums. Files only.
    bool is_plain = false;
    /// Does not run before a step starts it.
    bool starts_later = false;
    friend bool operator==(const DaemonSpec&, const DaemonSpec&) = default;
};

enum class ClientKind : std::uint8_t {
    node,    // a head of its own with one remote node: requests wait and are sent again
    plain,   // an NBD client that knows nothing of that: requests fail when the connection breaks
    inside,  // in the daemon, at the device that the export shows
};

/// Which of a client's requests may be in flight together although they overlap.
enum class Overlap : std::uint8_t {
    none,   // none of which one is a change
    reads,  // a read and anything
    all,    // anything and anything
};

/// How often each operation is drawn, relative to the others.
struct MixSpec {
    unsigned read = 45;
    unsigned write = 40;
    unsigned write_zeroes = 5;
    unsigned trim = 2;
    unsigned flush = 5;
    unsigned block_status = 3;
    friend bool operator==(const MixSpec&, const MixSpec&) = default;
};

struct ClientSpec {
    std::string name;
    /// Where it runs; `inside`: nowhere but in its daemon.
    std::string host;
    ClientKind kind = ClientKind::node;
    /// DAEMON/EXPORT
    std::string at;
    /// Which part of the device it uses, of how many: clients that must not meet have their own.
    unsigned part = 1;
    unsigned parts = 1;
    unsigned requests = 2000;
    unsigned depth = 8;
    ByteCount shortest{512};
    ByteCount longest{8 << 10};
    MixSpec mix;
    unsigned fua_percent = 5;  // of changes
    /// After so many requests, but for 0, it asks for nothing for once to twice `rest`: what was
    /// changed comes to rest, too.
    unsigned burst = 0;
    Duration rest{};
    Overlap overlap = Overlap::none;
    // Of a node:
    ByteCount replay_window{4 << 20};
    std::optional<Duration> hold;
    bool checksums = true;
    // Of a plain one:
    bool structured_replies = true;
    friend bool operator==(const ClientSpec&, const ClientSpec&) = default;
};

/// Something that happens at a certain time.
struct StepSpec {
    /// Since the clients began, or since so many of all their requests were answered.
    std::optional<Duration> at;
    std::optional<unsigned> after;
    /// A sentence (run/steps.h).
    std::string what;
    friend bool operator==(const StepSpec&, const StepSpec&) = default;
};

/// Faults that may strike, and whom.
struct PermitSpec {
    std::vector<Fault> faults;
    /// Daemons, clients, hosts, "HOST - HOST", "HOST:DISK": as the faults need.
    std::vector<std::string> of;
    /// At most so many of them in a run.
    std::optional<unsigned> most;
    friend bool operator==(const PermitSpec&, const PermitSpec&) = default;
};

struct StormSpec {
    /// So many faults, each some time after the one before, at most `pause`.
    unsigned faults = 10;
    Duration pause = std::chrono::milliseconds(400);
    /// Not only after all clients have found their devices.
    bool from_the_start = false;
    std::vector<PermitSpec> permits;
    friend bool operator==(const StormSpec&, const StormSpec&) = default;
};

/// Who changes the nodes of a mirror while it is in use (run/administrator.h).
struct AdministratorSpec {
    /// DAEMON/STORAGE
    std::string at;
    /// So many commands, each some time after the answer to the one before, at most `pause`.
    unsigned commands = 0;
    Duration pause = std::chrono::milliseconds(800);
    /// What may become a node, beside those that the configuration names.
    std::vector<control::NodeSpec> spares;
    friend bool operator==(const AdministratorSpec&, const AdministratorSpec&) = default;

    /// It is that storage of that daemon's which he changes.
    [[nodiscard]] bool changes(std::string_view daemon, std::string_view storage) const;
};

struct Scenario {
    std::string name;
    std::string about;
    NetworkSpec network;
    std::vector<HostSpec> hosts;
    std::vector<DaemonSpec> daemons;
    std::vector<ClientSpec> clients;
    std::vector<StepSpec> steps;
    StormSpec storm;
    AdministratorSpec administrator;
    /// When it is calm, so long until everything is answered.
    Duration calm = std::chrono::seconds(120);
    /// At the end, when all have stopped in order, the power is cut everywhere; nothing may be
    /// lost.
    bool ends_with_power_cut = true;
    friend bool operator==(const Scenario&, const Scenario&) = default;

    [[nodiscard]] const HostSpec* find_host(std::string_view host) const;
    [[nodiscard]] const DaemonSpec* find_daemon(std::string_view daemon) const;
};

/// Reads and checks a scenario's file. A `[draw]` table gives lists: `seed` draws one of each, and
/// "$key" in any other string stands for it. A refusal is one line, `FILE:LINE: what, why`.
[[nodiscard]] Outcome<Scenario> parse_scenario(std::string_view toml, std::string_view file_name,
                                               std::uint64_t seed);
/// What `parse_scenario` reads back as the same.
[[nodiscard]] std::string to_toml(const Scenario& scenario);
/// Names, references, and what can't be: a text that names it.
[[nodiscard]] Outcome<> validate(const Scenario& scenario);

}  // namespace dst::sim
