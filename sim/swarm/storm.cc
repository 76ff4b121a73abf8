// The swarm's faults: which of those that are permitted (sim/faults.h) there are.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "sim/scenario/route.h"
#include "sim/swarm/draft.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

/// A pair of hosts with connections between them.
struct Link {
    std::string near;
    std::string far;
    bool has_checksums = true;  // all of them
    bool has_plain_server_behind_node = false;
};

class Storm {
  public:
    explicit Storm(Draft& draft) : draft_(draft), scenario_(draft.scenario) {}

    void draw() {
        StormSpec& storm = scenario_.storm;
        storm.faults = draft_.one_of({4U, 8U, 12U, 20U});
        storm.pause = draft_.one_of<Duration>({50ms, 200ms, 400ms, 1s});
        find_links();
        draw_exchanges();
        storm.from_the_start = !exchanges_ && draft_.one_in(4);
        draw_ends();
        draw_network();
        draw_disks();
        if (storm.permits.empty()) permit({Fault::clock_step}, {scenario_.hosts.front().name});
    }

  private:
    /// Each kind is there or not, as the seed wants.
    void permit(std::initializer_list<Fault> faults, const std::vector<std::string>& of,
                std::optional<unsigned> most = {}) {
        PermitSpec permit{.faults = {}, .of = of, .most = most};
        for (const Fault fault : faults)
            if (draft_.one_in(2)) permit.faults.push_back(fault);
        if (!permit.faults.empty() && !of.empty())
            scenario_.storm.permits.push_back(std::move(permit));
    }

    [[nodiscard]] static bool has_memory(const DaemonSpec& daemon) {
        const auto is_memory = [](const control::DeviceSpec& device) {
            return std::holds_alternative<control::MemoryDevice>(device);
        };
        for (const control::ExportSpec& shown : daemon.config.exports)
            if (is_memory(shown.device)) return true;
        for (const control::StorageSpec& storage : daemon.config.storages)
            for (const control::NodeSpec& node : storage.nodes)
                if (const auto* const local = std::get_if<control::LocalNode>(&node.place))
                    if (is_memory(local->device)) return true;
        return false;
    }

    void find_links() {
        for (const DaemonSpec& daemon : scenario_.daemons)
            for (const DaemonSpec* const far : needed_by(scenario_, daemon))
                add_link(daemon.host, *far, true);
        for (const ClientSpec& client : scenario_.clients) {
            if (client.kind == ClientKind::inside) continue;
            const DaemonSpec& far = *scenario_.find_daemon(split_at(client.at).first);
            const bool is_node = client.kind == ClientKind::node;
            add_link(client.host, far, is_node, is_node && client.checksums);
        }
    }
    void add_link(const std::string& near, const DaemonSpec& far, bool from_node,
                  bool checksums = true) {
        if (near == far.host) return;
        const auto [first, second] = std::minmax(near, far.host);
        auto found = std::ranges::find_if(
            links_, [&](const Link& link) { return link.near == first && link.far == second; });
        if (found == links_.end())
            found = links_.insert(links_.end(), {.near = first, .far = second});
        if (!checksums || far.is_plain) found->has_checksums = false;
        if (from_node && far.is_plain) found->has_plain_server_behind_node = true;
    }

    /// An exchanged disk is noticed by who has known the old one: so nobody may be started anew but
    /// the exporter, and all of its users are nodes.
    void draw_exchanges() {
        if (!draft_.one_in(3)) return;
        std::vector<std::string> disks;
        for (const DaemonSpec& daemon : scenario_.daemons) {
            if (daemon.is_plain || !daemon.config.storages.empty() || has_memory(daemon)) continue;
            for (const control::ExportSpec& shown : daemon.config.exports) {
                const std::string at = daemon.name + "/" + shown.name;
                const bool has_plain_client =
                    std::ranges::any_of(scenario_.clients, [&](const ClientSpec& client) {
                        return client.at == at && client.kind == ClientKind::plain;
                    });
                if (!has_plain_client)
                    disks.push_back(fmt::format("{}:{}", daemon.host,
                                                std::get<control::PathDevice>(shown.device).path));
            }
        }
        if (disks.empty()) return;
        exchanges_ = true;
        scenario_.storm.permits.push_back(
            {.faults = {Fault::exchanged_disk, Fault::smaller_disk}, .of = disks, .most = {}});
    }

    /// Processes and machines.
    void draw_ends() {
        std::vector<std::string> ending;
        std::vector<std::string> pausing;
        std::vector<std::string> plain;
        std::set<std::string> powered;  // hosts that must keep their power
        for (const DaemonSpec& daemon : scenario_.daemons) {
            const bool is_head = !daemon.config.storages.empty();
            const auto needed = needed_by(scenario_, daemon);
            const bool needs_plain = std::ranges::any_of(needed, &DaemonSpec::is_plain);
            const bool must_stay = has_memory(daemon) || needs_plain || (exchanges_ && is_head);
            if (must_stay)
                powered.insert(daemon.host);
            else
                ending.push_back(daemon.name);
            if (!is_plain_copy(daemon)) (daemon.is_plain ? plain : pausing).push_back(daemon.name);
        }
        for (const ClientSpec& client : scenario_.clients) {
            if (client.kind == ClientKind::inside) continue;
            const bool is_node = client.kind == ClientKind::node;
            const bool is_at_plain = scenario_.find_daemon(split_at(client.at).first)->is_plain;
            if (is_node && (exchanges_ || is_at_plain))
                powered.insert(client.host);
            else
                ending.push_back(client.name);
            pausing.push_back(client.name);
        }
        permit({Fault::kill, Fault::restart}, ending);
        permit({Fault::pause}, pausing);
        // A connection to it breaks if it is paused for long.
        permit({Fault::pause}, plain, 1);
        std::vector<std::string> hosts;
        std::vector<std::string> all_hosts;
        for (const HostSpec& host : scenario_.hosts) {
            all_hosts.push_back(host.name);
            if (!powered.contains(host.name)) hosts.push_back(host.name);
        }
        permit({Fault::power_cut}, hosts);
        permit({Fault::clock_step}, all_hosts);
    }

    void draw_network() {
        std::vector<std::string> all;
        std::vector<std::string> breaking;
        std::vector<std::string> flipping;
        for (const Link& link : links_) {
            const std::string name = link.near + " - " + link.far;
            all.push_back(name);
            if (!link.has_plain_server_behind_node) breaking.push_back(name);
            if (link.has_checksums) flipping.push_back(name);
        }
        permit({Fault::slow_link, Fault::lossy_link}, all);
        permit({Fault::partition, Fault::one_way_partition, Fault::reset, Fault::stall}, breaking);
        permit({Fault::flip_bits}, flipping);
    }

    void draw_disks() {
        std::vector<std::string> all;
        std::vector<std::string> failing;
        std::vector<std::string> waiting;
        for (const HostSpec& host : scenario_.hosts)
            for (const DiskSpec& disk : host.disks) {
                const std::string name = fmt::format("{}:{}", host.name, disk.path);
                const DaemonSpec* const plain = plain_server_of(host, disk);
                all.push_back(name);
                if (plain == nullptr) failing.push_back(name);
                if (plain == nullptr || !is_plain_copy(*plain)) waiting.push_back(name);
            }
        permit({Fault::slow_disk, Fault::hanging_disk, Fault::stuck_requests}, waiting);
        if (!draft_.one_in(3)) return;
        permit({Fault::read_error, Fault::bad_sector}, all);
        // A flush that fails makes a node connect anew, and nobody fences a plain server's old
        // connection.
        permit({Fault::write_error, Fault::flush_error, Fault::full_disk}, failing);
    }
    /// Whichever shows the disk; null: none does.
    [[nodiscard]] const DaemonSpec* plain_server_of(const HostSpec& host,
                                                    const DiskSpec& disk) const {
        const control::DeviceSpec device = control::PathDevice{disk.path};
        for (const DaemonSpec& daemon : scenario_.daemons)
            if (daemon.is_plain && daemon.host == host.name &&
                std::ranges::any_of(daemon.config.exports,
                                    [&](const auto& shown) { return shown.device == device; }))
                return &daemon;
        return nullptr;
    }
    /// A plain server that holds a copy of a mirror, or part of one.
    [[nodiscard]] bool is_plain_copy(const DaemonSpec& daemon) const {
        const auto has_mirror = [](const DaemonSpec& head) {
            return std::ranges::any_of(head.config.storages, [](const auto& storage) {
                return storage.algorithm == control::kMirror;
            });
        };
        return daemon.is_plain && std::ranges::any_of(scenario_.daemons, [&](const auto& head) {
                   const auto needed = needed_by(scenario_, head);
                   return has_mirror(head) && std::ranges::find(needed, &daemon) != needed.end();
               });
    }

    Draft& draft_;
    Scenario& scenario_;
    std::vector<Link> links_;
    bool exchanges_ = false;
};

}  // namespace

void draw_storm(Draft& draft) { Storm(draft).draw(); }

}  // namespace dst::sim
