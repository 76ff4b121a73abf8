// Whether a scenario makes sense: names, references, what can't be.
#include <fmt/format.h>

#include <set>

#include "block/request.h"
#include "sim/scenario/route.h"
#include "sim/scenario/scenario.h"
#include "sim/scenario/steps.h"

namespace dst::sim {
namespace {

Outcome<> check_names(const Scenario& scenario) {
    std::set<std::string_view> hosts;
    for (const HostSpec& host : scenario.hosts)
        if (!hosts.insert(host.name).second)
            return refuse(fmt::format("there are two hosts '{}'", host.name));
    std::set<std::string_view> processes;
    for (const DaemonSpec& daemon : scenario.daemons) {
        if (!processes.insert(daemon.name).second)
            return refuse(fmt::format("there are two processes '{}'", daemon.name));
        if (!hosts.contains(daemon.host))
            return refuse(
                fmt::format("daemon '{}': there is no host '{}'", daemon.name, daemon.host));
    }
    for (const ClientSpec& client : scenario.clients) {
        if (!processes.insert(client.name).second)
            return refuse(fmt::format("there are two processes '{}'", client.name));
        if (client.kind != ClientKind::inside && !hosts.contains(client.host))
            return refuse(
                fmt::format("client '{}': there is no host '{}'", client.name, client.host));
    }
    return {};
}

Outcome<> check_daemon(const DaemonSpec& daemon) {
    if (!daemon.is_plain) return {};
    bool fits = daemon.config.storages.empty();
    for (const control::ExportSpec& shown : daemon.config.exports)
        fits = fits && std::holds_alternative<control::PathDevice>(shown.device);
    if (!fits)
        return refuse(
            fmt::format("daemon '{}': a plain server has exports of disks alone", daemon.name));
    return {};
}

Outcome<> check_client(const Scenario& scenario, const ClientSpec& client) {
    const auto wrong = [&](std::string_view what) {
        return refuse(fmt::format("client '{}': {}", client.name, what));
    };
    const auto route = find_route(scenario, client.at);
    if (!route) return wrong(route.error().text);
    if (client.kind == ClientKind::inside && !route->is_storage)
        return wrong("inside of a daemon there are clients of storages alone");
    if (client.part > client.parts) return wrong("its part is none of its parts");
    if (client.shortest > client.longest) return wrong("shortest is longer than longest");
    if (client.longest > ByteCount(block::kPayloadMaxBytes))
        return wrong("longest is more than a device takes at a time (1 MiB)");
    const MixSpec& mix = client.mix;
    if (mix.read + mix.write + mix.write_zeroes + mix.trim + mix.flush + mix.block_status == 0)
        return wrong("its mix has nothing in it");
    return {};
}

Outcome<> check_permit(const Scenario& scenario, const PermitSpec& permit) {
    for (const Fault fault : permit.faults)
        for (const std::string& name : permit.of)
            if (const auto target = parse_target(scenario, fault, name); !target)
                return refuse(fmt::format("storm: {} of {}: {}", to_string(fault), name,
                                          target.error().text));
    return {};
}

/// He changes a mirror, and what may become a node of it is a disk that is there.
Outcome<> check_administrator(const Scenario& scenario) {
    const AdministratorSpec& spec = scenario.administrator;
    if (spec.at.empty() && spec.commands == 0 && spec.spares.empty()) return {};
    const auto [name, storage_name] = split_at(spec.at);
    const DaemonSpec* const daemon = scenario.find_daemon(name);
    const auto* const storage =
        daemon == nullptr ? nullptr : daemon->config.find_storage(storage_name);
    if (storage == nullptr || storage->algorithm != control::kMirror)
        return refuse(
            fmt::format("administrator: '{}' is no DAEMON/STORAGE of here that is a "
                        "mirror",
                        spec.at));
    const auto found = find_nodes(scenario, *daemon, spec.spares);
    if (!found) return refuse("administrator: " + found.error().text);
    return {};
}

}  // namespace

Outcome<> validate(const Scenario& scenario) {
    TRY_VOID(check_names(scenario));
    for (const DaemonSpec& daemon : scenario.daemons) TRY_VOID(check_daemon(daemon));
    for (const ClientSpec& client : scenario.clients) TRY_VOID(check_client(scenario, client));
    for (const PermitSpec& permit : scenario.storm.permits)
        TRY_VOID(check_permit(scenario, permit));
    TRY_VOID(check_administrator(scenario));
    for (const StepSpec& step : scenario.steps) {
        if (step.at.has_value() == step.after.has_value())
            return refuse(fmt::format("step '{}': give either `at` or `after`", step.what));
        if (const auto parsed = parse_step(scenario, step.what); !parsed)
            return refuse(fmt::format("step '{}': {}", step.what, parsed.error().text));
    }
    return {};
}

}  // namespace dst::sim
