#include "sim/run/script.h"

#include <fmt/format.h>

#include <utility>

#include "sim/daemon.h"
#include "sim/run/copies.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

/// A daemon that is down or paused is told again later.
constexpr io::Duration kTellAgain = 100ms;
/// A command that is refused is given again.
constexpr io::Duration kTryAgain = 1s;
constexpr unsigned kTriesMax = 30;

async::Task<Outcome<>> command(control::Daemon& daemon, const TellStep& step) {
    if (const auto* const add = std::get_if<NodeAdd>(&step.command))
        return daemon.node_add(add->storage, add->node, {});
    if (const auto* const add = std::get_if<ExportAdd>(&step.command)) {
        control::ExportSpec spec = add->spec;
        open_to_all(spec);
        return daemon.export_add(spec);
    }
    if (const auto* const remove = std::get_if<ExportRemove>(&step.command))
        return daemon.export_remove(remove->name);
    if (const auto* const node = std::get_if<NodeCommand>(&step.command)) {
        switch (node->verb) {
            case NodeCommand::Verb::remove:
                return daemon.node_remove(node->storage, node->node, false);
            case NodeCommand::Verb::replace:
                return daemon.node_replace(node->storage, node->node, node->by, {});
            case NodeCommand::Verb::mark_dirty:
                break;
        }
        return daemon.node_mark(node->storage, node->node, control::NodeMark::dirty, false);
    }
    const auto& storage = std::get<StorageCommand>(step.command);
    switch (storage.verb) {
        case StorageCommand::Verb::verify:
        case StorageCommand::Verb::repair:
            return daemon.storage_verify(storage.storage,
                                         storage.verb == StorageCommand::Verb::repair);
        case StorageCommand::Verb::start:
            return daemon.storage_start(storage.storage, {});
        case StorageCommand::Verb::stop:
            return daemon.storage_stop(storage.storage);
        case StorageCommand::Verb::grow:
            return daemon.storage_grow(storage.storage);
        case StorageCommand::Verb::remove:
            break;
    }
    return daemon.storage_remove(storage.storage);
}

}  // namespace

Script::Script(Stage& stage) : stage_(stage) {
    for (const StepSpec& spec : stage.scenario().steps) steps_.push_back({.spec = &spec});
    left_ = steps_.size();
}

void Script::begin() {
    for (Waiting& waiting : steps_)
        if (waiting.spec->at)
            stage_.world().after(*waiting.spec->at, [this, &waiting] { take(waiting); });
    if (steps_.empty()) return;
    for (const auto& customer : stage_.customers())
        customer->workload->set_on_answer([this] { look(); });
    look();
}

void Script::look() {
    std::uint64_t answered = 0;
    for (const auto& customer : stage_.customers()) answered += customer->workload->answered();
    for (Waiting& waiting : steps_) {
        if (waiting.is_taken || !waiting.spec->after || answered < *waiting.spec->after) continue;
        waiting.is_taken = true;
        // Not within the process that has got the answer.
        stage_.world().after(0s, [this, &waiting] { take(waiting); });
    }
}

void Script::take(Waiting& waiting) {
    waiting.is_taken = true;
    stage_.world().trace("step", "{}", waiting.spec->what);
    const Step step = *parse_step(stage_.scenario(), waiting.spec->what);
    if (const auto* const told = std::get_if<TellStep>(&step)) {
        tell(*told, 1);
        return;
    }
    if (const auto* const struck = std::get_if<StrikeStep>(&step)) {
        strike(*struck);
        return;
    }
    if (const auto* const grown = std::get_if<GrowStep>(&step))
        grow(*grown);
    else
        start(std::get<StartStep>(step));
    --left_;
}

/// Over when the fault is.
void Script::strike(const StrikeStep& step) {
    static_cast<void>(stage_.faults().strike(step.fault, stage_.resolve(step.target), step.length));
    stage_.world().after(step.length.value_or(0s), [this] { --left_; });
}

void Script::start(const StartStep& step) {
    Process& process = *stage_.find_process(step.process);
    stage_.keeper().keep(process);
}

void Script::grow(const GrowStep& step) {
    Disk& disk = *stage_.resolve(step.disk).disk;
    if (step.size > disk.medium().size()) disk.grow(step.size);
}

void Script::tell(const TellStep& step, unsigned tries) {
    Process& process = *stage_.find_process(step.daemon);
    const bool is_told = process.call([&](Program& program) {
        dynamic_cast<DaemonProgram&>(program).command(
            [&](control::Daemon& daemon) { return run(daemon, step, tries, *this); });
    });
    if (is_told) note_force(step);
    if (!is_told) stage_.world().after(kTellAgain, [this, step, tries] { tell(step, tries); });
}

/// Takes the step by value: who told it is gone.
async::Task<void> Script::run(control::Daemon& daemon, TellStep step, unsigned tries,
                              Script& script) {
    struct Answered {
        Script& script;
        ~Answered() { --script.left_; }  // also by the end of the daemon
    } const answered{script};
    const auto* const overruled = std::get_if<StorageOverrule>(&step.command);
    const Outcome<> done = overruled != nullptr ? co_await script.overrule(daemon, *overruled)
                                                : co_await command(daemon, step);
    script.told(step, tries, done);
}

/// What is refused has changed nothing, and may be possible later: as any administrator, try again.
void Script::told(const TellStep& step, unsigned tries, const Outcome<>& done) {
    stage_.world().trace("step", "{}: {}", step.words, done ? "done" : done.error().text);
    note_stop(step, done.has_value());
    if (done || tries == kTriesMax) return;
    ++left_;
    stage_.world().after(kTryAgain, [this, step, tries] { tell(step, tries + 1); });
}

/// A storage that is stopped is a power cut, unless it says that nothing was lost.
void Script::note_stop(const TellStep& step, bool is_done) {
    const auto* const storage = std::get_if<StorageCommand>(&step.command);
    if (storage == nullptr || (storage->verb != StorageCommand::Verb::stop &&
                               storage->verb != StorageCommand::Verb::remove))
        return;
    for (Volume* const volume : volumes_of(step, storage->storage))
        volume->storage_stopped(is_done);
}

/// What only the missing nodes have is not there from now on, durable or not.
void Script::note_force(const TellStep& step) {
    const auto* const overruled = std::get_if<StorageOverrule>(&step.command);
    if (overruled == nullptr || overruled->side) return;
    stage_.note_force();
    for (Volume* const volume : volumes_of(step, overruled->storage))
        volume->history().lose_everything("the storage is started by force", stage_.world().now());
}

/// Those that show that storage of the daemon's.
std::vector<Volume*> Script::volumes_of(const TellStep& step, const std::string& storage) const {
    std::vector<Volume*> found;
    const control::DeviceSpec device = control::StorageDevice{storage};
    for (const auto& volume : stage_.volumes()) {
        const DaemonSpec& daemon = *volume->route().daemons.front();
        const auto* const shown = daemon.config.find_export(split_at(volume->name()).second);
        if (daemon.name == step.daemon && shown->device == device) found.push_back(volume.get());
    }
    return found;
}

async::Task<Outcome<>> Script::overrule(control::Daemon& daemon,
                                        const StorageOverrule& told) const {
    if (!told.side) co_return co_await daemon.storage_start(told.storage, {.force = true});
    Copy copy(told.side->host);
    copy.append(*stage_.resolve(*told.side).disk);
    const metadata::Reading superblock = superblock_on(copy);
    if (!superblock) co_return refuse("there is no node on that disk");
    co_return co_await daemon.storage_start(told.storage,
                                            {.keep = fmt::format("{:016x}", superblock->cookie)});
}

}  // namespace dst::sim
