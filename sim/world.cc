#include "sim/world.h"

#include <cstdio>
#include <cstdlib>

#include "base/log.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr io::Duration kTurnDelayMin = 1us;
/// Once in so many turns the machine has something else to do.
constexpr std::uint64_t kHiccupOneIn = 3000;
constexpr io::Duration kHiccupMax = 4ms;

/// Those of this thread; the last one is the one that runs.
thread_local std::vector<World*> worlds;

}  // namespace

/// The product's log lines become lines of the trace. Without a trace they are not even made.
class World::LogCapture {
  public:
    explicit LogCapture(World& world) : world_(world) {
        worlds.push_back(&world);
        log::set_sink(take);
        set_level();
    }
    ~LogCapture() {
        std::erase(worlds, &world_);
        set_level();
    }
    LogCapture(const LogCapture&) = delete;
    LogCapture& operator=(const LogCapture&) = delete;

  private:
    static void set_level() {
        constexpr auto kNone = static_cast<log::Level>(255);
        const World* const world = current();
        if (world == nullptr)
            log::set_level(log::Level::info);
        else
            log::set_level(world->is_traced() ? log::Level::debug : kNone);
    }
    static void take(log::Level, std::string_view line) {
        World* const world = current();
        if (world == nullptr)
            std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
        else
            world->trace(world->running_ == nullptr ? "log" : world->running_->name(), "log: {}",
                         line);
    }
    World& world_;
};

World::World(WorldSettings settings)
    : settings_(std::move(settings)),
      random_(settings_.seed),
      trace_(settings_.trace),
      log_(std::make_unique<LogCapture>(*this)),
      network_(*this, settings_.network) {}

World::~World() = default;

World* World::current() { return worlds.empty() ? nullptr : worlds.back(); }

Host& World::add_host(std::string name) {
    hosts_.push_back(std::make_unique<Host>(*this, std::move(name), hosts_.size()));
    network_.add_host();
    return *hosts_.back();
}

void World::step() {
    queue_.step();
    network_.sweep();
    for (const auto& watcher : watchers_) watcher();
}

void World::run_for(io::Duration duration) {
    const io::TimePoint end = now() + duration;
    while (queue_.next_time() <= end) step();
    queue_.move_to(end);
}

bool World::run_until(const std::function<bool()>& done, io::Duration most) {
    const io::TimePoint end = now() + most;
    while (!done()) {
        if (queue_.next_time() > end) {
            queue_.move_to(end);
            return done();
        }
        step();
    }
    return true;
}

void World::fail(std::string_view what) const {
    std::fprintf(stderr, "seed %llu, %.6f s: %.*s\n",
                 static_cast<unsigned long long>(settings_.seed),
                 std::chrono::duration<double>(now() - EventQueue::kBegin).count(),
                 static_cast<int>(what.size()), what.data());
    std::abort();
}

io::Duration World::draw_turn_delay() {
    if (random_.one_in(kHiccupOneIn)) return random_.up_to(kHiccupMax);
    return kTurnDelayMin + random_.up_to(settings_.turn_delay_max);
}

}  // namespace dst::sim
