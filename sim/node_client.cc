#include <utility>

#include "async/scope.h"
#include "control/head_identity.h"
#include "sim/client.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr ByteCount kMemory{16 << 20};
constexpr std::size_t kConnectionSlabs = 2;
constexpr std::size_t kLoadSlabs = 4;
/// For how long a client that stops tries to make durable what was answered.
constexpr io::Duration kStopMax = 8s;
constexpr io::Duration kPause = 20ms;

class NodeClient final : public ClientProgram {
  public:
    NodeClient(io::World world, NodeClientSettings settings, std::unique_ptr<Load> load)
        : world_(world),
          settings_(std::move(settings)),
          pool_(kMemory.value()),
          connections_(pool_, kConnectionSlabs),
          payloads_(pool_, kLoadSlabs),
          load_(std::move(load)) {}

    async::Task<Outcome<>> start() override {
        CO_TRY(const auto head,
               control::begin_incarnation(world_.files, world_.random, settings_.state_dir));
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
        const io::TimePoint deadline = world_.clock.now() + kStopMax;
        while (is_loading_ && world_.clock.now() < deadline)
            co_await io::sleep_for(world_.clock, kPause);
        co_await remote_->stop(deadline);
        is_stopping_ = true;
        co_await scope_.join();
    }
    [[nodiscard]] const node::Remote* node() const override { return remote_.get(); }
    [[nodiscard]] bool is_connected() const override { return remote_ && remote_->is_ready(); }

  private:
    async::Task<void> run_load() {
        while (remote_->geometry().size.value() == 0 && !is_stopping_)
            co_await io::sleep_for(world_.clock, kPause);
        if (is_stopping_) co_return;
        is_loading_ = true;
        co_await load_->run({.world = world_, .device = *remote_, .payloads = payloads_});
        is_loading_ = false;
    }

    io::World world_;
    const NodeClientSettings settings_;
    block::BufferPool pool_;
    block::Account connections_;
    block::Account payloads_;
    std::unique_ptr<Load> load_;
    std::unique_ptr<node::Remote> remote_;
    bool is_loading_ = false;
    bool is_stopping_ = false;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace

Process::Main node_client(NodeClientSettings settings, MakeLoad make_load) {
    return [settings = std::move(settings),
            make_load = std::move(make_load)](io::World world) -> std::unique_ptr<Program> {
        return std::make_unique<NodeClient>(world, settings, make_load());
    };
}

}  // namespace dst::sim
