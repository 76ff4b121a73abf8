#include <utility>

#include "async/scope.h"
#include "nbd/client_connection.h"
#include "sim/client.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr ByteCount kMemory{16 << 20};
constexpr std::size_t kConnectionSlabs = 2;
constexpr std::size_t kLoadSlabs = 4;
constexpr io::Duration kConnectMax = 2s;
constexpr io::Duration kSilenceMax = 4s;
/// For how long a client that stops waits for its answers.
constexpr io::Duration kStopMax = 8s;
constexpr io::Duration kPause = 20ms;
constexpr io::Duration kReconnectPause = 200ms;

/// What one connection after another leads to. Knows nothing of sessions and replays: it is what a
/// stranger would be.
class PlainDevice final : public block::Device {
  public:
    [[nodiscard]] block::Geometry geometry() const override { return geometry_; }
    [[nodiscard]] std::uint64_t instance() const override { return instance_; }

    async::Task<Result<>> execute(block::Request& request) override {
        if (connection_ == nullptr) co_return fail(ErrorCode::node_lost, "not connected");
        if (request.op == block::Op::trim && !geometry_.can_trim) co_return Result<>{};
        if (request.op == block::Op::block_status && !connection_->facts().base_allocation) {
            request.extents->add({.count = request.range.count});  // all of it is data
            co_return Result<>{};
        }
        Pending call;
        call.request = request;
        connection_->submit(call);
        while (!call.is_done) co_await call.done.wait();
        co_return call.result;
    }

    /// Suspends until there is a connection, or never will be.
    async::Task<void> connected() {
        while (connection_ == nullptr && !has_stopped_) co_await connected_.wait();
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
    PlainClient(io::World world, PlainClientSettings settings, std::unique_ptr<Load> load)
        : world_(world),
          settings_(std::move(settings)),
          pool_(kMemory.value()),
          connections_(pool_, kConnectionSlabs),
          payloads_(pool_, kLoadSlabs),
          load_(std::move(load)) {}

    async::Task<Outcome<>> start() override {
        scope_.spawn(keep_connected());
        scope_.spawn(run_load());
        co_return Outcome<>{};
    }
    async::Task<void> stop() override {
        load_->end();
        const io::TimePoint deadline = world_.clock.now() + kStopMax;
        while (is_loading_ && world_.clock.now() < deadline)
            co_await io::sleep_for(world_.clock, kPause);
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
            if (!is_stopping_) co_await io::sleep_for(world_.clock, kReconnectPause);
        }
    }
    async::Task<void> connect_once() {
        auto stream = co_await world_.network.connect(
            settings_.endpoint, world_.clock.now() + kConnectMax, kSilenceMax);
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
            co_await io::sleep_for(world_.clock, kPause);
        if (is_stopping_) co_return;
        is_loading_ = true;
        co_await load_->run(
            {.world = world_, .device = device_, .payloads = payloads_, .connected = [this] {
                 return device_.connected();
             }});
        is_loading_ = false;
    }

    io::World world_;
    const PlainClientSettings settings_;
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

Process::Main plain_client(PlainClientSettings settings, MakeLoad make_load) {
    return [settings = std::move(settings),
            make_load = std::move(make_load)](io::World world) -> std::unique_ptr<Program> {
        return std::make_unique<PlainClient>(world, settings, make_load());
    };
}

}  // namespace dst::sim
