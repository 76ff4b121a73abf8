// Scope: where detached tasks live. Nothing runs outside of one.
//
// `join()` waits until all are done. A scope that dies destroys the tasks that are left, wherever
// they stand; whoever has work in flight outside of the program (the I/O below) refuses to be
// destroyed then, so in an orderly shutdown a scope is joined first.
#pragma once

#include <cstddef>

#include "async/task.h"
#include "async/wait.h"

namespace dst::async {

class Scope {
  public:
    Scope() = default;
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope();

    /// Starts `task` at once, on the caller's stack, up to where it first waits.
    void spawn(Task<void> task);
    /// Number of tasks that have not ended.
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    /// Suspends until the scope is empty. New tasks may still be spawned meanwhile.
    Task<void> join();

  private:
    friend struct detail::PromiseBase;
    void finished(detail::PromiseBase& promise, std::coroutine_handle<> handle);

    List<detail::PromiseBase> tasks_;
    std::size_t size_ = 0;
    WaitQueue joiners_;
};

}  // namespace dst::async
