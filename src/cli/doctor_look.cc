// What `dst doctor` looks at: this host, the places that a configuration names.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>

#include "base/log.h"
#include "cli/doctor.h"
#include "cli/visitor.h"
#include "control/state_file.h"
#include "io/uring/reactor.h"

namespace dst::cli {
namespace {

using control::Config;

std::string text_of(int error) { return std::generic_category().message(error); }

std::optional<std::uint64_t> limit_of(__rlimit_resource resource) {
    struct rlimit limit{};
    if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
    return limit.rlim_cur;
}

bool can_open(const char* path) {
    const int fd = ::open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
}

/// Whether modprobe would find a module of this name (`name.ko`, packed or not).
bool has_module(std::string_view name) {
    struct utsname kernel{};
    ::uname(&kernel);
    std::ifstream list(fmt::format("/lib/modules/{}/modules.dep", kernel.release));
    const std::string wanted = fmt::format("/{}.ko", name);
    for (std::string line; std::getline(list, line);)
        if (line.substr(0, line.find(':')).find(wanted) != std::string::npos) return true;
    return false;
}

Finding look_at_attachments() {
    return judge_attachments({.ublk = can_open("/dev/ublk-control") || has_module("ublk_drv"),
                              .nbd = ::access("/sys/block/nbd0", F_OK) == 0 || has_module("nbd"),
                              .fuse = can_open("/dev/fuse")});
}

Finding look_at_kernel() {
    struct utsname name{};
    ::uname(&name);
    return judge_kernel(name.release);
}

Finding look_at_ring() {
    const auto reactor = io::uring::Reactor::create({});
    if (!reactor) return {"io_uring", Verdict::bad, reactor.error().text, {}};
    const std::string warning = (*reactor)->warning();
    if (!warning.empty()) return {"io_uring", Verdict::doubtful, warning, {}};
    return {"io_uring", Verdict::good, "works"};
}

Finding look_at_clock() {
    struct timex kept{};
    const int state = ::adjtimex(&kept);
    return judge_clock(state >= 0 && state != TIME_ERROR && (kept.status & STA_UNSYNC) == 0,
                       kept.maxerror);
}

/// Sockets, disks and their lock files; and some that a daemon has anyway.
std::uint64_t files_needed(const Config& config) {
    std::uint64_t count = 64 + 32 * config.exports.size();
    for (const auto& storage : config.storages)
        count += 2 * (storage.nodes.size() + storage.witnesses.size());
    return count;
}

Finding look_at_folder(const std::string& setting, const std::string& path) {
    if (::access(path.c_str(), W_OK) == 0) return {setting, Verdict::good, path};
    if (errno == ENOENT)
        return {setting, Verdict::good, path + " is not there yet; the daemon makes it"};
    return {setting, Verdict::bad, fmt::format("{}: {}", path, text_of(errno)),
            "the daemon has to write there: run it (and dst doctor) as a user who may"};
}

Finding look_at_state(io::FileSystem& files, const Config& config) {
    const std::string path = control::state_path(config);
    const auto state = control::load_state(files, path);
    if (!state) return {"state", Verdict::bad, state.error().text, {}};
    const auto all = control::check(control::effective(config, *state));
    if (!all) return {"state", Verdict::bad, all.error().text, {}};
    const std::size_t changes =
        state->exports.size() + state->storages.size() + state->algorithms.size();
    if (changes == 0) return {"state", Verdict::good, "nothing was changed at run time"};
    return {"state", Verdict::good,
            fmt::format("{} changes made at run time ('dst config diff' has them)", changes)};
}

Finding look_at_disk(const std::string& user, const std::string& path) {
    if (::access(path.c_str(), R_OK | W_OK) == 0)
        return {"disk", Verdict::good, fmt::format("{} of {}", path, user)};
    return {"disk", Verdict::bad, fmt::format("{} of {}: {}", path, user, text_of(errno)),
            errno == ENOENT ? "make it, or correct the path" : "let the daemon's user at it"};
}

async::Task<Finding> look_at_export(io::World world, std::string user, io::Endpoint endpoint,
                                    std::string name) {
    const std::string place = fmt::format("{}/{} of {}", io::to_string(endpoint), name, user);
    Visitor visitor(world, endpoint, name);
    const bool is_there = co_await visitor.connect();
    const node::RemoteStatus status = visitor.remote().status();
    co_await visitor.leave();
    if (!is_there)
        co_return Finding{"exporter", Verdict::bad, fmt::format("{}: {}", place, status.reason),
                          "see that a daemon exports it there, that its access lets this host in, "
                          "and that no firewall closes the port"};
    if (!status.is_ours)
        co_return Finding{"exporter", Verdict::doubtful, place + ": a plain NBD server",
                          "nothing fences old connections there, and it has no vote: export the "
                          "disk with 'dst daemon' instead"};
    co_return Finding{"exporter", Verdict::good, place + ": answers, and speaks our protocol"};
}

async::Task<Findings> look_at_nodes(io::World world, const Config& config) {
    Findings findings;
    for (const auto& storage : config.storages) {
        const std::string user = fmt::format("storage '{}'", storage.name);
        for (const auto* const nodes : {&storage.nodes, &storage.witnesses}) {
            for (const control::NodeSpec& node : *nodes) {
                if (const auto* remote = std::get_if<control::RemoteNode>(&node.place)) {
                    findings.push_back(co_await look_at_export(world, user, remote->endpoint,
                                                               remote->export_name));
                } else {
                    const auto& local = std::get<control::LocalNode>(node.place);
                    if (const auto* disk = std::get_if<control::PathDevice>(&local.device))
                        findings.push_back(look_at_disk(user, disk->path));
                }
            }
        }
    }
    co_return findings;
}

}  // namespace

Findings look_at_host(const Config& config) {
    const auto locked = limit_of(RLIMIT_MEMLOCK);
    return {look_at_kernel(),
            look_at_ring(),
            judge_open_files(limit_of(RLIMIT_NOFILE), files_needed(config)),
            judge_locked_memory(locked ? std::optional(ByteCount(*locked)) : std::nullopt,
                                config.memory),
            look_at_attachments(),
            look_at_clock()};
}

Findings look_at_places(const Config& config) {
    log::set_sink(nullptr);  // what there is to say is said once, in the findings
    Findings findings = judge_listening(config);
    findings.push_back(look_at_folder("run_dir", config.run_dir));
    findings.push_back(look_at_folder("state_dir", config.state_dir));
    for (const control::ExportSpec& shown : config.exports)
        if (const auto* disk = std::get_if<control::PathDevice>(&shown.device))
            findings.push_back(look_at_disk(fmt::format("export '{}'", shown.name), disk->path));
    const auto reactor = io::uring::Reactor::create({});
    if (!reactor) return findings;  // said already
    const io::World world = (*reactor)->world();
    findings.push_back(look_at_state(world.files, config));
    const Findings nodes = (*reactor)->block_on(look_at_nodes(world, config));
    findings.insert(findings.end(), nodes.begin(), nodes.end());
    return findings;
}

}  // namespace dst::cli
