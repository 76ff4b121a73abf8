// Process: the real code, run on a host of the simulated world.
//
// A process lives once for each start. A life has a run queue, timers, an implementation of the io
// seam, a root scope and the program, which owns everything else. It moves in turns: what is ready
// runs until nothing is, then the kernel gets what was asked for, as in a reactor. Whatever happens
// to a process from outside happens between two coroutines, never within one.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "async/task.h"
#include "base/result.h"
#include "io/world.h"
#include "sim/event_queue.h"

namespace dst::sim {

class Host;
class Operation;
class World;
struct Life;

/// What a process runs. Its object owns all that the process has in memory.
class Program {
  public:
    virtual ~Program() = default;
    /// Runs first. Returns once the program serves; a refusal ends the process. May spawn into
    /// scopes of its own. Suspends.
    virtual async::Task<Outcome<>> start() = 0;
    /// An orderly end (SIGTERM): nothing of it runs any more when this returns. Suspends.
    virtual async::Task<void> stop() = 0;
};

/// How a life ends.
enum class Ending : std::uint8_t { stopped, gave_up, killed, power_lost };

class Process {
  public:
    using Main = std::function<std::unique_ptr<Program>(io::World)>;

    Process(Host& host, std::string name, Main main);
    ~Process();
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    // All of these are for between events, and for events; never for code of a process itself.

    /// A new life. It must not run, and its host must have power.
    void start();
    /// SIGTERM: ends when its program has. Nothing happens if it does not run or stops already.
    void stop();
    /// SIGKILL: its coroutines and its memory are gone; the kernel closes its sockets and unlocks
    /// its files, at once or some time later. Nothing happens if it does not run.
    void kill();
    /// SIGSTOP: nothing of it runs; the kernel goes on for it. SIGCONT. Idempotent.
    void pause();
    void resume();

    /// `watcher` is told of every ending, when nothing is left of that life.
    void watch(std::function<void(Ending)> watcher) { watcher_ = std::move(watcher); }

    /// Calls `function` as code of the process: what it spawns runs there. False, and nothing is
    /// called, if the program does not serve or is paused.
    bool call(const std::function<void(Program&)>& function);

    [[nodiscard]] bool is_running() const { return life_ != nullptr; }
    /// Its program has started and was not asked to stop.
    [[nodiscard]] bool is_serving() const;
    /// It was asked to stop, and has not yet.
    [[nodiscard]] bool is_stopping() const;
    [[nodiscard]] bool is_paused() const { return is_paused_; }
    /// When it was last asked to stop; when it last went on after a pause.
    [[nodiscard]] io::TimePoint stopping_since() const { return stopping_since_; }
    [[nodiscard]] io::TimePoint resumed_at() const { return resumed_at_; }
    /// Why its latest life ended by itself; empty if it did not.
    [[nodiscard]] const std::string& refusal() const { return refusal_; }
    /// Null if it does not run.
    [[nodiscard]] Program* program() const;
    template <typename T>
    [[nodiscard]] T& program_as() const {
        return dynamic_cast<T&>(*program());
    }

    [[nodiscard]] Host& host() const { return host_; }
    [[nodiscard]] World& world() const { return world_; }
    [[nodiscard]] const std::string& name() const { return name_; }  // "host/process"
    /// How often it was started; how many coroutines it has resumed in all its lives.
    [[nodiscard]] std::uint64_t lives() const { return lives_; }
    [[nodiscard]] std::uint64_t steps() const { return steps_; }
    /// Is killed after that many steps: in every place where a coroutine can stand, one by one.
    void kill_at_step(std::uint64_t step) { kill_at_step_ = step; }

    // For the implementations of the seam.

    /// The life that it leads; it must run.
    [[nodiscard]] Life& life() const { return *life_; }
    [[nodiscard]] bool is_dying() const { return is_dying_; }
    void submit(Operation& operation);
    /// Something became ready: there will be a turn, some microseconds from now.
    void wants_turn();
    /// The host lost its power: as `kill`, but the kernel is gone, too.
    void lose_power();

  private:
    class TurnEvent;
    class TimerEvent;
    static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

    void turn();
    bool run_ready();
    void begin_submitted();
    void end(Ending ending);
    void finish();
    void tell(Ending ending) const;
    async::Task<void> run_program();
    async::Task<void> stop_program();

    Host& host_;
    World& world_;
    const std::string name_;
    const Main main_;
    std::unique_ptr<Life> life_;
    std::unique_ptr<TurnEvent> turn_event_;
    std::unique_ptr<TimerEvent> timer_event_;
    std::function<void(Ending)> watcher_;
    io::TimePoint stopping_since_;
    io::TimePoint resumed_at_;
    bool is_paused_ = false;
    bool is_dying_ = false;
    bool in_turn_ = false;
    std::string refusal_;
    std::uint64_t lives_ = 0;
    std::uint64_t steps_ = 0;
    std::uint64_t kill_at_step_ = kNever;
};

}  // namespace dst::sim
