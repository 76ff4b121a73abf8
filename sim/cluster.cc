#include "sim/cluster.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "control/head_identity.h"
#include "control/state_file.h"
#include "nbd/client_connection.h"
#include "sim/reach.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kLoadSlabs = 4;
/// For how long a daemon that stops waits for its loads, before it takes their storage away.
constexpr io::Duration kLoadPatience = 1s;
/// For how long a client that stops tries to make durable what was answered.
constexpr io::Duration kClientStopMax = 8s;
constexpr io::Duration kClientPause = 200ms;

std::vector<control::AccessRule> everybody() { return {*control::parse_access("0.0.0.0/0=rw")}; }

}  // namespace

ConfigBuilder config() {
    ConfigBuilder built;
    built.config.listen = {{.host = "0.0.0.0", .port = control::kDefaultPort, .unix_path = {}}};
    built.config.memory = ByteCount(40 << 20);
    return built;
}

control::ExportSpec file(std::string name, std::string path) {
    control::ExportSpec spec;
    spec.name = std::move(name);
    spec.device = control::PathDevice{std::move(path)};
    spec.access = everybody();
    return spec;
}

control::ExportSpec memory(std::string name, ByteCount size) {
    control::ExportSpec spec = file(std::move(name), {});
    spec.device = control::MemoryDevice{size};
    return spec;
}

control::ExportSpec storage(std::string name) {
    control::ExportSpec spec = file(name, {});
    spec.device = control::StorageDevice{std::move(name)};
    return spec;
}

control::StorageSpec linear(std::string name, const std::vector<std::string>& nodes) {
    control::StorageSpec spec;
    spec.name = std::move(name);
    spec.algorithm = "linear";
    for (const std::string& node : nodes) {
        auto parsed = control::parse_node(node);
        CHECK(parsed.has_value());
        spec.nodes.push_back(*std::move(parsed));
    }
    return spec;
}

// DaemonProgram ----------------------------------------------------------------------------------

struct DaemonProgram::Running {
    std::string export_name;
    std::unique_ptr<Load> load;
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
    const exporter::Export* const shown = engine_of(*daemon_).exporter().find(running.export_name);
    CHECK(shown != nullptr && shown->target().changes != nullptr);
    while (!shown->target().obstacle().empty()) co_await shown->target().changes->wait();
    co_await running.load->run({world_, *shown->target().device, payloads_});
}

async::Task<void> DaemonProgram::stop() {
    for (const auto& running : loads_) running->load->end();
    const io::TimePoint patience = world_.clock.now() + kLoadPatience;
    while (!scope_.empty() && world_.clock.now() < patience)
        co_await io::sleep_for(world_.clock, kLoadPatience / 10);
    co_await daemon_->stop(commands_);
    co_await scope_.join();
}

void DaemonProgram::on_kill() {
    if (daemon_ != nullptr) forget_guests(engine_of(*daemon_).exporter());
}

void DaemonProgram::command(const Command& make) { commands_.spawn(make(*daemon_)); }

block::Device* DaemonProgram::shown(const std::string& export_name) {
    if (daemon_ == nullptr) return nullptr;
    const exporter::Export* const found = engine_of(*daemon_).exporter().find(export_name);
    return found == nullptr ? nullptr : found->target().device;
}

Process::Main daemon(const ConfigBuilder& builder, std::vector<InnerLoad> loads) {
    return [config = builder.config, loads = std::move(loads)](io::World world) {
        return std::make_unique<DaemonProgram>(world, config, loads);
    };
}

// NodeClient -------------------------------------------------------------------------------------

namespace {

class NodeClient final : public ClientProgram {
  public:
    NodeClient(io::World world, ClientSettings settings, std::unique_ptr<Load> load)
        : world_(world),
          settings_(std::move(settings)),
          pool_(settings_.memory.value()),
          connections_(pool_, 2),
          payloads_(pool_, kLoadSlabs),
          load_(std::move(load)) {}

    async::Task<Outcome<>> start() override {
        CO_TRY(const auto head,
               control::begin_incarnation(world_.files, world_.random, "/var/lib/client"));
        remote_ = std::make_unique<node::Remote>(
            world_, pool_, connections_, head, 1,
            node::RemoteSettings{.endpoint = settings_.endpoint,
                                 .export_name = settings_.export_name,
                                 .size_max = {},
                                 .replay_window = settings_.replay_window,
                                 .hold = settings_.hold,
                                 .checksums = settings_.checksums});
        remote_->start(nullptr);
        scope_.spawn(run_load());
        co_return Outcome<>{};
    }
    async::Task<void> stop() override {
        load_->end();
        const io::TimePoint deadline = world_.clock.now() + kClientStopMax;
        while (is_loading_ && world_.clock.now() < deadline)
            co_await io::sleep_for(world_.clock, kClientPause);
        co_await remote_->stop(deadline);
        is_stopping_ = true;
        co_await scope_.join();
    }
    [[nodiscard]] const node::Remote* node() const override { return remote_.get(); }
    [[nodiscard]] bool is_connected() const override { return remote_ && remote_->is_ready(); }

  private:
    async::Task<void> run_load() {
        while (remote_->geometry().size.value() == 0 && !is_stopping_)
            co_await io::sleep_for(world_.clock, kClientPause / 10);
        if (is_stopping_) co_return;
        is_loading_ = true;
        co_await load_->run({world_, *remote_, payloads_});
        is_loading_ = false;
    }

    io::World world_;
    const ClientSettings settings_;
    block::BufferPool pool_;
    block::Account connections_;
    block::Account payloads_;
    std::unique_ptr<Load> load_;
    std::unique_ptr<node::Remote> remote_;
    bool is_loading_ = false;
    bool is_stopping_ = false;
    async::Scope scope_;  // last: its tasks use all of the above
};

// PlainClient ------------------------------------------------------------------------------------

/// An NBD client that knows nothing of sessions and replays: what a stranger would be.
class PlainDevice final : public block::Device {
  public:
    [[nodiscard]] block::Geometry geometry() const override { return geometry_; }
    [[nodiscard]] std::uint64_t instance() const override { return instance_; }

    async::Task<Result<>> execute(block::Request& request) override {
        while (connection_ == nullptr && !has_stopped_) co_await connected_.wait();
        if (has_stopped_) co_return fail(ErrorCode::cancelled, "the client has stopped");
        if (request.op == block::Op::trim && !geometry_.can_trim) co_return Result<>{};
        Pending call;
        call.request = request;
        connection_->submit(call);
        while (!call.is_done) co_await call.done.wait();
        co_return call.result;
    }

    void connect(nbd::ClientConnection& connection) {
        const nbd::ServerFacts& facts = connection.facts();
        geometry_.size = sectors_floor(facts.info.size);
        geometry_.block_bytes = facts.info.block_min;
        geometry_.read_only = facts.has_flag(nbd::kFlagReadOnly);
        geometry_.can_trim = facts.has_flag(nbd::kFlagSendTrim);
        geometry_.can_zero_fast = facts.has_flag(nbd::kFlagSendFastZero);
        ++instance_;
        connection_ = &connection;
        connected_.wake_all();
    }
    /// What was not answered never will be; nobody knows whether it was done.
    void disconnect() {
        nbd::ClientConnection& ended = *std::exchange(connection_, nullptr);
        while (nbd::Call* const call = ended.unanswered().pop_front())
            static_cast<Pending*>(call)->finish(fail(ErrorCode::node_lost, "connection lost"));
    }
    void stop() {
        has_stopped_ = true;
        connected_.wake_all();
    }
    [[nodiscard]] bool is_connected() const { return connection_ != nullptr; }

  private:
    struct Pending final : nbd::Call {
        void on_answer(Result<> answer) override { finish(answer); }
        void finish(Result<> answer) {
            result = answer;
            is_done = true;
            done.wake_all();
        }
        bool is_done = false;
        Result<> result;
        async::WaitQueue done;
    };

    block::Geometry geometry_;
    std::uint64_t instance_ = 0;
    nbd::ClientConnection* connection_ = nullptr;
    bool has_stopped_ = false;
    async::WaitQueue connected_;
};

class PlainClient final : public ClientProgram {
  public:
    PlainClient(io::World world, ClientSettings settings, std::unique_ptr<Load> load)
        : world_(world),
          settings_(std::move(settings)),
          pool_(settings_.memory.value()),
          connections_(pool_, 2),
          payloads_(pool_, kLoadSlabs),
          load_(std::move(load)) {}

    async::Task<Outcome<>> start() override {
        scope_.spawn(keep_connected());
        scope_.spawn(run_load());
        co_return Outcome<>{};
    }
    async::Task<void> stop() override {
        load_->end();
        const io::TimePoint deadline = world_.clock.now() + kClientStopMax;
        while (is_loading_ && world_.clock.now() < deadline)
            co_await io::sleep_for(world_.clock, kClientPause);
        is_stopping_ = true;
        device_.stop();
        if (connection_ != nullptr) connection_->shutdown("the client stops");
        co_await scope_.join();
    }
    [[nodiscard]] bool is_connected() const override { return device_.is_connected(); }

  private:
    async::Task<void> keep_connected() {
        while (!is_stopping_) {
            co_await connect_once();
            connection_.reset();
            if (!is_stopping_) co_await io::sleep_for(world_.clock, kClientPause);
        }
    }
    async::Task<void> connect_once() {
        auto stream =
            co_await world_.network.connect(settings_.endpoint, world_.clock.now() + 2s, 4s);
        if (!stream || is_stopping_) co_return;
        connection_ =
            std::make_unique<nbd::ClientConnection>(world_, *std::move(stream), connections_);
        const nbd::Wanted wanted{.export_name = settings_.export_name,
                                 .structured_replies = settings_.structured_replies,
                                 .base_allocation = settings_.structured_replies};
        if (!co_await connection_->handshake(wanted) || is_stopping_) {
            connection_->shutdown("refused");
            co_return;
        }
        device_.connect(*connection_);
        co_await connection_->run();
        device_.disconnect();
    }
    async::Task<void> run_load() {
        while (device_.geometry().size.value() == 0 && !is_stopping_)
            co_await io::sleep_for(world_.clock, kClientPause / 10);
        if (is_stopping_) co_return;
        is_loading_ = true;
        co_await load_->run({world_, device_, payloads_});
        is_loading_ = false;
    }

    io::World world_;
    const ClientSettings settings_;
    block::BufferPool pool_;
    block::Account connections_;
    block::Account payloads_;
    std::unique_ptr<Load> load_;
    std::unique_ptr<nbd::ClientConnection> connection_;
    PlainDevice device_;
    bool is_loading_ = false;
    bool is_stopping_ = false;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace

Process::Main client(ClientSettings settings, MakeLoad make_load) {
    return [settings = std::move(settings),
            make_load = std::move(make_load)](io::World world) -> std::unique_ptr<Program> {
        if (settings.is_node) return std::make_unique<NodeClient>(world, settings, make_load());
        return std::make_unique<PlainClient>(world, settings, make_load());
    };
}

}  // namespace dst::sim
