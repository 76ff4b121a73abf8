#include "sim/swarm/draft.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "control/memory_shares.h"
#include "sim/scenario/route.h"
#include "sim/swarm/swarm.h"

namespace dst::sim {
namespace {

constexpr std::uint64_t kSalt = 0x5a3a;

}  // namespace

DaemonSpec& Draft::daemon(std::string_view name) {
    const auto found = std::ranges::find(scenario.daemons, name, &DaemonSpec::name);
    CHECK(found != scenario.daemons.end());
    return *found;
}

HostSpec& Draft::host(std::string_view name) {
    const auto found = std::ranges::find(scenario.hosts, name, &HostSpec::name);
    CHECK(found != scenario.hosts.end());
    return *found;
}

std::string Draft::address_of(const Loose& which) {
    const DaemonSpec& server = daemon(which.daemon);
    return fmt::format("R: {}:{}/{}", server.host, port_of(server), which.export_name);
}

const DiskSpec& draw_disk(Draft& draft, HostSpec& host) {
    DiskSpec disk;
    disk.path = fmt::format("/disk{}", ++draft.disks);
    disk.size = draft.one_of<ByteCount>(
        {ByteCount(256 << 10), ByteCount(1 << 20), ByteCount(2 << 20), ByteCount(3 << 20)});
    disk.block = draft.one_in(4) ? 4096 : 512;
    disk.is_device = draft.one_in(4);
    disk.can_discard = !draft.one_in(4);
    disk.has_fast_zero = !draft.one_in(4);
    disk.latency =
        draft.one_of<Duration>({std::chrono::microseconds(20), std::chrono::microseconds(60),
                                std::chrono::milliseconds(2)});
    host.disks.push_back(disk);
    return host.disks.back();
}

HostSpec& draw_host(Draft& draft) {
    auto& hosts = draft.scenario.hosts;
    if (hosts.size() < draft.hosts_max && (hosts.empty() || !draft.one_in(5))) {
        hosts.push_back({.name = fmt::format("host{}", hosts.size() + 1), .disks = {}});
        return hosts.back();
    }
    return hosts[draft.random.below(hosts.size())];
}

DaemonSpec& add_daemon(Draft& draft, std::string name) {
    const HostSpec& host = draw_host(draft);
    DaemonSpec daemon;
    daemon.name = std::move(name);
    daemon.host = host.name;
    const auto beside = std::ranges::count(draft.scenario.daemons, host.name, &DaemonSpec::host);
    if (beside > 0)
        daemon.config.listen = {{.host = "0.0.0.0",
                                 .port = static_cast<std::uint16_t>(control::kDefaultPort + beside),
                                 .unix_path = {}}};
    if (draft.one_in(6)) daemon.config.memory = ByteCount(33 << 20);
    draft.scenario.daemons.push_back(std::move(daemon));
    return draft.scenario.daemons.back();
}

Scenario draw_scenario(std::uint64_t seed) {
    Draft draft(seed ^ kSalt);
    draft.hosts_max = draft.one_of<std::size_t>({1, 2, 3, 3, 4, 4, 5, 5, 5});
    draft.scenario.about = fmt::format("What seed {} has drawn.", seed);
    draw_exporters(draft);
    draw_heads(draft);
    for (DaemonSpec& daemon : draft.scenario.daemons)
        daemon.config.memory =
            std::max(daemon.config.memory, control::enough_memory(daemon.config));
    draw_clients(draft);
    draw_storm(draft);
    const auto valid = validate(draft.scenario);
    CHECK(valid.has_value());
    return std::move(draft.scenario);
}

}  // namespace dst::sim
