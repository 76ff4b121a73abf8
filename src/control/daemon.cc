#include "control/daemon.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "algorithm/linear.h"
#include "algorithm/loader.h"
#include "base/check.h"
#include "base/log.h"
#include "control/apply_plan.h"
#include "control/attach_record.h"
#include "control/config_diff.h"
#include "control/config_value.h"

namespace dst::control {
namespace {

/// One change at a time; the next one begins when this dies.
class Turn {
  public:
    explicit Turn(async::Semaphore& changing) : changing_(changing) {}
    ~Turn() { changing_.release(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

  private:
    async::Semaphore& changing_;
};

template <typename Spec>
void erase_named(std::vector<Spec>& specs, const std::string& name) {
    std::erase_if(specs, [&](const Spec& spec) { return spec.name == name; });
}

AlgorithmStatus to_status(const algorithm::Registry::Listed& listed) {
    return {.name = listed.name,
            .description = listed.description,
            .file = listed.file,
            .uses = listed.uses};
}

}  // namespace

Daemon::Daemon(io::World world, Config file, RuntimeState state, node::HeadIdentity head)
    : world_(world),
      file_(std::move(file)),
      state_(std::move(state)),
      config_(effective(file_, state_)),
      engine_(world_, registry_, head, config_.memory, file_.state_dir) {
    CHECK(registry_.register_algorithm("linear", "nodes one after another", algorithm::make_linear)
              .has_value());
}

Daemon::~Daemon() = default;

async::Task<Outcome<>> Daemon::start() {
    watching_.spawn(watch());
    CO_TRY(attached_, load_attachments(world_.files, attachments_path(file_)));
    CO_TRY_VOID(start_algorithms());
    CO_TRY_VOID(start_storages());
    CO_TRY_VOID(co_await start_exports());
    for (const io::Endpoint& endpoint : config_.listen)
        CO_TRY_VOID(co_await engine_.exporter().listen(endpoint));
    if (config_.metrics_listen) {
        const Outcome<> done = co_await metrics_.listen(*config_.metrics_listen);
        if (!done)
            co_return refuse(done.error().code,
                             fmt::format("metrics_listen: {}", done.error().text));
    }
    for (const std::string& line : warnings()) log::warning("{}", line);
    // Their storages may take long to form.
    for (const attach::Spec& spec : attached_) attaching_.spawn(attach_again(spec));
    co_return Outcome<>{};
}

Outcome<> Daemon::start_algorithms() {
    for (const AlgorithmSpec& spec : config_.algorithms) {
        auto loaded = algorithm::load_algorithm(registry_, spec.file);
        if (!loaded) return std::unexpected(std::move(loaded.error()));
        log::info("algorithm {}: loaded from {}", *loaded, spec.file);
    }
    return {};
}

/// Storages below come before those that stand on them.
std::vector<const StorageSpec*> Daemon::in_order_of_need() const {
    std::vector<const StorageSpec*> order;
    std::set<std::string> done;
    const std::function<void(const StorageSpec&)> visit = [&](const StorageSpec& spec) {
        if (!done.insert(spec.name).second) return;
        for (const auto* const nodes : {&spec.nodes, &spec.witnesses})
            for (const NodeSpec& node : *nodes)
                if (const auto* local = std::get_if<LocalNode>(&node.place))
                    if (const auto* below = std::get_if<StorageDevice>(&local->device))
                        if (const StorageSpec* const found = config_.find_storage(below->name))
                            visit(*found);
        order.push_back(&spec);
    };
    for (const StorageSpec& spec : config_.storages) visit(spec);
    return order;
}

Outcome<> Daemon::start_storages() {
    for (const StorageSpec* const spec : in_order_of_need()) {
        const auto added = engine_.add_storage(*spec, replay_window(*spec, config_));
        if (!added)
            return refuse(added.error().code, fmt::format("{}{}storage '{}': {}", spec->where.text,
                                                          spec->where.text.empty() ? "" : ": ",
                                                          spec->name, added.error().text));
    }
    return {};
}

async::Task<Outcome<>> Daemon::start_exports() {
    for (const ExportSpec& spec : config_.exports) {
        const auto added = co_await engine_.add_export(spec);
        if (!added)
            co_return refuse(added.error().code,
                             fmt::format("{}{}{}", spec.where.text,
                                         spec.where.text.empty() ? "" : ": ", added.error().text));
    }
    co_return Outcome<>{};
}

async::Task<void> Daemon::stop(async::Scope& commands) {
    const io::TimePoint deadline = world_.clock.now() + kStopMax;
    is_ending_ = true;
    new_events_.wake_all();
    engine_.interrupt(false);
    auto hurry = [this] { engine_.interrupt(true); };
    io::Deadline<decltype(hurry)> timer(hurry);
    timer.arm(world_.clock, world_.clock.now() + kStopMax / 2);
    co_await commands.join();
    co_await attaching_.join();
    timer.disarm();
    co_await metrics_.close();
    co_await engine_.shut_down(deadline);
    is_stopped_ = true;
    engine_.changes().wake_all();
    co_await watching_.join();
}

/// Tells of each change.
async::Task<void> Daemon::watch() {
    while (!is_stopped_) {
        if (events_.is_calm())
            co_await engine_.changes().wait();
        else
            co_await io::wait_for(world_.clock, engine_.changes(), kLookEach);
        last_look_.reset();
        engine_.attachments().look();
        look();
        if (told_) told_();
    }
}

void Daemon::look() {
    if (events_.look(picture())) new_events_.wake_all();
}

std::vector<std::string> Daemon::storage_names() const {
    std::vector<std::string> names;
    for (const StorageSpec& spec : config_.storages)
        if (engine_.has_storage(spec.name)) names.push_back(spec.name);
    return names;
}

std::shared_ptr<const StorageStatus> Daemon::storage(std::string_view name) const {
    const io::TimePoint now = world_.clock.now();
    if (last_look_ != nullptr && last_look_->name == name && now < last_look_at_ + kLookLasts)
        return last_look_;
    if (config_.find_storage(name) == nullptr) return nullptr;
    auto status = engine_.report(name);
    if (!status) return nullptr;
    last_look_at_ = now;
    last_look_ = std::make_shared<const StorageStatus>(*std::move(status));
    return last_look_;
}

/// What an administrator should know although nothing is broken.
std::vector<std::string> Daemon::warnings() const {
    std::vector<std::string> lines = differences(file_, state_);
    for (const auto& [name, why] : not_attached_) lines.push_back(why);
    return lines;
}

/// Makes a change durable and the one in force.
Outcome<> Daemon::commit(Change change) {
    TRY_VOID(note(change));
    adopt(std::move(change));
    return {};
}

/// Makes a change durable that is still to be made. For what can't be undone once it is made.
Outcome<> Daemon::note(const Change& change) {
    return store_state(world_.files, state_path(file_), change.state);
}

void Daemon::adopt(Change change) {
    config_ = std::move(change.config);
    state_ = std::move(change.state);
    last_look_.reset();
    engine_.changes().wake_all();
}

/// A change that was noted was not made after all, for this reason.
Outcome<> Daemon::take_back(Problem why) {
    if (const Outcome<> back = store_state(world_.files, state_path(file_), state_); !back)
        return refuse(why.code,
                      fmt::format("{}; and the state file can't be put back as it was, so "
                                  "the next start will try it again: {}",
                                  why.text, back.error().text));
    return std::unexpected(std::move(why));
}

Outcome<StorageSpec*> Daemon::find_storage(Change& change, const std::string& name) const {
    for (StorageSpec& spec : change.config.storages)
        if (spec.name == name) return &spec;
    return refuse(ErrorCode::not_found,
                  fmt::format("there is no storage '{}': 'dst status' lists what there is", name));
}

Outcome<> Daemon::check_known(const std::string& name) const {
    Change unchanged = change();
    TRY_VOID(find_storage(unchanged, name));
    return {};
}

async::Task<Outcome<Status>> Daemon::status() { co_return picture(); }

async::Task<Outcome<std::string>> Daemon::config() {
    Value::Array stopped;
    for (const StorageSpec& spec : config_.storages)
        if (spec.stopped) stopped.emplace_back(spec.name);
    // `differences` is JSON already: {"differences": ...}.
    std::string json = format_json(Value(Value::Table{{"file", Value(to_toml(file_))},
                                                      {"in_force", Value(to_toml(config_))},
                                                      {"stopped", Value(std::move(stopped))}}));
    const std::string differences = to_json(compare(file_, config_));
    json.back() = ',';
    co_return json + differences.substr(1);
}

async::Task<Outcome<std::string>> Daemon::plan(Config wanted, bool prune) {
    CO_TRY(const Plan found, plan_of(config_, wanted, prune));
    // Before anything is done: in the middle of the plan it would be refused.
    for (const AttachmentStatus& attached : engine_.attached())
        for (const Step& step : found.steps)
            if (step.method == "DELETE" && step.path == "/v1/storages/" + attached.name)
                co_return refuse(ErrorCode::busy,
                                 fmt::format("storage '{}' has to be let go of for this, and is "
                                             "attached: 'dst detach {}' first",
                                             attached.name, attached.name));
    co_return to_json(found);
}

async::Task<Outcome<std::string>> Daemon::metrics() { co_return metrics_page(); }

std::string Daemon::metrics_page() const {
    Figures figures{.status = picture(), .storages = {}, .exports = {}, .events = &events_};
    engine_.measure(figures);
    return to_prometheus(figures);
}

async::Task<Outcome<std::string>> Daemon::events(std::uint64_t after, bool wait) {
    look();
    const bool may_wait = wait && event_waiters_ < kEventWaitersMax;
    const io::TimePoint deadline = world_.clock.now() + kEventWait;
    event_waiters_ += may_wait ? 1 : 0;
    while (may_wait && after == events_.last() && !is_ending_)
        if (!co_await io::wait_until(world_.clock, new_events_, deadline)) break;
    event_waiters_ -= may_wait ? 1 : 0;
    co_return events_.since(after);
}

Status Daemon::picture() const {
    Status status;
    status.version = DST_VERSION;
    status.time = world_.clock.wall_now();
    status.memory = {.limit = config_.memory, .used = {}};
    engine_.report(config_, status);
    status.algorithms = algorithms();
    status.warnings = warnings();
    status.last_event = events_.last();
    return status;
}

async::Task<Outcome<>> Daemon::create(StorageSpec spec, bool is_there) {
    CO_TRY_VOID(engine_.add_storage(spec, replay_window(spec, config_), is_there));
    if (spec.stopped) co_return Outcome<>{};
    const Outcome<> formed = co_await engine_.wait_formed(spec.name);
    if (formed) co_return formed;
    (void)co_await engine_.remove_storage(spec.name);  // nobody can use it yet
    co_return refuse(formed.error().code,
                     fmt::format("storage '{}' was not {}: {}", spec.name,
                                 is_there ? "assembled" : "created", formed.error().text));
}

async::Task<Outcome<>> Daemon::storage_create(StorageSpec spec, bool start) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    if (config_.find_storage(spec.name) != nullptr)
        co_return refuse(
            ErrorCode::exists,
            fmt::format("there is a storage '{}' already: choose another name", spec.name));
    spec.stopped = !start;
    Change next = change();
    next.config.storages.push_back(spec);
    CO_TRY_VOID(check(next.config, fmt::format("storage '{}'", spec.name)));
    record(next.state, file_, spec);
    CO_TRY_VOID(co_await create(spec, false));
    const Outcome<> noted = commit(std::move(next));
    if (!noted) (void)co_await engine_.remove_storage(spec.name);  // `noted` is what is told
    co_return noted;
}

async::Task<Outcome<>> Daemon::storage_assemble(StorageSpec spec) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    if (config_.find_storage(spec.name) != nullptr)
        co_return refuse(
            ErrorCode::exists,
            fmt::format("there is a storage '{}' already: 'dst status' says how it is", spec.name));
    if (spec.algorithm != kMirror)
        co_return refuse(ErrorCode::unsupported,
                         fmt::format("storage '{}': only mirrors have metadata to assemble them "
                                     "from; 'dst storage create' makes others",
                                     spec.name));
    spec.stopped = false;
    Change next = change();
    next.config.storages.push_back(spec);
    CO_TRY_VOID(check(next.config, fmt::format("storage '{}'", spec.name)));
    record(next.state, file_, spec);
    CO_TRY_VOID(co_await create(spec, true));
    const Outcome<> noted = commit(std::move(next));
    if (!noted) (void)co_await engine_.remove_storage(spec.name);  // `noted` is what is told
    co_return noted;
}

async::Task<Outcome<>> Daemon::storage_start(std::string name, Starting how) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    Change next = change();
    CO_TRY(StorageSpec* const spec, find_storage(next, name));
    if (engine_.is_started(name)) co_return engine_.start_storage(name, how);
    spec->stopped = false;
    CO_TRY_VOID(check(next.config, fmt::format("storage '{}'", name)));
    record(next.state, file_, *spec);
    CO_TRY_VOID(note(next));
    Outcome<> started = engine_.start_storage(name, how);
    if (!started) co_return take_back(std::move(started.error()));
    adopt(std::move(next));
    co_return Outcome<>{};
}

async::Task<Outcome<>> Daemon::storage_verify(std::string name, bool repair) {
    CO_TRY_VOID(check_known(name));
    co_return engine_.begin_comparison(name, repair);
}

async::Task<Outcome<>> Daemon::storage_grow(std::string name) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    CO_TRY_VOID(check_known(name));
    co_return co_await engine_.grow_storage(std::move(name));
}

async::Task<Outcome<std::string>> Daemon::storage_what_if(std::string name) {
    CO_TRY_VOID(check_known(name));
    CO_TRY(const WhatIf what_if, engine_.what_if(name));
    co_return to_json(what_if);
}

async::Task<Outcome<>> Daemon::storage_set_resync(std::string name, ResyncChange wanted) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    Change next = change();
    CO_TRY(StorageSpec* const spec, find_storage(next, name));
    if (wanted.size) spec->resync_size = to_bytes(*wanted.size);
    if (wanted.timeout) spec->resync_timeout = *wanted.timeout;
    CO_TRY_VOID(check(next.config, fmt::format("storage '{}'", name)));
    record(next.state, file_, *spec);
    CO_TRY_VOID(note(next));
    Outcome<> done = engine_.set_resync(name, wanted);
    if (!done) co_return take_back(std::move(done.error()));
    adopt(std::move(next));
    co_return Outcome<>{};
}

async::Task<Outcome<>> Daemon::storage_stop(std::string name) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    Change next = change();
    CO_TRY(StorageSpec* const spec, find_storage(next, name));
    spec->stopped = true;
    record(next.state, file_, *spec);
    CO_TRY_VOID(engine_.check_unused(name));
    const Outcome<> stopped = co_await engine_.stop_storage(name, world_.clock.now() + kStopMax);
    CO_TRY_VOID(commit(std::move(next)));
    co_return stopped;
}

async::Task<Outcome<>> Daemon::storage_remove(std::string name) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    Change next = change();
    CO_TRY_VOID(find_storage(next, name));
    erase_named(next.config.storages, name);
    record_storage_removed(next.state, file_, name);
    CO_TRY_VOID(engine_.check_unused(name));
    const Outcome<> removed = co_await engine_.remove_storage(name);
    CO_TRY_VOID(commit(std::move(next)));
    CO_TRY_VOID(forget_attachment(name));  // of one that could not be attached again
    co_return removed;
}

namespace {

/// Nodes of that type, wherever they are listed.
void erase_node(StorageSpec& spec, const std::string& type) {
    const auto is_it = [&](const NodeSpec& node) { return to_string(node) == type; };
    std::erase_if(spec.nodes, is_it);
    std::erase_if(spec.witnesses, is_it);
}

void list_node(StorageSpec& spec, const NodeSpec& node, bool is_witness) {
    std::vector<NodeSpec>& nodes = is_witness ? spec.witnesses : spec.nodes;
    // The administrator may have written it down before it was one.
    if (std::ranges::find(nodes, node) == nodes.end()) nodes.push_back(node);
}

}  // namespace

async::Task<Outcome<>> Daemon::remove_all_nodes(std::string storage) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    Change next = change();
    CO_TRY(StorageSpec* const spec, find_storage(next, storage));
    spec->nodes.clear();
    spec->witnesses.clear();
    spec->stopped = true;
    record(next.state, file_, *spec);
    CO_TRY_VOID(engine_.check_unused(storage));
    const StorageSpec empty = *spec;
    CO_TRY_VOID(note(next));
    const Outcome<> stopped = co_await engine_.stop_storage(storage, world_.clock.now() + kStopMax);
    const Outcome<> emptied = engine_.set_storage(empty, replay_window(empty, config_));
    adopt(std::move(next));
    CO_TRY_VOID(emptied);
    co_return stopped;
}

async::Task<Outcome<std::string>> Daemon::tree_read(std::string path) {
    co_return tree_.read_as_json(path);
}

async::Task<Outcome<>> Daemon::tree_write(std::string path, std::string value) {
    co_return co_await tree_.write(std::move(path), std::move(value));
}

async::Task<Outcome<>> Daemon::node_add(std::string storage, NodeSpec node, Adding how) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    Change next = change();
    CO_TRY(StorageSpec* const spec, find_storage(next, storage));
    const bool was_empty = spec->nodes.empty();
    if (spec->algorithm != kMirror)
        spec->nodes.push_back(node);
    else
        list_node(*spec, node, how.is_witness);
    CO_TRY_VOID(check(next.config, fmt::format("storage '{}'", storage)));
    record(next.state, file_, *spec);
    // An empty storage is stopped: its nodes are opened when it is started.
    if (was_empty) CO_TRY_VOID(note(next));
    const auto noting = [&] { return note(next); };
    Outcome<> added = was_empty ? engine_.set_storage(*spec, replay_window(*spec, config_))
                                : co_await engine_.add_node(storage, std::move(node), how, noting);
    if (!added) co_return take_back(std::move(added.error()));
    adopt(std::move(next));
    co_return Outcome<>{};
}

async::Task<Outcome<>> Daemon::node_remove(std::string storage, std::string node, bool force) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    CO_TRY_VOID(check_known(storage));
    CO_TRY(const std::string type, co_await engine_.remove_node(storage, std::move(node), force));
    Change next = change();
    CO_TRY(StorageSpec* const spec, find_storage(next, storage));
    // Another one may stand at that place by now.
    if (!engine_.has_node(storage, type)) erase_node(*spec, type);
    record(next.state, file_, *spec);
    co_return commit(std::move(next));
}

async::Task<Outcome<>> Daemon::node_replace(std::string storage, std::string node, NodeSpec by,
                                            Adding how) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    Change next = change();
    CO_TRY(StorageSpec* const spec, find_storage(next, storage));
    const std::string newcomer = to_string(by);
    // It becomes what the other one was, and is found as that after a crash, too.
    CO_TRY(how.is_witness, engine_.is_witness(storage, node));
    list_node(*spec, by, how.is_witness);
    CO_TRY_VOID(check(next.config, fmt::format("storage '{}'", storage)));
    // Both are noted until it is known how it ends: what is no node is left alone.
    record(next.state, file_, *spec);
    const auto noting = [&] { return note(next); };
    CO_TRY(const std::string old, engine_.type_of(storage, node));
    auto replaced =
        co_await engine_.replace_node(storage, std::move(node), std::move(by), how, noting);
    // It went, and the other one did not come. While it is not formed nobody can tell.
    if (!replaced && engine_.is_ready(storage) && !engine_.has_node(storage, old)) {
        Change without = change();
        CO_TRY(StorageSpec* const rest, find_storage(without, storage));
        erase_node(*rest, old);
        record(without.state, file_, *rest);
        CO_TRY_VOID(commit(std::move(without)));
        co_return std::unexpected(std::move(replaced.error()));
    }
    if (!replaced) co_return take_back(std::move(replaced.error()));
    // Another disk may have been put where the old one was.
    if (*replaced != newcomer) erase_node(*spec, *replaced);
    record(next.state, file_, *spec);
    co_return commit(std::move(next));
}

async::Task<Outcome<>> Daemon::node_mark(std::string storage, std::string node, NodeMark mark,
                                         bool force) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    CO_TRY_VOID(check_known(storage));
    co_return co_await engine_.mark_node(storage, std::move(node), mark, force);
}

async::Task<Outcome<>> Daemon::export_add(ExportSpec spec) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    if (config_.find_export(spec.name) != nullptr)
        co_return refuse(
            ErrorCode::exists,
            fmt::format("there is an export '{}' already: choose another name", spec.name));
    Change next = change();
    next.config.exports.push_back(spec);
    CO_TRY_VOID(check(next.config, fmt::format("export '{}'", spec.name)));
    record(next.state, file_, spec);
    CO_TRY_VOID(co_await engine_.add_export(spec));
    const Outcome<> noted = commit(std::move(next));
    if (!noted) (void)co_await engine_.remove_export(spec.name);  // `noted` is what is told
    co_return noted;
}

async::Task<Outcome<>> Daemon::export_remove(std::string name) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    if (config_.find_export(name) == nullptr)
        co_return refuse(
            ErrorCode::not_found,
            fmt::format("there is no export '{}': 'dst export list' lists what there is", name));
    Change next = change();
    erase_named(next.config.exports, name);
    record_export_removed(next.state, file_, name);
    const Outcome<> removed = co_await engine_.remove_export(name);
    CO_TRY_VOID(commit(std::move(next)));
    co_return removed;
}

async::Task<Outcome<std::vector<ExportStatus>>> Daemon::export_list() {
    Status status;
    engine_.report(config_, status);
    co_return std::move(status.exports);
}

Outcome<> Daemon::store_attachments(const std::vector<attach::Spec>& attached) {
    return world_.files.store(attachments_path(file_), attachments_to_json(attached));
}

/// Attaches, and notes it. `changing_` is held.
async::Task<Outcome<AttachmentStatus>> Daemon::attach_now(attach::Spec spec, bool is_new) {
    CO_TRY(const AttachmentStatus done, co_await engine_.attach(spec));
    std::vector<attach::Spec> next = attached_;
    std::erase_if(next, [&](const attach::Spec& other) { return other.name == spec.name; });
    spec.via = *attach::parse_kind(done.via);
    spec.device = done.device;
    next.push_back(std::move(spec));
    if (next != attached_) {
        if (auto stored = store_attachments(next); !stored) {
            if (is_new) (void)co_await engine_.attachments().detach(done.name, true);
            co_return std::unexpected(std::move(stored.error()));
        }
    }
    attached_ = std::move(next);
    not_attached_.erase(done.name);
    co_return done;
}

async::Task<Outcome<AttachmentStatus>> Daemon::attach(attach::Spec spec) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    CO_TRY_VOID(check_known(spec.name));
    co_return co_await attach_now(std::move(spec), true);
}

/// What an earlier life had attached, as soon as it can be used.
async::Task<void> Daemon::attach_again(attach::Spec spec) {
    const auto wanted = [&] {
        return !is_ending_ && std::ranges::find(attached_, spec) != attached_.end() &&
               !engine_.attachments().contains(spec.name);
    };
    Outcome<> last;
    while (wanted()) {
        {
            co_await changing_.acquire();
            const Turn turn(changing_);
            if (!wanted()) co_return;
            last = check_known(spec.name);
            if (last && engine_.is_ready(spec.name)) {
                const auto attached = co_await attach_now(spec, false);
                if (attached) co_return;
                last = std::unexpected(attached.error());
            } else if (last) {
                last = refuse(ErrorCode::busy, "its storage has not formed yet");
            }
        }
        const std::string why = fmt::format("'{}' is not attached again as {}: {}", spec.name,
                                            spec.device, last.error().text);
        if (not_attached_[spec.name] != why) log::warning("{}", why);
        not_attached_[spec.name] = why;
        co_await io::wait_for(world_.clock, engine_.changes(), kLookEach);
    }
    not_attached_.erase(spec.name);
}

async::Task<Outcome<>> Daemon::detach(std::string name, bool force) {
    // Not behind other changes: those may wait for long, and this is what people do about it.
    const auto is_it = [&](const attach::Spec& spec) { return spec.name == name; };
    const auto kept = std::ranges::find_if(attached_, is_it);
    if (kept == attached_.end() || engine_.attachments().contains(name))
        CO_TRY_VOID(co_await engine_.attachments().detach(name, force));
    else
        CO_TRY_VOID(co_await engine_.attachments().discard(*kept, force));
    co_return forget_attachment(name);
}

/// It is not attached again by a next life.
Outcome<> Daemon::forget_attachment(const std::string& name) {
    std::vector<attach::Spec> next = attached_;
    std::erase_if(next, [&](const attach::Spec& spec) { return spec.name == name; });
    if (next.size() == attached_.size()) return {};
    TRY_VOID(store_attachments(next));
    attached_ = std::move(next);
    not_attached_.erase(name);
    return {};
}

async::Task<Outcome<std::vector<AttachmentStatus>>> Daemon::attach_list() {
    co_return engine_.attached();
}

std::vector<AlgorithmStatus> Daemon::algorithms() const {
    std::vector<AlgorithmStatus> algorithms;
    for (const auto& listed : registry_.list()) algorithms.push_back(to_status(listed));
    return algorithms;
}

async::Task<Outcome<AlgorithmStatus>> Daemon::algorithm_load(std::string file) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    Change next = change();
    next.config.algorithms.push_back({.file = file, .where = {}});
    CO_TRY_VOID(check(next.config));
    record(next.state, file_, next.config.algorithms.back());
    CO_TRY(const std::string name, algorithm::load_algorithm(registry_, file));
    if (auto noted = commit(std::move(next)); !noted) {
        (void)registry_.unregister_algorithm(name);  // nobody can use it yet
        co_return std::unexpected(std::move(noted.error()));
    }
    log::info("algorithm {}: loaded from {}", name, file);
    for (const auto& listed : registry_.list())
        if (listed.name == name) co_return to_status(listed);
    check_failed("the algorithm is listed", __FILE__, __LINE__);
}

async::Task<Outcome<std::vector<AlgorithmStatus>>> Daemon::algorithm_list() {
    co_return algorithms();
}

async::Task<Outcome<>> Daemon::algorithm_unload(std::string name) {
    co_await changing_.acquire();
    const Turn turn(changing_);
    std::string file;
    for (const auto& listed : registry_.list())
        if (listed.name == name) file = listed.file;
    CO_TRY_VOID(registry_.unregister_algorithm(name));
    Change next = change();
    std::erase_if(next.config.algorithms,
                  [&](const AlgorithmSpec& spec) { return spec.file == file; });
    record_algorithm_removed(next.state, file_, file);
    log::info("algorithm {}: unloaded", name);
    co_return commit(std::move(next));
}

}  // namespace dst::control
