#include "sim/scenario/route.h"

#include <fmt/format.h>

#include <algorithm>
#include <variant>

namespace dst::sim {
namespace {

/// Far more than any stack has; fewer than a circle goes round.
constexpr std::size_t kDepthMax = 16;

template <typename T>
void add_once(std::vector<T>& all, T one) {
    if (std::ranges::find(all, one) == all.end()) all.push_back(one);
}

/// Who serves there; null: nobody.
const DaemonSpec* server_at(const Scenario& scenario, const io::Endpoint& endpoint) {
    for (const DaemonSpec& daemon : scenario.daemons)
        if (daemon.host == endpoint.host && port_of(daemon) == endpoint.port) return &daemon;
    return nullptr;
}

class Search {
  public:
    explicit Search(const Scenario& scenario) : scenario_(scenario) {}

    Outcome<> show(const DaemonSpec& daemon, std::string_view export_name, std::size_t depth) {
        if (depth > kDepthMax) return refuse(daemon.name + ": its exports go round in a circle");
        const control::ExportSpec* const shown = daemon.config.find_export(export_name);
        if (shown == nullptr)
            return refuse(fmt::format("{} has no export '{}'", daemon.name, export_name));
        add_once(route_.daemons, &daemon);
        if (depth > 0 && daemon.is_plain) route_.has_plain_server = true;
        if (depth == 0) {
            if (const auto* const named = std::get_if<control::StorageDevice>(&shown->device)) {
                route_.is_storage = true;
                const auto* const storage = daemon.config.find_storage(named->name);
                route_.is_mirror = storage != nullptr && storage->algorithm == control::kMirror;
            }
        }
        return device(daemon, shown->device, depth);
    }

    Outcome<> nodes(const DaemonSpec& daemon, const std::vector<control::NodeSpec>& nodes,
                    std::size_t depth) {
        for (const control::NodeSpec& node : nodes) TRY_VOID(this->node(daemon, node, depth));
        return {};
    }

    Route take() { return std::move(route_); }

  private:
    Outcome<> device(const DaemonSpec& daemon, const control::DeviceSpec& device,
                     std::size_t depth) {
        if (std::holds_alternative<control::MemoryDevice>(device)) {
            (route_.daemons.front() == &daemon ? route_.has_own_memory : route_.has_far_memory) =
                true;
            return {};
        }
        if (const auto* const path = std::get_if<control::PathDevice>(&device))
            return disk(daemon, path->path);
        const auto& name = std::get<control::StorageDevice>(device).name;
        const control::StorageSpec* const storage = daemon.config.find_storage(name);
        if (storage == nullptr)
            return refuse(fmt::format("{} has no storage '{}'", daemon.name, name));
        if (storage->hold) route_.has_hold = true;
        TRY_VOID(nodes(daemon, storage->nodes, depth));
        if (scenario_.administrator.changes(daemon.name, name))
            TRY_VOID(nodes(daemon, scenario_.administrator.spares, depth));
        return {};
    }

    Outcome<> disk(const DaemonSpec& daemon, std::string_view path) {
        const HostSpec& host = *scenario_.find_host(daemon.host);
        const auto found = std::ranges::find(host.disks, path, &DiskSpec::path);
        if (found == host.disks.end())
            return refuse(
                fmt::format("{} has no disk {}, which {} wants", host.name, path, daemon.name));
        add_once(route_.disks,
                 {.host = &host, .disk = &*found, .is_own = route_.daemons.front() == &daemon});
        return {};
    }

    Outcome<> node(const DaemonSpec& daemon, const control::NodeSpec& node, std::size_t depth) {
        if (const auto* const local = std::get_if<control::LocalNode>(&node.place))
            return device(daemon, local->device, depth);
        const auto& remote = std::get<control::RemoteNode>(node.place);
        if (const DaemonSpec* const far = server_at(scenario_, remote.endpoint))
            return show(*far, remote.export_name, depth + 1);
        return refuse(fmt::format("{}: nobody serves at {}: write the name of a host", daemon.name,
                                  io::to_string(remote.endpoint)));
    }

    const Scenario& scenario_;
    Route route_;
};

}  // namespace

std::uint16_t port_of(const DaemonSpec& daemon) {
    return daemon.config.listen.empty() ? control::kDefaultPort : daemon.config.listen.front().port;
}

std::vector<const DaemonSpec*> needed_by(const Scenario& scenario, const DaemonSpec& daemon) {
    std::vector<const DaemonSpec*> needed;
    const auto add = [&](const std::vector<control::NodeSpec>& nodes) {
        for (const control::NodeSpec& node : nodes)
            if (const auto* const remote = std::get_if<control::RemoteNode>(&node.place))
                if (const DaemonSpec* const far = server_at(scenario, remote->endpoint))
                    add_once(needed, far);
    };
    for (const control::StorageSpec& storage : daemon.config.storages) {
        add(storage.nodes);
        add(storage.witnesses);
        if (scenario.administrator.changes(daemon.name, storage.name))
            add(scenario.administrator.spares);
    }
    return needed;
}

std::pair<std::string_view, std::string_view> split_at(std::string_view at) {
    const std::size_t slash = at.find('/');
    if (slash == std::string_view::npos) return {at, {}};
    return {at.substr(0, slash), at.substr(slash + 1)};
}

Outcome<Route> find_nodes(const Scenario& scenario, const DaemonSpec& daemon,
                          const std::vector<control::NodeSpec>& nodes) {
    Search search(scenario);
    TRY_VOID(search.nodes(daemon, nodes, 0));
    return search.take();
}

Outcome<Route> find_route(const Scenario& scenario, std::string_view at) {
    const auto [daemon_name, export_name] = split_at(at);
    const DaemonSpec* const daemon = scenario.find_daemon(daemon_name);
    if (daemon == nullptr || export_name.empty())
        return refuse(fmt::format("'{}' is no DAEMON/EXPORT of here", at));
    Search search(scenario);
    TRY_VOID(search.show(*daemon, export_name, 0));
    return search.take();
}

}  // namespace dst::sim
