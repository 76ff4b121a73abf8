// World: hosts, what runs on them, and the network between them, in one thread, on virtual time,
// out of one seed. The same seed is the same run, event by event, on every machine.
//
// How to use it:
//
//     sim::World world({.seed = 7, .trace = print});
//     sim::Host& far = world.add_host("far");                    // 10.0.0.1
//     sim::Host& near = world.add_host("near");                  // 10.0.0.2
//     far.add_disk("/disk", {.size = SectorCount(8192)});        // stays, whatever happens
//     sim::Process& exporter = far.add_process("exporter", sim::daemon(config));
//     sim::Process& head = near.add_process("head", [](io::World seam) {
//         return std::make_unique<MyProgram>(seam); });          // any sim::Program
//     exporter.start();  head.start();
//     world.run_for(5s);                                         // virtual: as fast as it can be
//     exporter.kill();   far.lose_power();   far.restore_power();   exporter.start();
//     world.network().cut(near, far);                            // one way; mend(), isolate()
//     far.disks()[0]->set_faults({.flush_error = sim::percent(5)});
//     world.after(2s, [&] { exporter.pause(); });                // later, between two coroutines
//     const bool done = world.run_until([&] { return my_checks_are_done; }, 60s);
//     exporter.stop();   world.run_for(15s);                     // an orderly end; leaks abort
//     world.digest();                                            // equal for equal runs
//
// Mostly nobody has to: a scenario (scenario/scenario.h) says all of it, and run/run.h runs it.
// Faults with permissions, counts and an end to all of them: faults.h. Programs made of the
// product's own classes: daemon.h, client.h. Code of a process must not call what moves the world
// (start, kill, cut, ...): it asks for it with `after`. Whatever happens to a process happens
// between two of its coroutines; its destructors run when it is killed, but nothing that it does
// then is seen. Nothing in here may look at an address, at the time of day or at the order of an
// unordered container; all that is drawn is drawn from `random()`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/event_queue.h"
#include "sim/host.h"
#include "sim/network.h"
#include "sim/random.h"
#include "sim/trace.h"

namespace dst::sim {

struct WorldSettings {
    std::uint64_t seed = 1;
    /// Where a line an event goes; none: no lines are made.
    Trace::Sink trace{};
    NetworkSettings network{};
    /// How late a process may notice that something is ready.
    io::Duration turn_delay_max = std::chrono::microseconds(12);
};

class World {
  public:
    explicit World(WorldSettings settings);
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    Host& add_host(std::string name);
    [[nodiscard]] const std::vector<std::unique_ptr<Host>>& hosts() const { return hosts_; }
    [[nodiscard]] Network& network() { return network_; }
    [[nodiscard]] Random& random() { return random_; }
    [[nodiscard]] EventQueue& queue() { return queue_; }
    [[nodiscard]] io::TimePoint now() const { return queue_.now(); }
    [[nodiscard]] std::uint64_t seed() const { return settings_.seed; }

    void after(io::Duration duration, std::function<void()> action) {
        queue_.call_after(duration, std::move(action));
    }
    void run_for(io::Duration duration);
    /// Until `done`, which is asked after each event; false if that has not come after `most`.
    bool run_until(const std::function<bool()>& done, io::Duration most);

    template <typename... Args>
    void trace(std::string_view who, fmt::format_string<Args...> format, Args&&... args) {
        trace_.line(now(), who, format, std::forward<Args>(args)...);
    }
    [[nodiscard]] bool is_traced() const { return trace_.is_on(); }
    [[nodiscard]] std::uint64_t digest() const { return trace_.digest() ^ queue_.count(); }
    /// Called after each event, between two coroutines.
    void watch(std::function<void()> watcher) { watchers_.push_back(std::move(watcher)); }
    /// How many bits the network has turned over.
    [[nodiscard]] std::uint64_t flips() const { return flips_; }
    /// A bug was found: says so, with the seed and the time, and aborts.
    [[noreturn]] void fail(std::string_view what) const;

    /// The world that this thread is in; null if there is none.
    [[nodiscard]] static World* current();

    // For the implementation.

    /// While it lives, code of a process runs.
    class Running {
      public:
        Running(World& world, const Process& process) : world_(world) {
            world_.running_ = &process;
        }
        ~Running() { world_.running_ = nullptr; }
        Running(const Running&) = delete;
        Running& operator=(const Running&) = delete;

      private:
        World& world_;
    };
    [[nodiscard]] Trace& trace_sink() { return trace_; }
    [[nodiscard]] io::Duration draw_turn_delay();
    void count_flip() { ++flips_; }

  private:
    class LogCapture;
    void step();

    const WorldSettings settings_;
    EventQueue queue_;
    Random random_;
    Trace trace_;
    const Process* running_ = nullptr;
    std::uint64_t flips_ = 0;
    std::vector<std::function<void()>> watchers_;
    std::unique_ptr<LogCapture> log_;
    Network network_;
    std::vector<std::unique_ptr<Host>> hosts_;  // last: they use all of the above
};

}  // namespace dst::sim
