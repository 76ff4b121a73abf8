#include "sim/process.h"

#include "base/check.h"
#include "sim/host.h"
#include "sim/life.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

/// So many coroutines in one turn, without any time passing: it would go on for ever.
constexpr std::uint64_t kStepsPerTurnMax = 2'000'000;

}  // namespace

// Operation --------------------------------------------------------------------------------------

void Operation::await_suspend(std::coroutine_handle<> handle) {
    suspend(handle);
    is_in_flight_ = true;
    process_.submit(*this);
}

Operation::~Operation() { CHECK(!is_in_flight_ || process_.is_dying()); }

void Operation::complete() {
    CHECK(is_in_flight_);
    is_in_flight_ = false;
    wake();
    process_.wants_turn();
}

// LifeClock, Life --------------------------------------------------------------------------------

io::TimePoint LifeClock::now() const { return process_.world().now(); }

io::WallTime LifeClock::wall_now() const { return process_.host().wall_now(); }

void LifeClock::add(io::Timer& timer) {
    // A time that has passed counts as that of this turn: who arms again and again for the past
    // must not stand before all others for ever.
    timers_.add(timer, std::max(timer.when(), fired_until_));
}

void LifeClock::fire() {
    fired_until_ = now();
    const std::uint64_t first_new = timers_.next_number();
    while (timers_.first_time() <= fired_until_ && timers_.first_number() < first_new)
        timers_.take_first().fire();
}

Life::Life(Process& process) : clock(process), files(process), sockets(process) { scope.emplace(); }

// Process ----------------------------------------------------------------------------------------

class Process::TurnEvent final : public Event {
  public:
    explicit TurnEvent(Process& process) : process_(process) {}

  private:
    void happen() override { process_.turn(); }
    Process& process_;
};

class Process::TimerEvent final : public Event {
  public:
    explicit TimerEvent(Process& process) : process_(process) {}
    void arm_for(io::TimePoint when) {
        if (when >= armed_for_) return;
        armed_for_ = when;
        arm(process_.world_.queue(), when);
    }
    void forget() {
        cancel();
        armed_for_ = io::TimePoint::max();
    }

  private:
    void happen() override {
        armed_for_ = io::TimePoint::max();
        // The timer may have been disarmed since.
        if (process_.life_->clock.next() <= process_.world_.now())
            process_.wants_turn();
        else
            arm_for(process_.life_->clock.next());
    }
    Process& process_;
    io::TimePoint armed_for_ = io::TimePoint::max();
};

Process::Process(Host& host, std::string name, Main main)
    : host_(host),
      world_(host.world()),
      name_(std::move(name)),
      main_(std::move(main)),
      turn_event_(std::make_unique<TurnEvent>(*this)),
      timer_event_(std::make_unique<TimerEvent>(*this)) {}

Process::~Process() {
    watcher_ = nullptr;
    lose_power();
}

bool Process::is_serving() const {
    return life_ != nullptr && life_->is_serving && !life_->is_stopping;
}

bool Process::is_stopping() const { return life_ != nullptr && life_->is_stopping; }

Program* Process::program() const { return life_ == nullptr ? nullptr : life_->program.get(); }

void Process::start() {
    CHECK(life_ == nullptr && host_.has_power());
    ++lives_;
    refusal_.clear();
    world_.trace(name_, "starts, life {}", lives_);
    life_ = std::make_unique<Life>(*this);
    const async::RunQueue::Enter enter(life_->queue);
    const World::Running running(world_, *this);
    in_turn_ = true;
    life_->program =
        main_({life_->clock, world_.random(), life_->files, life_->sockets, life_->queue});
    life_->scope->spawn(run_program());
    in_turn_ = false;
    wants_turn();
}

async::Task<void> Process::run_program() {
    const Outcome<> started = co_await life_->program->start();
    if (started) {
        world_.trace(name_, "serves");
        life_->is_serving = true;
        life_->started.set();
    } else {
        world_.trace(name_, "gives up: {}", started.error().text);
        refusal_ = started.error().text;
        life_->end = Life::End::gave_up;
    }
}

bool Process::call(const std::function<void(Program&)>& function) {
    if (!is_serving() || is_paused_) return false;
    const async::RunQueue::Enter enter(life_->queue);
    const World::Running running(world_, *this);
    in_turn_ = true;
    function(*life_->program);
    in_turn_ = false;
    wants_turn();
    return true;
}

void Process::stop() {
    if (life_ == nullptr || life_->is_stopping) return;
    world_.trace(name_, "is asked to stop");
    life_->is_stopping = true;
    stopping_since_ = world_.now();
    const async::RunQueue::Enter enter(life_->queue);
    const World::Running running(world_, *this);
    in_turn_ = true;
    life_->scope->spawn(stop_program());
    in_turn_ = false;
    wants_turn();
}

async::Task<void> Process::stop_program() {
    co_await life_->started.wait();
    co_await life_->program->stop();
    life_->end = Life::End::stopped;
}

void Process::kill() {
    CHECK(!in_turn_);
    if (life_ == nullptr) return;
    world_.trace(name_, "is killed");
    end(Ending::killed);
}

void Process::lose_power() {
    CHECK(!in_turn_);
    if (life_ != nullptr) end(Ending::power_lost);
}

void Process::pause() {
    if (life_ == nullptr || is_paused_) return;
    world_.trace(name_, "is paused");
    is_paused_ = true;
    turn_event_->cancel();
}

void Process::resume() {
    if (!is_paused_) return;
    world_.trace(name_, "goes on");
    is_paused_ = false;
    resumed_at_ = world_.now();
    wants_turn();
}

void Process::submit(Operation& operation) { life_->submitted.push_back(operation); }

void Process::wants_turn() {
    if (is_paused_ || in_turn_ || is_dying_ || turn_event_->is_armed()) return;
    turn_event_->arm(world_.queue(), world_.now() + world_.draw_turn_delay());
}

/// What a reactor does between two calls of the kernel.
void Process::turn() {
    in_turn_ = true;
    world_.trace_sink().mix(steps_);
    bool goes_on = true;
    {
        const async::RunQueue::Enter enter(life_->queue);
        const World::Running running(world_, *this);
        life_->clock.fire();
        while ((goes_on = run_ready()) && !life_->submitted.empty()) begin_submitted();
    }
    in_turn_ = false;
    if (!goes_on)
        kill();
    else if (life_->end != Life::End::none)
        finish();
    else
        timer_event_->arm_for(life_->clock.next());
}

/// False if the process is to be killed here.
bool Process::run_ready() {
    for (std::uint64_t count = 0; count < kStepsPerTurnMax; ++count) {
        if (!life_->queue.run_one()) return true;
        if (++steps_ == kill_at_step_) return false;
    }
    world_.fail(fmt::format("{} runs and runs, and no time passes", name_));
}

void Process::begin_submitted() {
    // What is submitted meanwhile comes at the end of the next round.
    List<Operation, SubmittedTag> batch;
    batch.append(life_->submitted);
    while (Operation* const operation = batch.pop_front()) operation->begin();
}

/// Its program has ended by itself.
void Process::finish() {
    if (life_->end == Life::End::gave_up) {
        end(Ending::gave_up);
        return;
    }
    world_.trace(name_, "has stopped");
    CHECK(life_->scope->empty());
    {
        const async::RunQueue::Enter enter(life_->queue);
        life_->scope.reset();
        life_->program.reset();
    }
    // Who stops in order leaves nothing behind.
    CHECK(life_->clock.empty());
    CHECK(life_->handles == 0);
    CHECK(life_->disk_requests.empty());
    life_.reset();
    turn_event_->cancel();
    timer_event_->forget();
    tell(Ending::stopped);
}

/// Destroys everything wherever it stands: coroutines first, from the root, then the object.
void Process::end(Ending ending) {
    const bool with_power = ending != Ending::power_lost;
    is_dying_ = true;
    while (DiskRequest* const request = life_->disk_requests.pop_front())
        request->interrupt(with_power);
    {
        const async::RunQueue::Enter enter(life_->queue);
        life_->scope.reset();
        life_->program.reset();
    }
    CHECK(life_->clock.empty());
    CHECK(life_->handles == 0);
    if (with_power) host_.clean_up(std::move(life_->remains));
    life_.reset();
    turn_event_->cancel();
    timer_event_->forget();
    is_paused_ = false;
    is_dying_ = false;
    tell(ending);
}

void Process::tell(Ending ending) const {
    if (watcher_) watcher_(ending);
}

}  // namespace dst::sim
