#include "io/uring/resolver.h"

#include <fmt/format.h>

#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

namespace dst::io::uring {

/// The way back from a thread: none once the reactor is gone.
struct Resolver::Home {
    std::mutex mutex;
    Reactor* reactor = nullptr;
};

/// One look-up. All but its making happens on the reactor's thread.
struct Resolver::Search {
    async::WaitQueue waiters;
    std::optional<Outcome<std::vector<SocketAddress>>> answer;
};

namespace {

/// False if there can be no more threads.
template <typename Run>
bool run_detached(Run run) {
    const SignalsElsewhere signals;
    try {
        std::thread(std::move(run)).detach();
        return true;
    } catch (const std::system_error&) {
        return false;
    }
}

class WakeAll final : public Interrupt::Hook {
  public:
    explicit WakeAll(async::WaitQueue& queue) : queue_(queue) {}
    void on_interrupt() override { queue_.wake_all(); }

  private:
    async::WaitQueue& queue_;
};

}  // namespace

Resolver::Resolver(Reactor& reactor) : reactor_(reactor), home_(std::make_shared<Home>()) {
    home_->reactor = &reactor;
}

Resolver::~Resolver() {
    const std::lock_guard lock(home_->mutex);
    home_->reactor = nullptr;
}

async::Task<Outcome<std::vector<SocketAddress>>> Resolver::resolve(Endpoint endpoint,
                                                                   TimePoint deadline,
                                                                   Interrupt& interrupt) {
    if (!endpoint.unix_path.empty()) {
        CO_TRY(const SocketAddress address, socket_address_of_path(endpoint.unix_path));
        co_return std::vector{address};
    }
    if (auto numeric = look_up(endpoint.host, endpoint.port, true); numeric.has_value())
        co_return numeric;
    const Name name(endpoint.host, endpoint.port);
    const auto known = searches_.find(name);
    const std::shared_ptr<Search> search = known == searches_.end() ? start(name) : known->second;
    WakeAll hook(search->waiters);
    interrupt.add(hook);
    while (!search->answer.has_value()) {
        if (interrupt.is_raised()) co_return refuse(ErrorCode::cancelled, "cancelled");
        if (!co_await wait_until(reactor_, search->waiters, deadline) &&
            !search->answer.has_value())
            co_return refuse(
                ErrorCode::timed_out,
                fmt::format("host {} can't be found: no answer in time; check the name servers, "
                            "or use an address",
                            endpoint.host));
    }
    co_return *search->answer;
}

std::shared_ptr<Resolver::Search> Resolver::start(const Name& name) {
    auto search = std::make_shared<Search>();
    const bool started = run_detached([this, name, search, home = home_] {
        auto answer = look_up(name.first, name.second, false);
        const std::lock_guard lock(home->mutex);
        if (home->reactor == nullptr) return;
        home->reactor->post([this, name, search, answer = std::move(answer)] {
            search->answer = answer;
            searches_.erase(name);
            search->waiters.wake_all();
        });
    });
    if (started) {
        searches_.emplace(name, search);
    } else {
        search->answer = refuse(ErrorCode::no_memory,
                                fmt::format("host {} can't be found: no thread can be started; "
                                            "raise the limit on threads",
                                            name.first));
    }
    return search;
}

}  // namespace dst::io::uring
