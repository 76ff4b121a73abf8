// Steps: the sentences that say what happens, and to whom.
//
//     FAULT TARGET [for DURATION]     "kill exporter for 2s", "partition near - far",
//                                     "slow disk far:/disk for 10s"; without a time: until calm
//     start NAME                      a daemon or client that is down
//     grow HOST:/DISK to SIZE         the disk has that size from now on
//     tell DAEMON: COMMAND            what `dst` would be told:
//                                       node add STORAGE NODE
//                                       node remove | mark-dirty STORAGE NODE
//                                       node replace STORAGE NODE by NODE
//                                       storage verify | repair STORAGE
//                                       storage start | stop | remove | grow STORAGE
//                                       storage force STORAGE: start, though nodes are missing
//                                       storage keep STORAGE HOST:/DISK: resolve, for that side
//                                       export add NAME DEVICE | export remove NAME
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "sim/scenario/scenario.h"

namespace dst::sim {

/// Whom a fault strikes, by name.
struct TargetName {
    std::string process;  // a daemon, or a client
    std::string host;
    std::string other;  // of a link: the other host
    std::string disk;   // its path on `host`
    friend bool operator==(const TargetName&, const TargetName&) = default;
};
/// "exporter", "far", "far - near", "far:/disk", as the fault needs.
[[nodiscard]] Outcome<TargetName> parse_target(const Scenario& scenario, Fault fault,
                                               std::string_view text);

struct StrikeStep {
    Fault fault;
    TargetName target;
    std::optional<Duration> length;
};
struct StartStep {
    std::string process;
};
struct GrowStep {
    TargetName disk;
    SectorCount size;
};
struct NodeAdd {
    std::string storage;
    control::NodeSpec node;
};
/// Of a mirror, in live use.
struct NodeCommand {
    enum class Verb : std::uint8_t { remove, replace, mark_dirty } verb;
    std::string storage;
    std::string node;  // its type
    control::NodeSpec by{};
};
struct StorageCommand {
    enum class Verb : std::uint8_t { start, stop, remove, grow, verify, repair } verb;
    std::string storage;
};
/// What a person says of a storage that waits: without `side` that it starts by force.
struct StorageOverrule {
    std::string storage;
    std::optional<TargetName> side{};
};
struct ExportAdd {
    control::ExportSpec spec;
};
struct ExportRemove {
    std::string name;
};
struct TellStep {
    std::string daemon;
    std::string words;  // as written
    std::variant<NodeAdd, NodeCommand, StorageCommand, StorageOverrule, ExportAdd, ExportRemove>
        command;
};
using Step = std::variant<StrikeStep, StartStep, GrowStep, TellStep>;

[[nodiscard]] Outcome<Step> parse_step(const Scenario& scenario, std::string_view sentence);

}  // namespace dst::sim
