#include "control/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/log.h"
#include "control/memory_shares.h"

namespace dst::control {
namespace {

exporter::Access access_of(AccessMode mode) {
    switch (mode) {
        case AccessMode::read_write:
            return exporter::Access::read_write;
        case AccessMode::read_only:
            return exporter::Access::read_only;
        case AccessMode::none:
            return exporter::Access::none;
    }
    return exporter::Access::none;
}

StorageState state_of(storage::State state) {
    switch (state) {
        case storage::State::running:
            return StorageState::running;
        case storage::State::degraded:
            return StorageState::degraded;
        case storage::State::holding:
            return StorageState::holding;
        case storage::State::waiting:
            return StorageState::waiting;
        case storage::State::fenced:
            return StorageState::fenced;
        case storage::State::stopped:
            return StorageState::stopped;
    }
    return StorageState::waiting;
}

mirror::Init init_of(InitMode mode) {
    switch (mode) {
        case InitMode::zero:
            return mirror::Init::zero;
        case InitMode::adopt:
            return mirror::Init::adopt;
        case InitMode::assume_clean:
            return mirror::Init::assume_clean;
    }
    return mirror::Init::zero;
}

mirror::ReadPolicy read_policy_of(ReadPolicy policy) {
    switch (policy) {
        case ReadPolicy::nearest:
            return mirror::ReadPolicy::nearest;
        case ReadPolicy::least_busy:
            return mirror::ReadPolicy::least_busy;
        case ReadPolicy::local_first:
            return mirror::ReadPolicy::local_first;
    }
    return mirror::ReadPolicy::nearest;
}

StorageStatus status_of(const storage::Storage& storage) {
    storage::StorageStatus from = storage.status();
    StorageStatus to{.name = std::move(from.name),
                     .algorithm = std::move(from.algorithm),
                     .size = from.size,
                     .state = state_of(from.state),
                     .reason = std::move(from.reason),
                     .since = from.since,
                     .attached_as = {},
                     .nodes = {},
                     .resync = {.done = from.resync.done,
                                .total = from.resync.total,
                                .rate = from.resync.bytes_per_second}};
    if (const auto& found = from.comparison)
        to.verify = {.running = found->is_running,
                     .complete = found->is_complete,
                     .done = found->done,
                     .total = found->total,
                     .different = found->different,
                     .repaired = found->repaired,
                     .undecided = found->undecided,
                     .skipped = found->skipped};
    if (const auto resync = storage.resync_settings()) {
        to.resync.size = resync->window;
        to.resync.timeout = resync->interval;
    }
    for (storage::NodeStatus& node : from.nodes)
        to.nodes.push_back({.cookie = node::to_string(node.cookie),
                            .type = std::move(node.type),
                            .start = node.start,
                            .size = node.size,
                            .in_sync = node.in_sync,
                            .connected = node.connected,
                            .stale = node.stale,
                            .reason = std::move(node.reason),
                            .flags = std::move(node.flags),
                            .read_errors = node.read_errors,
                            .rewritten = node.rewritten});
    return to;
}

std::string join(const std::vector<std::string>& names) {
    return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Engine::Engine(io::World world, algorithm::Registry& registry, node::HeadIdentity head,
               ByteCount memory, const std::string& state_dir)
    : pool_(arena_of(memory).value()),
      node_connections_(pool_, kNodeConnectionSlabs, block::Account::Holds::connections),
      connections_(pool_, kConnectionSlabs, block::Account::Holds::connections),
      around_{.world = world,
              .pool = pool_,
              .connections = node_connections_,
              .registry = registry,
              .head = head,
              .ends = {world, state_dir + "/ends"}},
      attachments_(pool_, connections_),
      exporter_(around_.world, connections_, state_dir + "/reservations") {
    attachments_.on_change([this] { around_.any_change.wake_all(); });
}

Engine::~Engine() = default;

namespace {

AttachmentStatus status_of(attach::Listed from) {
    return {.name = std::move(from.spec.name),
            .via = from.spec.via ? std::string(to_string(*from.spec.via)) : std::string(),
            .device = std::move(from.spec.device),
            .size = from.size,
            .read_only = from.spec.read_only,
            .reason = std::move(from.trouble),
            .passed_over = std::move(from.passed_over)};
}

}  // namespace

async::Task<Outcome<AttachmentStatus>> Engine::attach(attach::Spec spec) {
    if (attachments_.contains(spec.name))
        co_return refuse(ErrorCode::exists, fmt::format("'{}' is attached already: 'dst attach "
                                                        "--list' says as what",
                                                        spec.name));
    if (const auto formed = co_await wait_formed(spec.name); !formed)
        co_return refuse(formed.error().code,
                         fmt::format("'{}' can't be attached: {}", spec.name, formed.error().text));
    CO_TRY(auto listed, co_await attachments_.attach(spec, *storages_.at(spec.name)));
    co_return status_of(std::move(listed));
}

std::vector<AttachmentStatus> Engine::attached() const {
    std::vector<AttachmentStatus> all;
    for (attach::Listed& listed : attachments_.list()) all.push_back(status_of(std::move(listed)));
    return all;
}

Outcome<storage::MemberSpec> Engine::member_of(const NodeSpec& node) const {
    storage::MemberSpec member{
        .place = storage::MemoryPlace{}, .size_max = {}, .type = to_string(node)};
    if (node.size_max) member.size_max = sectors_floor(*node.size_max);
    if (const auto* remote = std::get_if<RemoteNode>(&node.place)) {
        member.place = storage::RemotePlace{remote->endpoint, remote->export_name};
        return member;
    }
    const auto& local = std::get<LocalNode>(node.place);
    if (const auto* path = std::get_if<PathDevice>(&local.device)) {
        member.place = storage::FilePlace{path->path, local.cache};
    } else if (const auto* memory = std::get_if<MemoryDevice>(&local.device)) {
        member.place = storage::MemoryPlace{memory->size};
    } else {
        const std::string& name = std::get<StorageDevice>(local.device).name;
        const auto below = storages_.find(name);
        if (below == storages_.end())
            return refuse(ErrorCode::not_found,
                          fmt::format("there is no storage '{}': create it first", name));
        member.place = storage::StoragePlace{below->second.get()};
    }
    return member;
}

Outcome<storage::MirrorSettings> Engine::mirror_settings(const StorageSpec& spec) const {
    storage::MirrorSettings mirror{
        .init = init_of(spec.init),
        .timing = {.name = spec.name,
                   .grace = spec.grace,
                   .slow = spec.slow,
                   .hold = spec.hold,
                   .read_policy = read_policy_of(spec.read_policy),
                   .resync_size = sectors_floor(spec.resync_size),
                   .resync_timeout = spec.resync_timeout},
        .takeover = std::chrono::duration_cast<std::chrono::milliseconds>(spec.takeover)};
    if (spec.quorum)
        mirror.quorum =
            *spec.quorum == Quorum::majority ? metadata::Quorum::majority : metadata::Quorum::none;
    for (const NodeSpec& node : spec.witnesses) {
        TRY(auto member, member_of(node));
        mirror.witnesses.push_back(std::move(member));
    }
    return mirror;
}

Outcome<storage::Settings> Engine::settings_of(const StorageSpec& spec,
                                               ByteCount replay_window) const {
    storage::Settings settings{.name = spec.name,
                               .algorithm = spec.algorithm,
                               .options = spec.options,
                               .members = {},
                               .replay_window = replay_window,
                               .hold = spec.hold};
    for (const NodeSpec& node : spec.nodes) {
        TRY(auto member, member_of(node));
        settings.members.push_back(std::move(member));
    }
    if (spec.algorithm == kMirror) {
        TRY(settings.mirror, mirror_settings(spec));
    }
    return settings;
}

Outcome<> Engine::add_storage(const StorageSpec& spec, ByteCount replay_window, bool is_there) {
    CHECK(!storages_.contains(spec.name));
    TRY(auto settings, settings_of(spec, replay_window));
    auto made = storage::make_storage(around_, std::move(settings));
    if (!spec.stopped) TRY_VOID(made->start({.is_there = is_there}));
    storages_.emplace(spec.name, std::move(made));
    return {};
}

async::Task<Outcome<>> Engine::wait_formed(std::string name) {
    storage::Storage& waited = *storages_.at(name);
    co_return co_await waited.formed(around_.world.clock.now() + kCommandMax);
}

bool Engine::is_started(const std::string& name) const { return storages_.at(name)->is_started(); }

bool Engine::is_ready(const std::string& name) const {
    return storages_.at(name)->obstacle().empty();
}

Outcome<> Engine::start_storage(const std::string& name, const Starting& how) {
    storage::Storage& started = *storages_.at(name);
    storage::Overruling overruling{.force = how.force};
    if (!how.keep.empty()) {
        const auto cookie = node::parse_cookie(how.keep);
        if (!cookie)
            return refuse(
                fmt::format("{} is no node: give its 16 hex digits, as the reason of "
                            "'dst status' has them",
                            how.keep));
        overruling.keep = *cookie;
    }
    const bool overrules = how.force || overruling.keep;
    if (!started.is_started()) return started.start(overruling);
    if (overrules) return started.overrule(overruling);
    if (const std::string obstacle = started.obstacle(); !obstacle.empty())
        return refuse(ErrorCode::exists,
                      fmt::format("storage '{}' is started, and waits: {}", name, obstacle));
    return refuse(ErrorCode::exists, fmt::format("storage '{}' runs already", name));
}

/// Who uses a storage: an export or another storage; empty if nobody does.
std::string Engine::user_of(const std::string& name) const {
    std::vector<std::string> users;
    for (const auto& [shown, entry] : shown_)
        if (const auto* below = std::get_if<StorageDevice>(&entry.spec.device);
            below != nullptr && below->name == name)
            users.push_back(fmt::format("export '{}'", shown));
    if (attachments_.contains(name)) users.push_back("an attachment ('dst detach' ends it)");
    for (const auto& [other, made] : storages_)
        if (made->uses(name)) users.push_back(fmt::format("storage '{}'", other));
    return join(users);
}

Outcome<> Engine::check_unused(const std::string& name) const {
    if (const std::string user = user_of(name); !user.empty())
        return refuse(ErrorCode::busy,
                      fmt::format("storage '{}' is in use by {}: remove that first", name, user));
    return {};
}

async::Task<Outcome<>> Engine::stop_storage(std::string name, io::TimePoint deadline) {
    co_return co_await storages_.at(name)->stop(deadline);
}

async::Task<Outcome<>> Engine::remove_storage(std::string name) {
    const Outcome<> stopped = co_await stop_storage(name, around_.world.clock.now() + kCommandMax);
    storages_.erase(name);
    if (const auto forgotten = around_.ends.note(name, {}); !forgotten)
        log::warning("storage {}: where its nodes end can't be forgotten: {}", name,
                     forgotten.error().text);
    co_return stopped;
}

async::Task<Outcome<>> Engine::add_node(std::string name, NodeSpec node, Adding how, Noting note) {
    CO_TRY(auto member, member_of(node));
    co_return co_await storages_.at(name)->add_node(
        std::move(member),
        {.is_witness = how.is_witness, .note = std::move(note), .force = how.force},
        around_.world.clock.now() + kCommandMax);
}

/// By its cookie, by the name of its directory in the tree, or by its type if that is clear.
Outcome<storage::NodeStatus> Engine::find_node(const std::string& name,
                                               const std::string& node) const {
    const auto dash = node.rfind('-');
    const auto cookie = node::parse_cookie(
        node.starts_with("n-") ? std::string_view(node).substr(dash + 1) : std::string_view(node));
    std::vector<storage::NodeStatus> found;
    for (storage::NodeStatus& each : storages_.at(name)->status().nodes)
        if (cookie ? each.cookie == *cookie : each.type == node) found.push_back(std::move(each));
    if (found.size() > 1)
        return refuse(
            fmt::format("storage '{}' has {} nodes '{}': give the cookie, as 'dst status "
                        "--json' has it",
                        name, found.size(), node));
    if (found.empty() || found.front().cookie == 0)
        return refuse(
            ErrorCode::not_found,
            fmt::format("storage '{}' has no node '{}': 'dst status' lists them", name, node));
    return std::move(found.front());
}

async::Task<Outcome<std::string>> Engine::remove_node(std::string name, std::string node,
                                                      bool force) {
    CO_TRY(const storage::NodeStatus found, find_node(name, node));
    CO_TRY_VOID(co_await storages_.at(name)->remove_node(found.cookie, force,
                                                         around_.world.clock.now() + kCommandMax));
    co_return found.type;
}

bool Engine::has_node(const std::string& name, const std::string& type) const {
    return std::ranges::any_of(storages_.at(name)->status().nodes, [&](const auto& node) {
        return node.type == type && node.cookie != 0;
    });
}

Outcome<std::string> Engine::type_of(const std::string& name, const std::string& node) const {
    TRY(storage::NodeStatus found, find_node(name, node));
    return std::move(found.type);
}

Outcome<bool> Engine::is_witness(const std::string& name, const std::string& node) const {
    TRY(const storage::NodeStatus found, find_node(name, node));
    return std::ranges::find(found.flags, "witness") != found.flags.end();
}

async::Task<Outcome<std::string>> Engine::replace_node(std::string name, std::string node,
                                                       NodeSpec spec, Adding how, Noting note) {
    CO_TRY(const storage::NodeStatus found, find_node(name, node));
    CO_TRY(auto member, member_of(spec));
    CO_TRY_VOID(co_await storages_.at(name)->replace_node(
        found.cookie, std::move(member),
        {.is_witness = how.is_witness, .note = std::move(note), .force = how.force},
        around_.world.clock.now() + kCommandMax));
    co_return found.type;
}

async::Task<Outcome<>> Engine::mark_node(std::string name, std::string node, NodeMark mark,
                                         bool force) {
    CO_TRY(const storage::NodeStatus found, find_node(name, node));
    storage::Storage& marked = *storages_.at(name);
    if (mark == NodeMark::clean) co_return co_await marked.mark_clean(found.cookie, force);
    co_return co_await marked.mark_dirty(found.cookie, force,
                                         around_.world.clock.now() + kCommandMax);
}

Outcome<> Engine::begin_comparison(const std::string& name, bool repair) {
    return storages_.at(name)->begin_comparison(repair);
}

async::Task<Outcome<>> Engine::grow_storage(std::string name) {
    co_return co_await storages_.at(name)->grow(around_.world.clock.now() + kCommandMax);
}

Outcome<> Engine::set_resync(const std::string& name, const ResyncChange& change) {
    storage::Storage& changed = *storages_.at(name);
    storage::ResyncSettings settings =
        changed.resync_settings().value_or(storage::ResyncSettings{});
    settings.window = change.size.value_or(settings.window);
    settings.interval = change.timeout.value_or(settings.interval);
    return changed.set_resync(settings);
}

Outcome<> Engine::set_storage(const StorageSpec& spec, ByteCount replay_window) {
    TRY(auto settings, settings_of(spec, replay_window));
    storages_.at(spec.name)->set_settings(std::move(settings));
    return {};
}

async::Task<Outcome<std::unique_ptr<block::Device>>> Engine::open_device(const ExportSpec& spec) {
    if (const auto* memory = std::get_if<MemoryDevice>(&spec.device))
        co_return node::open_memory(around_.world, memory->size);
    const bool writable = !spec.read_only &&
                          std::any_of(spec.access.begin(), spec.access.end(), [](const auto& rule) {
                              return rule.mode == AccessMode::read_write;
                          });
    co_return co_await node::open_file(around_.world, std::get<PathDevice>(spec.device).path,
                                       {.cache = spec.cache, .read_only = !writable});
}

async::Task<Outcome<>> Engine::add_export(ExportSpec spec) {
    CHECK(!shown_.contains(spec.name));
    Shown entry{.spec = spec, .device = {}, .account = {}};
    exporter::Target target;
    if (const auto* below = std::get_if<StorageDevice>(&spec.device)) {
        const auto at = storages_.find(below->name);
        if (at == storages_.end())
            co_return refuse(ErrorCode::not_found,
                             fmt::format("export '{}': there is no storage '{}': create it first",
                                         spec.name, below->name));
        storage::Storage* const shown = at->second.get();
        target = {.device = shown,
                  .obstacle = [shown] { return shown->obstacle(); },
                  .changes = &shown->changes()};
    } else {
        auto opened = co_await open_device(spec);
        if (!opened)
            co_return refuse(opened.error().code,
                             fmt::format("export '{}': {}", spec.name, opened.error().text));
        // While it was being opened somebody else may have taken the name.
        if (shown_.contains(spec.name))
            co_return refuse(ErrorCode::exists,
                             fmt::format("there is an export '{}' already", spec.name));
        entry.device = std::move(*opened);
        target.device = entry.device.get();
        target.is_lasting = !std::holds_alternative<MemoryDevice>(spec.device);
    }
    auto account = pool_.share(kExportSlabs, kExportSlabsMin);
    if (!account)
        co_return refuse(account.error().code,
                         fmt::format("export '{}': {}", spec.name, account.error().text));
    entry.account = std::move(*account);
    exporter::Settings settings{.name = spec.name,
                                .description = spec.description,
                                .access = {},
                                .read_only = spec.read_only};
    for (const AccessRule& rule : spec.access)
        settings.access.push_back({rule.subnet, access_of(rule.mode)});
    const Outcome<> added = exporter_.add(
        std::make_unique<exporter::Export>(std::move(settings), std::move(target), *entry.account));
    if (!added)
        co_return refuse(added.error().code,
                         fmt::format("export '{}': {}", spec.name, added.error().text));
    shown_.emplace(spec.name, std::move(entry));
    log::info("export {}: shows {}", spec.name, to_string(spec.device));
    co_return Outcome<>{};
}

struct Engine::Leaving {
    std::string name;
    Shown shown;
    std::unique_ptr<exporter::Export> left;  // goes before what it shows
    bool is_gone = false;
    Outcome<> result;
    async::WaitQueue ended;
};

async::Task<Outcome<>> Engine::remove_export(std::string name) {
    const auto at = shown_.find(name);
    if (at == shown_.end()) co_return Outcome<>{};
    const auto leaving = std::make_shared<Leaving>();
    leaving->name = name;
    leaving->shown = std::move(at->second);
    leaving->left = exporter_.take_out(name);
    shown_.erase(at);
    leaving_.spawn(let_go(leaving));
    const io::TimePoint deadline = around_.world.clock.now() + kPartingMax;
    while (!leaving->is_gone)
        if (!co_await io::wait_until(around_.world.clock, leaving->ended, deadline)) break;
    if (!leaving->is_gone)
        log::warning("export {}: closed, but requests of its clients still wait for {}", name,
                     to_string(leaving->shown.spec.device));
    co_return leaving->result;
}

async::Task<void> Engine::let_go(std::shared_ptr<Leaving> leaving) {
    co_await leaving->left->gone();
    exporter_.forget(*leaving->left);
    leaving->left.reset();
    if (block::Device* const device = leaving->shown.device.get(); device != nullptr) {
        block::Request request{.op = block::Op::flush};
        if (const auto done = co_await device->execute(request); !done) {
            leaving->result =
                refuse(done.error().code,
                       fmt::format("export '{}' is closed, but flushing its device failed: {}",
                                   leaving->name, to_string(done.error().code)));
            log::error("{}", leaving->result.error().text);
        }
    }
    leaving->shown.account.reset();
    leaving->shown.device.reset();
    leaving->is_gone = true;
    leaving->ended.wake_all();
    log::info("export {}: closed", leaving->name);
}

void Engine::interrupt(bool hurry) {
    around_.ending = true;
    for (const auto& [name, made] : storages_) {
        made->changes().wake_all();
        if (hurry) made->hurry();
    }
    // Commands among them, which the end waits for.
    if (hurry) pool_.give_up();
}

namespace {

/// Nobody is there any more to be told; the log is.
async::Task<void> stop_quietly(storage::Storage& stopped, io::TimePoint deadline) {
    (void)co_await stopped.stop(deadline);
}

}  // namespace

async::Task<void> Engine::shut_down(io::TimePoint deadline) {
    exporter_.finish();
    // Half of the time is for requests that may still be answered, half for flushing.
    const io::TimePoint now = around_.world.clock.now();
    async::Scope parting;
    parting.spawn(attachments_.shut_down(now + (deadline - now) / 2));
    const bool drained = co_await exporter_.drained(now + (deadline - now) / 2);
    co_await parting.join();
    if (!drained)
        log::warning("stopping although requests wait: their clients will have to ask again");
    async::Scope closing;
    closing.spawn(exporter_.close());
    // Before the time is up all that still waits, for peers or for memory, is given up.
    auto last = [this] {
        for (const auto& [name, made] : storages_) made->abandon();
        pool_.give_up();
    };
    io::Deadline<decltype(last)> timer(last);
    timer.arm(around_.world.clock, deadline);
    // From the top of the stack down; what waits in a storage fails now, and lets its session go.
    while (true) {
        async::Scope stopping;
        for (const auto& [name, made] : storages_) {
            const bool is_top =
                std::none_of(storages_.begin(), storages_.end(), [&](const auto& other) {
                    return other.second->is_started() && other.second->uses(made->name());
                });
            if (made->is_started() && is_top) stopping.spawn(stop_quietly(*made, deadline));
        }
        if (stopping.empty() &&
            std::none_of(storages_.begin(), storages_.end(),
                         [](const auto& entry) { return entry.second->is_started(); }))
            break;
        co_await stopping.join();
    }
    co_await closing.join();
    while (!shown_.empty()) {
        const std::string name = shown_.begin()->first;
        (void)co_await remove_export(name);  // what goes wrong is logged there
    }
    co_await leaving_.join();
    co_await attachments_.gone();
}

void Engine::measure(Figures& figures) const {
    for (const StorageStatus& of : figures.status.storages) {
        const auto at = storages_.find(of.name);
        if (at == storages_.end()) continue;
        const storage::Storage& storage = *at->second;
        figures.storages.emplace(of.name, StorageFigures{.measures = &storage.measures(),
                                                         .queueing = &storage.queueing(),
                                                         .waiting = storage.requests_waiting(),
                                                         .nodes = storage.node_measures()});
    }
    for (const ExportStatus& of : figures.status.exports) {
        const exporter::Export* const shown = exporter_.find(of.name);
        if (shown == nullptr) continue;
        figures.exports.emplace(of.name,
                                ExportFigures{.measures = &shown->measures(),
                                              .checksum_errors = shown->checksum_errors()});
    }
}

Outcome<WhatIf> Engine::what_if(const std::string& name) const {
    const storage::Storage& storage = *storages_.at(name);
    if (!storage.is_formed())
        return refuse(
            ErrorCode::busy,
            fmt::format("storage '{}' is not running, so there is nothing to lose yet: {}", name,
                        storage.obstacle()));
    return WhatIf{name, storage.settings().algorithm, storage.losses()};
}

std::optional<StorageStatus> Engine::report(std::string_view name) const {
    const auto at = storages_.find(name);
    if (at == storages_.end()) return std::nullopt;
    return status_of(*at->second);
}

void Engine::report(const Config& config, Status& status) const {
    status.attachments = attached();
    for (const StorageSpec& spec : config.storages) {
        const auto at = storages_.find(spec.name);
        if (at == storages_.end()) continue;
        status.storages.push_back(status_of(*at->second));
        for (const AttachmentStatus& attached : status.attachments)
            if (attached.name == spec.name && !attached.device.empty())
                status.storages.back().attached_as.push_back(attached.device);
    }
    for (const ExportSpec& spec : config.exports) {
        const exporter::Export* const shown = exporter_.find(spec.name);
        if (shown == nullptr) continue;
        ExportStatus to{.name = spec.name,
                        .device = to_string(spec.device),
                        .size = shown->target().device->geometry().size,
                        .clients = shown->clients(),
                        .read_only = spec.read_only,
                        .description = spec.description};
        if (const auto& reservation = shown->reservation(); reservation != nullptr) {
            const exporter::Holding& holding = reservation->holding();
            to.reservation = holding.number;
            if (holding.holder) to.reserved_by = fmt::format("{:016x}", holding.holder->head);
        }
        status.exports.push_back(std::move(to));
    }
    status.memory.used = status.memory.used +
                         ByteCount((pool_.slabs_total() - pool_.slabs_free()) * block::kSlabBytes);
}

}  // namespace dst::control
