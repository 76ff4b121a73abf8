// Memory and queues stay within their limits, as far as they show from outside.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "block/buffer.h"
#include "sim/checkers/checker.h"
#include "sim/client.h"
#include "sim/daemon.h"

namespace dst::sim {
namespace {

/// What a server of ours promises (ARCHITECTURE.md), whatever it believes itself.
constexpr std::size_t kRequestsPerConnectionMax = 256;

/// What connections hold while nobody asks anything: receive buffers of two sizes, to peers and
/// from clients, each from a slab of their own; of the larger ones four fill a slab. And mirrors
/// tidy up behind requests: superblocks and runs of pages of their bitmaps, each from a slab. They
/// do so through heads below them, too.
ByteCount idle_most(const Scenario& scenario, const DaemonSpec& daemon) {
    std::size_t peers = 0;
    std::size_t mirrors = 0;
    for (const control::StorageSpec& storage : daemon.config.storages) {
        peers += storage.nodes.size() + storage.witnesses.size();
        mirrors += storage.algorithm == control::kMirror ? 1 : 0;
        if (scenario.administrator.changes(daemon.name, storage.name))
            peers += scenario.administrator.spares.size();
    }
    return ByteCount((5 + peers / 4 + mirrors * 3) * block::kSlabBytes);
}

class LimitChecker final : public Checker {
  public:
    using Checker::Checker;

    void look() override {
        for (const auto& customer : stage().customers())
            if (customer->spec->kind == ClientKind::node && customer->process->is_serving())
                look_at_node(*customer);
        for (const Stage::Server& server : stage().servers()) {
            look_at_disks(server);
            if (!server.spec->is_plain) ask_for_memory(server, {});
        }
    }

    void when_idle() override {
        for (const Stage::Server& server : stage().servers())
            if (!server.spec->is_plain)
                ask_for_memory(server, idle_most(stage().scenario(), *server.spec));
    }

  private:
    void look_at_node(const Stage::Customer& customer) {
        const node::Remote* const node = customer.process->program_as<ClientProgram>().node();
        const node::RemoteStatus status = node->status();
        // A single request may be longer than the window.
        const std::uint64_t most =
            std::max(customer.spec->replay_window.value(), customer.spec->longest.value() + 4096);
        if (status.window_bytes > most)
            found("limit", fmt::format("{} keeps {} bytes for a replay, more than {}",
                                       customer.spec->name, status.window_bytes, most));
        // Beside its own requests it may flush by itself.
        const std::size_t requests_max = customer.spec->depth + 1;
        if (status.waiting > requests_max)
            found("limit", fmt::format("{} requests of {} wait, which never has more than {}",
                                       status.waiting, customer.spec->name, requests_max));
    }

    /// Behind each connection a bounded number of requests is under way, even when it has ended,
    /// and the daemon flushes each of its disks by itself.
    void look_at_disks(const Stage::Server& server) {
        const Host& host = server.process->host();
        Seen& seen = seen_[server.spec->name];
        // Counted from the last look before this life, so rather too many.
        if (seen.life != server.process->lives())
            seen = {.life = server.process->lives(), .since = seen.last, .last = seen.last};
        seen.last = host.connections_taken();
        std::size_t in_flight = 0;
        std::size_t most = (seen.last - seen.since) * kRequestsPerConnectionMax;
        for (const auto& disk : host.disks()) {
            if (!uses(server, *disk)) continue;
            in_flight += disk->in_flight();
            ++most;
        }
        if (in_flight > most)
            found("limit", fmt::format("{} has {} requests under way, more than {}",
                                       server.spec->name, in_flight, most));
    }
    [[nodiscard]] static bool uses(const Stage::Server& server, const Disk& disk) {
        return std::ranges::any_of(
            server.spec->config.exports, [&](const control::ExportSpec& shown) {
                return shown.device == control::DeviceSpec(control::PathDevice{disk.path()});
            });
    }

    void ask_for_memory(const Stage::Server& server, std::optional<ByteCount> less) {
        server.process->call([&](Program& program) {
            dynamic_cast<DaemonProgram&>(program).command([&](control::Daemon& daemon) {
                return ask(daemon, *this, server.spec->name, less);
            });
        });
    }
    /// It may use what it was given, or less.
    static async::Task<void> ask(control::Daemon& daemon, LimitChecker& checker, std::string name,
                                 std::optional<ByteCount> less) {
        const Outcome<control::Status> status = co_await daemon.status();
        if (!status) co_return;
        const ByteCount used = status->memory.used;
        const ByteCount most = less.value_or(status->memory.limit);
        if (used > most)
            checker.found("limit", fmt::format("{} uses {} bytes of memory, more than {}", name,
                                               used.value(), most.value()));
    }

    /// Connections to a server's host, since a life of the server began.
    struct Seen {
        std::uint64_t life = 0;
        std::uint64_t since = 0;
        std::uint64_t last = 0;
    };
    std::map<std::string, Seen> seen_;
};

}  // namespace

std::unique_ptr<Checker> make_limit_checker(Stage& stage) {
    return std::make_unique<LimitChecker>(stage);
}

}  // namespace dst::sim
