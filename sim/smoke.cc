#include "sim/smoke.h"

#include <fmt/format.h>

#include <array>
#include <memory>
#include <vector>

#include "sim/cluster.h"
#include "sim/faults.h"
#include "sim/model_load.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr SectorCount kDiskSize{4096};
constexpr std::uint64_t kShapeSalt = 0x5a11;
/// Everything must be answered so long after the last fault has ended, and everybody stop.
constexpr io::Duration kCalmMax = 120s;
constexpr io::Duration kStopMax = 20s;

/// A cluster, from its first start to its last stop.
class Smoke {
  public:
    explicit Smoke(const SmokeSettings& settings)
        : settings_(settings),
          draw_(settings.seed ^ kShapeSalt),
          world_(world_settings()),
          faults_(world_) {}

    SmokeResult run() {
        if (settings_.shape == Shape::stack)
            build_stack();
        else
            build_exporter();
        std::string failure = go();
        if (!model_->failure.empty()) failure = model_->failure;
        return {.failure = failure,
                .answered = model_->answered,
                .failed = model_->failed,
                .faults = faults_.total(),
                .replayed = replayed_,
                .virtual_seconds =
                    std::chrono::duration<double>(world_.now() - EventQueue::kBegin).count(),
                .events = world_.queue().count(),
                .digest = world_.digest()};
    }

  private:
    /// Every seed has its own buffers, windows and blocks.
    WorldSettings world_settings() {
        WorldSettings drawn{.seed = settings_.seed, .trace = settings_.trace};
        constexpr std::array<std::size_t, 4> kBuffers{4 << 10, 20 << 10, 256 << 10, 256 << 10};
        drawn.network.send_buffer_bytes = kBuffers[draw_.below(kBuffers.size())];
        drawn.network.receive_buffer_bytes = kBuffers[draw_.below(kBuffers.size())];
        constexpr std::array<std::uint64_t, 3> kWindows{64 << 10, 256 << 10, 4 << 20};
        replay_window_ = ByteCount(kWindows[draw_.below(kWindows.size())]);
        checksums_ = !draw_.one_in(4);
        if (draw_.one_in(8)) {
            // Long requests, fewer of them, and little memory for them.
            longest_ = SectorCount(draw_.one_in(2) ? 256 : 2048);
            memory_ = ByteCount(34 << 20);
        }
        disk_.block_bytes = draw_.one_in(4) ? 4096 : 512;
        disk_.can_zero_fast = !draw_.one_in(4);
        return drawn;
    }
    void build_exporter() {
        Host& far = world_.add_host("far");
        Host& near = world_.add_host("near");
        world_.add_host("witness");
        Process& exporter = add_exporter(far);
        add_client(near, far, "d", kDiskSize);
        permit_host(far, exporter, near);
        faults_.permit(Fault::hanging_disk, *far.disks()[0]);
        if (settings_.shape == Shape::errors) permit_errors(*far.disks()[0]);
        faults_.permit(Fault::exchanged_disk, *far.disks()[0], exporter);
        faults_.permit(Fault::smaller_disk, *far.disks()[0], exporter);
    }
    void build_stack() {
        Host& first = world_.add_host("first");
        Host& second = world_.add_host("second");
        Host& middle = world_.add_host("middle");
        Host& near = world_.add_host("near");
        middle.add_disk("/disk", disk_);
        control::StorageSpec joined = linear("v", {"R: 10.0.0.1/d", "L: /disk", "R: 10.0.0.2/d"});
        joined.replay_window = replay_window_;
        Process& head = middle.add_process(
            "head", daemon(config().memory(memory_).make(joined).show(storage("v"))));
        served_.push_back(&head);
        permit_host(first, add_exporter(first), middle);
        permit_host(second, add_exporter(second), middle);
        permit_host(middle, head, near);
        // No exchanged disk: a head that starts anew would take it for the one that it knows, as a
        // linear storage has no metadata.
        add_client(near, middle, "v", SectorCount(3 * kDiskSize.value()));
    }
    void permit_errors(Disk& disk) {
        model_->may_fail = true;
        for (const Fault fault : {Fault::read_error, Fault::write_error, Fault::flush_error,
                                  Fault::full_disk, Fault::bad_sector})
            faults_.permit(fault, disk);
    }
    Process& add_exporter(Host& host) {
        host.add_disk("/disk", disk_);
        served_.push_back(&host.add_process(
            "exporter", daemon(config().memory(memory_).show(file("d", "/disk")))));
        return *served_.back();
    }
    void add_client(Host& near, const Host& server, std::string export_name, SectorCount size) {
        const std::uint64_t requests =
            longest_ > SectorCount(16) ? settings_.requests / 10 : settings_.requests;
        model_ = std::make_unique<Model>(size, requests);
        model_->longest = longest_;
        model_->block = sectors_floor(ByteCount(disk_.block_bytes));
        client_ = &near.add_process(
            "client", client({.endpoint = server.endpoint(control::kDefaultPort),
                              .export_name = std::move(export_name),
                              .checksums = checksums_,
                              .replay_window = replay_window_},
                             [this] { return std::make_unique<ModelLoad>(*model_); }));
    }
    void permit_host(Host& host, Process& process, Host& user) {
        for (const Fault fault : {Fault::kill, Fault::restart, Fault::pause})
            faults_.permit(fault, process);
        for (const Fault fault : {Fault::power_cut, Fault::clock_step}) faults_.permit(fault, host);
        for (const Fault fault :
             {Fault::partition, Fault::one_way_partition, Fault::reset, Fault::stall,
              Fault::slow_link, Fault::lossy_link, Fault::flip_bits})
            if (fault != Fault::flip_bits || checksums_) faults_.permit(fault, host, user);
        for (const Fault fault : {Fault::slow_disk, Fault::stuck_requests})
            faults_.permit(fault, *host.disks()[0]);
    }

    /// Empty if all went well.
    std::string go() {
        for (Process* const process : served_) faults_.keep(*process);
        client_->start();
        // Which disk it is, and how large, a node learns when it connects for the first time.
        const auto connected = [&] { return client_->program_as<ClientProgram>().is_connected(); };
        if (!world_.run_until(connected, kCalmMax)) return "the client does not connect";
        faults_.strike_often(settings_.faults, 400ms);
        static_cast<void>(world_.run_until(
            [&] { return faults_.total() == settings_.faults || !model_->failure.empty(); }, 600s));
        faults_.calm();
        const bool in_time = world_.run_until([&] { return model_->is_over(); }, kCalmMax);
        const node::RemoteStatus status = client_->program_as<ClientProgram>().node()->status();
        replayed_ = status.replayed;
        if (!in_time)
            return fmt::format("{} of {} requests were answered, although it is calm: {}",
                               model_->answered, model_->total, status.reason);
        if (!stop(*client_)) return "the client does not stop";
        for (Process* const process : served_)
            if (!stop(*process)) return process->name() + " does not stop";
        return faults_.complaints().empty() ? std::string() : faults_.complaints().front();
    }
    bool stop(Process& process) {
        process.stop();
        return world_.run_until([&] { return !process.is_running(); }, kStopMax);
    }

    const SmokeSettings& settings_;
    Random draw_;
    ByteCount replay_window_;
    bool checksums_ = true;
    SectorCount longest_{16};
    ByteCount memory_{40 << 20};
    DiskSettings disk_{.size = kDiskSize};
    std::unique_ptr<Model> model_;
    World world_;
    Faults faults_;
    std::vector<Process*> served_;  // in the order in which they are stopped
    Process* client_ = nullptr;
    std::uint64_t replayed_ = 0;
};

}  // namespace

std::optional<Shape> parse_shape(std::string_view name) {
    if (name == "exporter") return Shape::exporter;
    if (name == "errors") return Shape::errors;
    if (name == "stack") return Shape::stack;
    return std::nullopt;
}

SmokeResult run_smoke(const SmokeSettings& settings) { return Smoke(settings).run(); }

}  // namespace dst::sim
