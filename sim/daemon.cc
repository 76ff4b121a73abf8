#include "sim/daemon.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "control/head_identity.h"
#include "control/memory_shares.h"
#include "control/state_file.h"
#include "sim/attachment.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr ByteCount kMemory{40 << 20};
constexpr std::size_t kLoadSlabs = 4;
/// For how long a daemon that stops waits for its loads, before it takes their storage away.
constexpr io::Duration kLoadPatience = 1s;

/// What a cluster of machines that trust each other would write.
control::Config completed(control::Config config) {
    const control::Config unsaid;
    if (config.listen == unsaid.listen)
        config.listen = {{.host = "0.0.0.0", .port = control::kDefaultPort, .unix_path = {}}};
    if (config.memory == unsaid.memory)
        config.memory = std::max(kMemory, control::enough_memory(config));
    for (control::ExportSpec& shown : config.exports) open_to_all(shown);
    return config;
}

}  // namespace

void open_to_all(control::ExportSpec& spec) {
    if (spec.access == control::default_access())
        spec.access = {*control::parse_access("0.0.0.0/0=rw")};
}

struct DaemonProgram::Running {
    std::string export_name;
    std::unique_ptr<Load> load;
    exporter::Target target;
    Attachment* device = nullptr;  // while it asks
};

DaemonProgram::DaemonProgram(io::World world, control::Config config,
                             const std::vector<InnerLoad>& loads)
    : world_(world),
      config_(std::move(config)),
      pool_(loads.empty() ? 0 : 2 * kLoadSlabs * block::kSlabBytes),
      payloads_(pool_, loads.empty() ? 0 : kLoadSlabs) {
    for (const InnerLoad& inner : loads)
        loads_.push_back(std::make_unique<Running>(inner.export_name, inner.make()));
}

DaemonProgram::~DaemonProgram() = default;

async::Task<Outcome<>> DaemonProgram::start() {
    // As control/daemon_main.cc does it.
    const std::string path = control::state_path(config_);
    CO_TRY(const auto loaded, control::load_state(world_.files, path));
    const auto state = control::without_overtaken(config_, loaded);
    if (!(state == loaded)) CO_TRY_VOID(control::store_state(world_.files, path, state));
    CO_TRY_VOID(control::check(control::effective(config_, state)));
    CO_TRY(const auto head,
           control::begin_incarnation(world_.files, world_.random, config_.state_dir));
    daemon_ = std::make_unique<control::Daemon>(world_, config_, state, head);
    CO_TRY_VOID(co_await daemon_->start());
    for (const auto& running : loads_) scope_.spawn(run_load(*running));
    co_return Outcome<>{};
}

async::Task<void> DaemonProgram::run_load(Running& running) {
    const exporter::Export* const shown = daemon_->engine().exporter().find(running.export_name);
    CHECK(shown != nullptr && shown->target().changes != nullptr);
    running.target = shown->target();
    co_await until_formed(running);
    if (is_ending_) co_return;
    Attachment device(*running.target.device);
    running.device = &device;
    scope_.spawn(attach_anew(running));
    co_await running.load->run(
        {.world = world_, .device = device, .payloads = payloads_, .connected = [&] {
             return until_formed(running);
         }});
    running.device = nullptr;
    running.target.changes->wake_all();
}

/// Who was told that the storage is gone knows what that means, and takes the new one as it is.
async::Task<void> DaemonProgram::attach_anew(Running& running) {
    bool was_gone = false;
    while (running.device != nullptr) {
        const bool is_gone = !running.target.obstacle().empty();
        if (was_gone && !is_gone) running.device->renew();
        was_gone = is_gone;
        co_await running.target.changes->wait();
    }
}

async::Task<void> DaemonProgram::until_formed(const Running& running) const {
    while (!running.target.obstacle().empty() && !is_ending_)
        co_await running.target.changes->wait();
}

async::Task<void> DaemonProgram::stop() {
    is_ending_ = true;
    for (const auto& running : loads_) {
        running->load->end();
        if (running->target.changes != nullptr) running->target.changes->wake_all();
    }
    const io::TimePoint patience = world_.clock.now() + kLoadPatience;
    while (!scope_.empty() && world_.clock.now() < patience)
        co_await io::sleep_for(world_.clock, kLoadPatience / 10);
    co_await daemon_->stop(commands_);
    co_await scope_.join();
}

void DaemonProgram::command(const Command& make) { commands_.spawn(make(*daemon_)); }

block::Device* DaemonProgram::shown(const std::string& export_name) {
    if (daemon_ == nullptr) return nullptr;
    const exporter::Export* const found = daemon_->engine().exporter().find(export_name);
    return found == nullptr ? nullptr : found->target().device;
}

block::Device* DaemonProgram::usable(const std::string& export_name) {
    if (daemon_ == nullptr) return nullptr;
    const exporter::Export* const found = daemon_->engine().exporter().find(export_name);
    if (found == nullptr || (found->target().obstacle && !found->target().obstacle().empty()))
        return nullptr;
    return found->target().device;
}

Process::Main daemon(control::Config config, std::vector<InnerLoad> loads) {
    return [config = completed(std::move(config)), loads = std::move(loads)](io::World world) {
        return std::make_unique<DaemonProgram>(world, config, loads);
    };
}

}  // namespace dst::sim
