#include "cli/visitor.h"

namespace dst::cli {

using namespace std::chrono_literals;

Visitor::Visitor(io::World world, const io::Endpoint& endpoint, const std::string& export_name)
    : world_(world),
      pool_(2 << 20),
      account_(pool_, 1),
      remote_(world_, pool_, account_, {.id = world.random.next() | 1, .incarnation = 1}, 1,
              {.endpoint = endpoint, .export_name = export_name, .size_max = {}, .hold = 10s}) {}

async::Task<bool> Visitor::connect() {
    remote_.start(this);
    while (!is_ready_ && !is_refused_) co_await changed_.wait();
    co_return is_ready_;
}

async::Task<void> Visitor::leave() { co_await remote_.stop(world_.clock.now() + 1s); }

}  // namespace dst::cli
