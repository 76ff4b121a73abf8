#include "sim/run/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "sim/check/story.h"
#include "sim/checkers/checker.h"
#include "sim/run/administrator.h"
#include "sim/run/script.h"
#include "sim/run/stage.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

/// All faults have struck and all steps are done by then.
constexpr io::Duration kStormMax = 600s;
/// Where nothing is wrong everybody finds his device by then.
constexpr io::Duration kConnectMax = 60s;
/// Without faults a client is done in about this time.
constexpr io::Duration kQuietStorm = 1s;
constexpr io::Duration kBurstPauseMax = 1s;
constexpr unsigned kBurst = 8;  // requests between two pauses of a worker, about
constexpr io::Duration kLookPause = 500ms;
/// A mirror has flushed, cleared its last intents, and written that (6 s); a replay window that
/// nobody flushes has been flushed by its node (5 s).
constexpr io::Duration kUntilIdle = 12s;

class Run {
  public:
    Run(const Scenario& scenario, std::uint64_t seed, Trace::Sink trace)
        : scenario_(scenario), stage_(scenario, seed, std::move(trace)), script_(stage_) {
        for (const CheckerKind& kind : checkers()) checkers_.push_back(kind.make(stage_));
        administrator_ = std::make_unique<Administrator>(stage_);
    }

    Report run() {
        const bool is_complete = storm() && calm() && idle() && stop() && cut_power();
        world().trace("run", "{}", is_complete ? "all have stopped" : "is given up");
        for (const auto& checker : checkers_) checker->at_end();
        return report();
    }

  private:
    [[nodiscard]] World& world() { return stage_.world(); }

    /// But for those that another head's are to wait for.
    template <typename Predicate>
    [[nodiscard]] bool all_workloads(Predicate predicate) const {
        return std::ranges::all_of(stage_.customers(), [&](const auto& customer) {
            return predicate(*customer->workload) || is_shut_out(*customer);
        });
    }
    [[nodiscard]] bool are_over() const {
        return all_workloads([](const Workload& workload) { return workload.is_over(); });
    }
    /// Its head does not have the storage, and another one does: so it waits, and is right to.
    [[nodiscard]] static bool is_shut_out(const Stage::Customer& customer) {
        const Heads& heads = customer.volume->heads();
        return heads.are_several() && !heads.serves_client(customer.spec->name) &&
               heads.another_serves(customer.spec->name);
    }

    void start() {
        for (const Stage::Server& server : stage_.servers())
            if (!server.spec->starts_later) stage_.keeper().keep(*server.process);
        for (const auto& customer : stage_.customers())
            if (customer->spec->kind != ClientKind::inside)
                stage_.keeper().keep(*customer->process);
        look();
    }

    /// Faults strike while the clients ask. False if something is too wrong to go on.
    bool storm() {
        set_pace();
        start();
        const StormSpec& storm = scenario_.storm;
        if (storm.from_the_start) stage_.faults().strike_often(storm.faults, storm.pause);
        const auto are_connected = [&] {
            return all_workloads([](const Workload& workload) { return workload.has_device(); });
        };
        const io::Duration patience = storm.from_the_start ? kStormMax : kConnectMax;
        if (!world().run_until(are_connected, patience) && !storm.from_the_start)
            return hang("nothing is wrong");
        script_.begin();
        administrator_->begin();
        if (!storm.from_the_start) stage_.faults().strike_often(storm.faults, storm.pause);
        const std::uint64_t faults = scenario_.storm.permits.empty() ? 0 : storm.faults;
        static_cast<void>(world().run_until(
            [&] {
                return script_.is_over() && administrator_->is_over() &&
                       stage_.faults().total() >= faults;
            },
            kStormMax));
        return true;
    }

    /// So that the clients are not done long before the last fault, nor long after it.
    void set_pace() {
        const StormSpec& storm = scenario_.storm;
        const io::Duration length =
            std::max<io::Duration>(kQuietStorm, storm.faults * storm.pause / 2);
        for (const auto& customer : stage_.customers()) {
            const ClientSpec& spec = *customer->spec;
            const bool has_own_pace = spec.requests == 0 || spec.burst > 0;
            const io::Duration pause =
                has_own_pace ? 0s : length * kBurst * spec.depth / spec.requests;
            customer->workload->set_burst_pause(std::min(pause, kBurstPauseMax));
        }
    }

    /// Nothing is wrong any more: everything is answered, and what was written can be read.
    bool calm() {
        stage_.faults().calm();
        administrator_->calm();
        const io::TimePoint begin = world().now();
        if (!world().run_until([&] { return are_over(); }, scenario_.calm))
            return hang(fmt::format("it has been calm for {}", control::to_string(scenario_.calm)));
        calm_ = world().now() - begin;
        if (!world().run_until([&] { return waits_for().empty(); }, scenario_.calm))
            return hang(fmt::format("it has been calm for {}, and {}",
                                    control::to_string(scenario_.calm), waits_for()));
        for (const auto& checker : checkers_) checker->when_calm();
        return read_back() && hand_over();
    }

    /// What has not come to its end yet.
    [[nodiscard]] std::string waits_for() const {
        for (const auto& checker : checkers_)
            if (std::string what = checker->waits_for(); !what.empty()) return what;
        return {};
    }

    bool read_back() {
        for (const auto& customer : stage_.customers()) customer->workload->read_back();
        if (!world().run_until([&] { return are_over(); }, scenario_.calm))
            return hang("it is calm, and all is read once");
        return true;
    }

    /// Heads that another one has kept from their storage get it, each in its turn, and their
    /// clients find what was left to them.
    bool hand_over() {
        bool was_any = false;
        for (const auto& customer : stage_.customers()) {
            const auto is_done = [&] { return customer->workload->is_over(); };
            if (is_done()) continue;
            was_any = true;
            for (Process* const other :
                 customer->volume->heads().others_serving(customer->spec->name)) {
                stage_.keeper().hold_down(*other, kStormMax);
                stop(*other);
            }
            if (!world().run_until(is_done, scenario_.calm))
                return hang("it is calm, and the head that was in the way is gone");
        }
        if (was_any) stage_.keeper().let_all_up();
        return true;
    }

    /// Daemons without clients.
    bool idle() {
        stage_.keeper().retire();
        for (const auto& customer : stage_.customers())
            if (customer->spec->kind != ClientKind::inside) stop(*customer->process);
        world().run_for(kUntilIdle);
        for (const auto& checker : checkers_) checker->when_idle();
        world().run_for(kLookPause);
        return true;
    }

    bool stop() {
        stage_.keeper().retire();
        for (Process* const process : stage_.in_order_of_stop()) stop(*process);
        return true;
    }
    void stop(Process& process) {
        process.stop();
        // The keeper kills it before that.
        static_cast<void>(
            world().run_until([&] { return !process.is_running(); }, 2 * Keeper::kStopMax));
    }

    /// Who has stopped in order has left nothing in a cache.
    bool cut_power() {
        if (!scenario_.ends_with_power_cut || has_memory()) return true;
        for (const auto& host : world().hosts()) host->lose_power();
        for (const auto& host : world().hosts()) host->restore_power();
        stage_.keeper().resume();
        return read_back() && stop();
    }
    [[nodiscard]] bool has_memory() const {
        return std::ranges::any_of(stage_.volumes(), [](const auto& volume) {
            return volume->route().has_own_memory || volume->route().has_far_memory;
        });
    }

    /// Always false.
    bool hang(std::string_view although) {
        std::string who;
        for (const auto& customer : stage_.customers())
            if ((!customer->workload->is_over() || !customer->workload->has_device()) &&
                !is_shut_out(*customer))
                who += fmt::format("{}{}", who.empty() ? "" : "; ", customer->workload->state());
        for (const Stage::Server& server : stage_.servers())
            if (!server.process->refusal().empty())
                who += fmt::format("; {}: {}", server.spec->name, server.process->refusal());
        findings_.push_back({.check = "hang",
                             .text = fmt::format("although {}: {}", although, who),
                             .when = world().now(),
                             .story = oldest_requests()});
        return false;
    }
    /// Those that wait, the oldest of each volume.
    [[nodiscard]] std::string oldest_requests() const {
        std::string story;
        for (const auto& volume : stage_.volumes()) {
            const auto operations = volume->history().operations();
            const auto oldest =
                std::ranges::find(operations, check::Fate::open, &check::Operation::fate);
            if (oldest == operations.end()) continue;
            const auto number = static_cast<std::uint64_t>(oldest - operations.begin()) + 1;
            story += fmt::format("     {}: {} of {} waits since {}\n", volume->name(),
                                 check::to_string(*oldest, number), oldest->client,
                                 check::to_string(oldest->begin_time));
        }
        return story;
    }

    void look() {
        for (const auto& checker : checkers_) checker->look();
        world().after(kLookPause, [this] { look(); });
    }

    Report report() {
        Report report{.findings = std::move(findings_),
                      .virtual_seconds =
                          std::chrono::duration<double>(world().now() - EventQueue::kBegin).count(),
                      .calm_seconds = std::chrono::duration<double>(calm_).count(),
                      .events = world().queue().count(),
                      .digest = world().digest()};
        for (const auto& checker : checkers_)
            report.findings.insert(report.findings.end(), checker->findings().begin(),
                                   checker->findings().end());
        report.findings.insert(report.findings.end(), administrator_->findings().begin(),
                               administrator_->findings().end());
        for (const auto& customer : stage_.customers()) {
            report.requests += customer->workload->answered();
            report.failed += customer->workload->failed();
        }
        for (const Fault fault : all_faults())
            report.faults[static_cast<std::size_t>(fault)] = stage_.faults().count(fault);
        return report;
    }

    const Scenario& scenario_;
    // Commands of theirs run in the stage.
    std::vector<std::unique_ptr<Checker>> checkers_;
    std::unique_ptr<Administrator> administrator_;
    std::vector<check::Finding> findings_;
    io::Duration calm_{};
    Stage stage_;
    Script script_;
};

}  // namespace

Report run(const Scenario& scenario, std::uint64_t seed, Trace::Sink trace) {
    return Run(scenario, seed, std::move(trace)).run();
}

}  // namespace dst::sim
