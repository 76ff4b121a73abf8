#include "sim/smoke.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "async/range_lock.h"
#include "sim/cluster.h"
#include "sim/faults.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;
using block::Op;
using block::Request;

constexpr SectorCount kSize{4096};
constexpr std::uint64_t kSectorsMax = 16;
constexpr std::size_t kDepth = 8;
constexpr io::Duration kBurstPause = 60ms;

/// Which write each sector has, by the one client; 0: none.
struct Model {
    std::vector<std::uint64_t> stamps = std::vector<std::uint64_t>(kSize.value());
    std::uint64_t last_stamp = 0;
    std::uint64_t left = 0;
    std::uint64_t answered = 0;
    std::string failure;
};

void put_stamp(std::span<std::byte> data, std::uint64_t stamp) {
    for (std::size_t at = 0; at < data.size(); at += kSectorBytes) {
        std::memcpy(data.data() + at, &stamp, sizeof stamp);
        std::memcpy(data.data() + at + kSectorBytes - sizeof stamp, &stamp, sizeof stamp);
    }
}

/// Of a sector; nothing if its ends differ.
std::optional<std::uint64_t> stamp_of(std::span<const std::byte> sector) {
    std::uint64_t front = 0;
    std::uint64_t back = 0;
    std::memcpy(&front, sector.data(), sizeof front);
    std::memcpy(&back, sector.data() + sector.size() - sizeof back, sizeof back);
    if (front != back) return std::nullopt;
    return front;
}

class ModelLoad final : public Load {
  public:
    explicit ModelLoad(Model& model) : model_(model) {}

    async::Task<void> run(Site site) override {
        async::Scope workers;
        for (std::size_t count = 0; count < kDepth; ++count) workers.spawn(work(site));
        co_await workers.join();
    }
    void end() override { model_.left = 0; }

  private:
    async::Task<void> work(Site site) {
        io::Random& random = site.world.random;
        while (model_.left > 0 && model_.failure.empty()) {
            --model_.left;
            // In bursts, so that the faults meet every state, and the end of the load.
            if (random.below(8) == 0)
                co_await io::sleep_for(site.world.clock,
                                       io::Duration(static_cast<std::int64_t>(
                                           random.below(2 * kBurstPause.count()))));
            const std::uint64_t count = 1 + random.below(kSectorsMax);
            const std::uint64_t at = random.below(kSize.value() - count);
            const std::uint64_t kind = random.below(20);
            const SectorRange range{SectorIndex(at), SectorCount(count)};
            using Mode = async::RangeLock::Mode;
            async::RangeLock::Hold hold(order_, range, kind < 10 ? Mode::exclusive : Mode::shared);
            co_await hold.granted();
            Result<> done;
            if (kind < 9)
                done = co_await write(site, range, kind == 0);
            else if (kind < 10)
                done = co_await zero(site, range);
            else if (kind < 19)
                done = co_await read(site, range);
            else
                done = co_await flush(site);
            if (!done)
                complain(fmt::format("request {} of sectors {}+{} failed: {}", kind, at, count,
                                     to_string(done.error().code)));
            ++model_.answered;
        }
    }
    async::Task<Result<>> write(Site site, SectorRange range, bool fua) {
        const std::size_t bytes = to_bytes(range.count).value();
        block::Buffer buffer = co_await site.payloads.allocate(bytes);
        const std::uint64_t stamp = ++model_.last_stamp;
        put_stamp(buffer.bytes().first(bytes), stamp);
        Request request{.op = Op::write,
                        .fua = fua,
                        .range = range,
                        .data = buffer.bytes().first(bytes),
                        .buffer = &buffer};
        const Result<> done = co_await site.device.execute(request);
        if (done) note(range, stamp);
        co_return done;
    }
    async::Task<Result<>> zero(Site site, SectorRange range) {
        Request request{.op = Op::write_zeroes, .range = range};
        const Result<> done = co_await site.device.execute(request);
        if (done) note(range, 0);
        co_return done;
    }
    async::Task<Result<>> flush(Site site) {
        Request request{.op = Op::flush};
        co_return co_await site.device.execute(request);
    }
    async::Task<Result<>> read(Site site, SectorRange range) {
        const std::size_t bytes = to_bytes(range.count).value();
        block::Buffer buffer = co_await site.payloads.allocate(bytes);
        Request request{
            .op = Op::read, .range = range, .data = buffer.bytes().first(bytes)};
        const Result<> done = co_await site.device.execute(request);
        for (std::uint64_t at = 0; done && at < range.count.value(); ++at) {
            const auto found = stamp_of(request.data.subspan(at * kSectorBytes, kSectorBytes));
            const std::uint64_t expected = model_.stamps[range.first.value() + at];
            if (found != expected)
                complain(fmt::format("sector {} has {}, not write {}", range.first.value() + at,
                                     found ? fmt::format("write {}", *found) : "half a write",
                                     expected));
        }
        co_return done;
    }
    void note(SectorRange range, std::uint64_t stamp) {
        std::fill_n(model_.stamps.begin() + static_cast<std::ptrdiff_t>(range.first.value()),
                    range.count.value(), stamp);
    }
    void complain(std::string what) {
        if (model_.failure.empty()) model_.failure = std::move(what);
    }

    Model& model_;
    async::RangeLock order_;
};

void permit_all(Faults& faults, Process& exporter, Host& near) {
    Host& far = exporter.host();
    Disk& disk = *far.disks().front();
    for (const Fault fault : {Fault::kill, Fault::restart, Fault::pause})
        faults.permit(fault, exporter);
    faults.permit(Fault::power_cut, far);
    faults.permit(Fault::clock_step, near);
    for (const Fault fault : {Fault::partition, Fault::one_way_partition, Fault::reset,
                              Fault::stall, Fault::slow_link, Fault::lossy_link, Fault::flip_bits})
        faults.permit(fault, near, far);
    for (const Fault fault : {Fault::slow_disk, Fault::hanging_disk, Fault::stuck_requests})
        faults.permit(fault, disk);
    for (const Fault fault : {Fault::exchanged_disk, Fault::smaller_disk})
        faults.permit(fault, disk, exporter);
}

}  // namespace

SmokeResult run_smoke(const SmokeSettings& settings) {
    World world({.seed = settings.seed, .trace = settings.trace});
    Host& far = world.add_host("far");
    Host& near = world.add_host("near");
    world.add_host("witness");
    far.add_disk("/disk", {.size = kSize});
    Process& exporter = far.add_process("exporter", daemon(config().show(file("d", "/disk"))));
    Model model;
    model.left = settings.requests;
    Process& client = near.add_process(
        "client", sim::client({.endpoint = far.endpoint(control::kDefaultPort),
                               .export_name = "d",
                               .replay_window = ByteCount(1 << 20)},
                              [&model] { return std::make_unique<ModelLoad>(model); }));
    Faults faults(world);
    faults.keep(exporter);
    client.start();
    permit_all(faults, exporter, near);
    // Which disk it is, and how large, the node learns when it connects for the first time.
    static_cast<void>(world.run_until(
        [&] { return client.program_as<ClientProgram>().is_connected(); }, 10s));
    faults.strike_often(settings.faults, 400ms);

    const auto is_done = [&] {
        return model.answered == settings.requests || !model.failure.empty();
    };
    static_cast<void>(world.run_until(
        [&] { return faults.total() == settings.faults || !model.failure.empty(); }, 600s));
    faults.calm();
    SmokeResult result;
    if (!world.run_until(is_done, 120s))
        model.failure = fmt::format(
            "{} of {} requests were answered, although it is calm: {}", model.answered,
            settings.requests,
            client.program_as<ClientProgram>().node()->status().reason);
    result.replayed = client.program_as<ClientProgram>().node()->status().replayed;
    client.stop();
    if (model.failure.empty() && !world.run_until([&] { return !client.is_running(); }, 20s))
        model.failure = "the client does not stop";
    exporter.stop();
    if (model.failure.empty() && !world.run_until([&] { return !exporter.is_running(); }, 20s))
        model.failure = "the exporter does not stop";
    if (model.failure.empty() && !faults.complaints().empty())
        model.failure = faults.complaints().front();
    result.failure = model.failure;
    result.answered = model.answered;
    result.faults = faults.total();
    result.virtual_seconds =
        std::chrono::duration<double>(world.now() - EventQueue::kBegin).count();
    result.events = world.queue().count();
    result.digest = world.digest();
    return result;
}

}  // namespace dst::sim
