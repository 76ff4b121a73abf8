// `dst bench`: connects, runs the jobs, adds up, prints.
#include "cli/bench.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "async/scope.h"
#include "cli/bench_job.h"
#include "cli/bench_uri.h"
#include "io/uring/reactor.h"

namespace dst::cli {
namespace {

using namespace std::chrono_literals;

double seconds_of(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

double cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

struct BenchResult {
    BenchTotals totals;
    double seconds = 0;
    double cpu = 0;
};

class Bench {
  public:
    Bench(io::World world, const BenchOptions& options)
        : world_(world),
          options_(options),
          pool_((1 + options.connections / 2) << 20),
          account_(pool_, 1) {}

    async::Task<Outcome<BenchResult>> run() {
        const auto ran = co_await connect_and_run();
        for (auto& connection : connections_) {
            if (connection->idle())
                connection->disconnect();
            else
                connection->shutdown("done");
        }
        auto cut = [this] {
            for (auto& connection : connections_) connection->shutdown("the server does not read");
        };
        io::Deadline<decltype(cut)> timer(cut);
        timer.arm(world_.clock, world_.clock.now() + 2s);
        co_await running_.join();
        if (!ran) co_return std::unexpected(ran.error());
        co_return std::move(result_);
    }

  private:
    async::Task<Outcome<>> connect_and_run() {
        CO_TRY(const NbdUri uri, parse_uri(options_.uri));
        for (unsigned number = 0; number < options_.connections; ++number)
            CO_TRY_VOID(co_await connect(uri));
        CO_TRY_VOID(check());
        for (unsigned number = 0; number < options_.connections; ++number)
            jobs_.push_back(std::make_unique<BenchJob>(world_, options_, *connections_[number],
                                                       number, result_.totals));
        const double cpu_before = cpu_seconds();
        const io::TimePoint begun = world_.clock.now();
        for (auto& job : jobs_) job->start(begun + options_.duration);
        co_await all_done();
        result_.seconds = std::chrono::duration<double>(world_.clock.now() - begun).count();
        result_.cpu = cpu_seconds() - cpu_before;
        if (options_.verify && result_.totals.errors == 0) {
            for (auto& job : jobs_) job->start_verifying();
            co_await all_done();
        }
        for (auto& connection : connections_)
            if (connection->ended())
                co_return refuse(fmt::format("{}: the connection ended during the run: {}",
                                             options_.uri, reason_));
        co_return Outcome<>{};
    }

    async::Task<Outcome<>> connect(const NbdUri& uri) {
        auto stream = co_await world_.network.connect(uri.endpoint, world_.clock.now() + 5s, 10s);
        if (!stream) co_return std::unexpected(std::move(stream.error()));
        auto connection =
            std::make_unique<nbd::ClientConnection>(world_, std::move(*stream), account_);
        nbd::Wanted wanted{.export_name = uri.export_name, .base_allocation = false, .hello = {}};
        if (options_.checksum)
            wanted.hello = nbd::Hello{.export_name = uri.export_name, .session = {}};
        if (const auto agreed = co_await connection->handshake(wanted); !agreed)
            co_return refuse(fmt::format("{}: {}", options_.uri, agreed.error().text));
        running_.spawn(keep_running(*connection));
        connections_.push_back(std::move(connection));
        co_return Outcome<>{};
    }

    async::Task<void> keep_running(nbd::ClientConnection& connection) {
        std::string ended = co_await connection.run();
        if (reason_.empty()) reason_ = std::move(ended);
        for (auto& job : jobs_) job->ended().wake_all();
    }

    Outcome<> check() const {
        const nbd::ExportInfo& info = connections_.front()->facts().info;
        const bool writes = options_.operation != BenchOperation::read;
        if (writes && connections_.front()->facts().has_flag(nbd::kFlagReadOnly))
            return refuse(fmt::format("{}: is read-only: use --op read", options_.uri));
        if (options_.size.value() > info.payload_max || options_.size.value() % info.block_min != 0)
            return refuse(fmt::format("{}: --size {} does not fit its blocks of {} to {} bytes",
                                      options_.uri, options_.size.value(), info.block_min,
                                      info.payload_max));
        if (options_.size > info.size)
            return refuse(fmt::format("{}: has {} bytes, less than one request", options_.uri,
                                      info.size.value()));
        if (options_.connections > 1 && writes &&
            !connections_.front()->facts().has_flag(nbd::kFlagCanMultiConn))
            return refuse(
                fmt::format("{}: does not promise that several connections see the same: use "
                            "--connections 1",
                            options_.uri));
        return {};
    }

    async::Task<void> all_done() {
        for (auto& job : jobs_)
            while (!job->done() && reason_.empty()) co_await job->ended().wait();
    }

    io::World world_;
    const BenchOptions& options_;
    block::BufferPool pool_;
    block::Account account_;
    BenchResult result_;
    std::string reason_;
    std::vector<std::unique_ptr<nbd::ClientConnection>> connections_;
    std::vector<std::unique_ptr<BenchJob>> jobs_;
    async::Scope running_;
};

nlohmann::ordered_json latency_json(const Histogram& times) {
    const auto micro = [](auto nanoseconds) { return static_cast<double>(nanoseconds) / 1000; };
    return {{"mean", micro(times.mean())},
            {"p50", micro(times.quantile(0.5))},
            {"p99", micro(times.quantile(0.99))},
            {"p999", micro(times.quantile(0.999))},
            {"max", micro(times.max())}};
}

nlohmann::ordered_json to_json(const BenchOptions& options, const BenchResult& result) {
    constexpr const char* kNames[] = {"read", "write", "mixed"};
    Histogram all = result.totals.reads;
    all.add(result.totals.writes);
    const double rate = static_cast<double>(all.count()) / result.seconds;
    return {{"uri", options.uri},
            {"op", kNames[static_cast<int>(options.operation)]},
            {"size", options.size.value()},
            {"depth", options.depth},
            {"connections", options.connections},
            {"seconds", result.seconds},
            {"requests", all.count()},
            {"iops", rate},
            {"bytes_per_second", rate * static_cast<double>(options.size.value())},
            {"latency_us", latency_json(all)},
            {"client_cpu_us_per_request",
             all.count() == 0 ? 0 : result.cpu * 1e6 / static_cast<double>(all.count())},
            {"errors", result.totals.errors},
            {"compared", result.totals.compared},
            {"mismatches", result.totals.mismatches}};
}

void print(const BenchOptions& options, const BenchResult& result) {
    const auto json = to_json(options, result);
    if (options.json) {
        fmt::print("{}\n", json.dump());
        return;
    }
    const auto& latency = json["latency_us"];
    fmt::print("{} {} bytes, depth {}, {} connection{}: {:.0f} requests/s, {:.1f} MB/s\n",
               json["op"].get<std::string>(), options.size.value(), options.depth,
               options.connections, options.connections == 1 ? "" : "s", json["iops"].get<double>(),
               json["bytes_per_second"].get<double>() / 1e6);
    fmt::print(
        "latency: mean {:.1f}, p50 {:.1f}, p99 {:.1f}, p99.9 {:.1f}, max {:.1f} us; client {:.2f} "
        "us "
        "of CPU a request\n",
        latency["mean"].get<double>(), latency["p50"].get<double>(), latency["p99"].get<double>(),
        latency["p999"].get<double>(), latency["max"].get<double>(),
        json["client_cpu_us_per_request"].get<double>());
    if (options.verify)
        fmt::print("compared {} reads, {} wrong\n", result.totals.compared,
                   result.totals.mismatches);
}

int complain(const std::string& text) {
    fmt::print(stderr, "dst: {}\n", text);
    return 1;
}

}  // namespace

int bench_main(const BenchOptions& options) {
    auto reactor = io::uring::Reactor::create({.spin = std::chrono::microseconds(options.spin_us)});
    if (!reactor) return complain(reactor.error().text);
    Bench bench((*reactor)->world(), options);
    const auto result = (*reactor)->block_on(bench.run());
    if (!result) return complain(result.error().text);
    print(options, *result);
    if (result->totals.errors > 0)
        return complain(fmt::format("{}: {} requests failed, the first with: {}", options.uri,
                                    result->totals.errors, result->totals.first_error));
    if (result->totals.mismatches > 0)
        return complain(fmt::format("{}: {} reads brought other data than was written", options.uri,
                                    result->totals.mismatches));
    return 0;
}

}  // namespace dst::cli
