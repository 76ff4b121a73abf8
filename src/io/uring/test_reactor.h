// For tests: a reactor that is there, and waiting.
#pragma once

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "io/uring/reactor.h"

namespace dst::io::uring {

/// A reactor of the thread that makes it.
class TestReactor {
  public:
    explicit TestReactor(ReactorOptions options = {}) {
        auto made = Reactor::create(options);
        if (!made.has_value()) ADD_FAILURE() << made.error().text;
        reactor_ = *std::move(made);
    }
    Reactor* operator->() { return reactor_.get(); }
    Reactor& operator*() { return *reactor_; }

  private:
    std::unique_ptr<Reactor> reactor_;
};

inline async::Task<void> pause(Clock& clock, Duration duration) {
    co_await sleep_for(clock, duration);
}

}  // namespace dst::io::uring
