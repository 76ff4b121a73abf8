#include "sim/plain_server.h"

#include <map>
#include <utility>
#include <vector>

#include "async/scope.h"
#include "base/check.h"
#include "export/export.h"
#include "nbd/server_session.h"
#include "node/local.h"

namespace dst::sim {
namespace {

constexpr ByteCount kMemory{24 << 20};
constexpr std::size_t kConnectionSlabs = 4;
constexpr std::size_t kExportSlabs = 2;

struct Shown {
    std::unique_ptr<block::Device> device;
    std::unique_ptr<block::Account> account;
    std::unique_ptr<exporter::Export> info;
};

class Served final : public nbd::Served {
  public:
    explicit Served(Shown& shown) : shown_(shown) {}
    block::Device& device() override { return *shown_.device; }
    block::Account& account() override { return *shown_.account; }
    [[nodiscard]] nbd::ExportInfo info() const override {
        return shown_.info->info(exporter::Access::read_write);
    }

  private:
    Shown& shown_;
};

class PlainServer final : public Program, private nbd::ExportSource {
  public:
    PlainServer(io::World world, control::Config config)
        : world_(world),
          config_(std::move(config)),
          pool_(kMemory.value()),
          connections_(pool_, kConnectionSlabs) {}

    async::Task<Outcome<>> start() override {
        for (const control::ExportSpec& spec : config_.exports) {
            const auto& path = std::get<control::PathDevice>(spec.device).path;
            CO_TRY(auto device, co_await node::open_file(world_, path, {.cache = spec.cache}));
            Shown& shown = shown_[spec.name];
            shown.device = std::move(device);
            shown.account = std::make_unique<block::Account>(pool_, kExportSlabs);
            shown.info = std::make_unique<exporter::Export>(
                exporter::Settings{.name = spec.name, .description = {}, .access = {}},
                exporter::Target{.device = shown.device.get(), .obstacle = {}}, *shown.account);
        }
        const std::uint16_t port =
            config_.listen.empty() ? control::kDefaultPort : config_.listen.front().port;
        CO_TRY(listener_,
               co_await world_.network.listen({.host = "0.0.0.0", .port = port, .unix_path = {}}));
        scope_.spawn(accept_all());
        co_return Outcome<>{};
    }
    async::Task<void> stop() override {
        listener_->close();
        for (nbd::ServerSession* const session : std::vector(sessions_))
            session->finish("the server is shutting down");
        co_await scope_.join();
        for (auto& [name, shown] : shown_) {
            block::Request request{.op = block::Op::flush};
            static_cast<void>(co_await shown.device->execute(request));
        }
        listener_.reset();
        shown_.clear();
    }

  private:
    async::Task<void> accept_all() {
        while (true) {
            auto stream = co_await listener_->accept();
            if (!stream && stream.error().code == ErrorCode::cancelled) co_return;
            if (stream) scope_.spawn(serve(std::move(*stream)));
        }
    }
    async::Task<void> serve(std::unique_ptr<io::Stream> stream) {
        nbd::ServerSession session(world_, std::move(stream), *this, connections_);
        sessions_.push_back(&session);
        co_await session.run();
        std::erase(sessions_, &session);
    }

    std::vector<nbd::ExportListing> list(const io::Address&) override {
        std::vector<nbd::ExportListing> listings;
        for (const auto& [name, shown] : shown_) listings.push_back({name, {}});
        return listings;
    }
    async::Task<std::expected<std::unique_ptr<nbd::Served>, nbd::Refusal>> select(
        std::string name, nbd::ServerSession&) override {
        const auto at = shown_.find(name);
        if (at == shown_.end())
            co_return std::unexpected(
                nbd::Refusal{nbd::ReplyType::error_unknown, "no such export"});
        co_return std::make_unique<Served>(at->second);
    }
    async::Task<std::expected<nbd::HelloAnswer, nbd::Refusal>> hello(nbd::Hello,
                                                                     nbd::ServerSession&) override {
        co_return std::unexpected(
            nbd::Refusal{nbd::ReplyType::error_unsupported, "never heard of it"});
    }

    io::World world_;
    const control::Config config_;
    block::BufferPool pool_;
    block::Account connections_;
    std::map<std::string, Shown> shown_;
    std::unique_ptr<io::Listener> listener_;
    std::vector<nbd::ServerSession*> sessions_;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace

Process::Main plain_server(control::Config config) {
    return [config = std::move(config)](io::World world) {
        return std::make_unique<PlainServer>(world, config);
    };
}

}  // namespace dst::sim
