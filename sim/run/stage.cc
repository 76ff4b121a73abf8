#include "sim/run/stage.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/check.h"
#include "sim/client.h"
#include "sim/daemon.h"
#include "sim/plain_server.h"

namespace dst::sim {
namespace {

DiskSettings settings_of(const DiskSpec& spec) {
    return {.size = sectors_floor(spec.size),
            .block_bytes = spec.block,
            .is_block_device = spec.is_device,
            .can_discard = spec.can_discard,
            .can_zero_fast = spec.has_fast_zero,
            .latency = spec.latency};
}

/// Somebody has had it before, and has cleared its end, where metadata is looked for.
void use(Disk& disk) {
    constexpr SectorCount kCleared = sectors_floor(ByteCount(512 << 10));
    constexpr std::byte kRemains{0xa5};
    CHECK(disk.medium().size() > kCleared);
    const SectorRange front{SectorIndex(0), disk.medium().size() - kCleared};
    const std::vector<std::byte> remains(to_bytes(front.count).value(), kRemains);
    disk.medium().write(front, remains);
    disk.medium().make_durable(front);
}

Volume::Keeper keeper_of(const ClientSpec& spec, const Route& route) {
    if (spec.kind == ClientKind::node) return Volume::Keeper::node;
    return route.is_storage ? Volume::Keeper::storage : Volume::Keeper::disk;
}

}  // namespace

/// Two daemons of one host must not share a state.
control::Config Stage::config_of(const DaemonSpec& spec) {
    control::Config config = spec.config;
    if (config.state_dir == control::Config{}.state_dir) config.state_dir += "/" + spec.name;
    return config;
}

WorldSettings Stage::settings_of(const Scenario& scenario, std::uint64_t seed, Trace::Sink trace) {
    WorldSettings settings{.seed = seed, .trace = std::move(trace)};
    settings.network.link.latency = scenario.network.latency;
    settings.network.link.jitter = scenario.network.jitter;
    settings.network.send_buffer_bytes = scenario.network.send_buffer.value();
    settings.network.receive_buffer_bytes = scenario.network.receive_buffer.value();
    return settings;
}

Stage::Stage(const Scenario& scenario, std::uint64_t seed, Trace::Sink trace)
    : scenario_(scenario),
      world_(settings_of(scenario, seed, std::move(trace))),
      keeper_(world_),
      faults_(world_, keeper_) {
    for (const HostSpec& host : scenario_.hosts) add_host(host);
    for (const ClientSpec& client : scenario_.clients) add_customer(client);
    for (const DaemonSpec& daemon : scenario_.daemons) add_server(daemon);
    for (const auto& customer : customers_) add_client(*customer);
    watch_processes();
    watch_disks();
    for (const PermitSpec& spec : scenario_.storm.permits) {
        // The targets of one fault need not be those of another: "far" is a host, and no link.
        for (const Fault fault : spec.faults) {
            Permit permit{.faults = {fault}, .targets = {}, .most = spec.most};
            for (const std::string& name : spec.of)
                permit.targets.push_back(resolve(*parse_target(scenario_, fault, name)));
            faults_.permit(std::move(permit));
        }
    }
}

void Stage::add_host(const HostSpec& spec) {
    Host& host = world_.add_host(spec.name);
    for (const DiskSpec& disk : spec.disks) {
        Disk& added = host.add_disk(disk.path, sim::settings_of(disk));
        if (disk.is_used) use(added);
    }
}

Host& Stage::host(std::string_view name) const {
    for (const auto& host : world_.hosts())
        if (host->name() == name) return *host;
    check_failed("a host of the scenario", __FILE__, __LINE__);
}

void Stage::add_customer(const ClientSpec& spec) {
    auto customer = std::make_unique<Customer>();
    customer->spec = &spec;
    customer->volume = &volume_of(spec);
    customer->workload = std::make_unique<Workload>(spec, customer->volume->history(), world_);
    customers_.push_back(std::move(customer));
}

/// The exports show the same mirror, which either daemon may form.
bool is_same_mirror(const Route& a, const Route& b) {
    return a.is_mirror && b.is_mirror && a.disks == b.disks;
}

/// A node is a volume of its own; all others at one export share one, and so do those at one mirror
/// of several heads.
Volume& Stage::volume_of(const ClientSpec& spec) {
    Route route = *find_route(scenario_, spec.at);
    const Volume::Keeper keeper = keeper_of(spec, route);
    const std::string name =
        keeper == Volume::Keeper::node ? spec.name + "'s node of " + spec.at : spec.at;
    for (const auto& volume : volumes_)
        if (volume->name() == name ||
            (keeper == Volume::Keeper::storage && volume->keeper() == Volume::Keeper::storage &&
             is_same_mirror(volume->route(), route)))
            return *volume;
    std::vector<const Disk*> disks;
    disks.reserve(route.disks.size());
    for (const Route::DiskAt& at : route.disks)
        disks.push_back(host(at.host->name).find_disk(at.disk->path));
    volumes_.push_back(std::make_unique<Volume>(name,
                                                static_cast<std::uint16_t>(volumes_.size() + 1),
                                                keeper, std::move(route), world_, faults_));
    volumes_.back()->set_disks(std::move(disks));
    return *volumes_.back();
}

void Stage::add_server(const DaemonSpec& spec) {
    std::vector<InnerLoad> loads;
    for (const auto& customer : customers_) {
        const auto& [daemon, export_name] = split_at(customer->spec->at);
        if (customer->spec->kind == ClientKind::inside && daemon == spec.name)
            loads.push_back(
                {.export_name = std::string(export_name),
                 .make = [&workload = *customer->workload] { return workload.make_load(); }});
    }
    Process& process = host(spec.host).add_process(
        spec.name,
        spec.is_plain ? plain_server(spec.config) : daemon(config_of(spec), std::move(loads)));
    servers_.push_back({.spec = &spec, .process = &process});
}

void Stage::add_client(Customer& customer) {
    const ClientSpec& spec = *customer.spec;
    const auto& [daemon_name, export_name] = split_at(spec.at);
    const DaemonSpec& daemon = *scenario_.find_daemon(daemon_name);
    if (spec.kind == ClientKind::inside) {
        customer.process = find_process(daemon.name);
        return;
    }
    const io::Endpoint endpoint = host(daemon.host).endpoint(port_of(daemon));
    const auto make_load = [&workload = *customer.workload] { return workload.make_load(); };
    Process::Main main = spec.kind == ClientKind::node
                             ? node_client({.endpoint = endpoint,
                                            .export_name = std::string(export_name),
                                            .replay_window = spec.replay_window,
                                            .hold = spec.hold,
                                            .checksums = spec.checksums,
                                            .state_dir = "/var/lib/" + spec.name},
                                           make_load)
                             : plain_client({.endpoint = endpoint,
                                             .export_name = std::string(export_name),
                                             .structured_replies = spec.structured_replies},
                                            make_load);
    customer.process = &host(spec.host).add_process(spec.name, std::move(main));
}

void Stage::watch_processes() {
    std::vector<Process*> processes;
    processes.reserve(servers_.size() + customers_.size());
    for (const Server& server : servers_) processes.push_back(server.process);
    for (const auto& customer : customers_) processes.push_back(customer->process);
    for (Process* const process : processes)
        process->watch([this, process](Ending ending) {
            for (const auto& volume : volumes_)
                if (volume->kept_by() == process) volume->keeper_ended(ending);
        });
    for (const auto& customer : customers_) {
        Volume& volume = *customer->volume;
        volume.set_keeper(volume.keeper() == Volume::Keeper::node
                              ? customer->process
                              : find_process(volume.route().daemons.front()->name));
    }
    for (const auto& customer : customers_) {
        if (customer->volume->keeper() != Volume::Keeper::storage) continue;
        const auto& [daemon, export_name] = split_at(customer->spec->at);
        Process& process = *find_process(daemon);
        customer->volume->heads().add(process, std::string(export_name));
        customer->volume->heads().add_client(process, customer->spec->name);
    }
    for (const auto& volume : volumes_)
        if (volume->heads().are_several())
            world_.watch([&heads = volume->heads()] { heads.look(); });
    for (const auto& customer : customers_) {
        Heads& heads = customer->volume->heads();
        if (heads.are_several())
            customer->workload->set_contested(
                [&heads] { heads.look(); },
                [&heads, client = std::string_view(customer->spec->name)](check::Order begin) {
                    heads.answered(client, begin);
                });
    }
}

void Stage::watch_disks() {
    for (const auto& host : world_.hosts())
        for (const auto& disk : host->disks())
            disk->watch([this, &disk = *disk](Disk::Loss loss) {
                for (const auto& volume : volumes_) volume->disk_forgot(disk, loss);
            });
}

Process* Stage::find_process(std::string_view name) const {
    for (const Server& server : servers_)
        if (server.spec->name == name) return server.process;
    for (const auto& customer : customers_)
        if (customer->spec->name == name) return customer->process;
    return nullptr;
}

Target Stage::resolve(const TargetName& name) const {
    Target target;
    if (!name.process.empty()) target.process = find_process(name.process);
    // Of a disk the host only says where it is.
    if (!name.host.empty() && name.disk.empty()) target.host = &host(name.host);
    if (!name.other.empty()) target.other = &host(name.other);
    if (!name.disk.empty()) target.disk = host(name.host).find_disk(name.disk);
    return target;
}

std::vector<Process*> Stage::in_order_of_stop() const {
    std::vector<Process*> order;
    for (const auto& customer : customers_)
        if (customer->spec->kind != ClientKind::inside) order.push_back(customer->process);
    std::vector<const DaemonSpec*> done;
    // Whoever is needed comes behind all that need it.
    const std::function<void(const DaemonSpec&)> visit = [&](const DaemonSpec& spec) {
        if (std::ranges::find(done, &spec) != done.end()) return;
        for (const DaemonSpec& other : scenario_.daemons) {
            const auto needed = needed_by(scenario_, other);
            if (std::ranges::find(needed, &spec) != needed.end()) visit(other);
        }
        done.push_back(&spec);
        order.push_back(find_process(spec.name));
    };
    for (const DaemonSpec& spec : scenario_.daemons) visit(spec);
    return order;
}

}  // namespace dst::sim
