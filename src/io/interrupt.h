// Interrupt: gives up from outside what a coroutine waits for at the seam (a connect under way).
//
// Why: a coroutine that waits for the outside world can't be destroyed, and a deadline alone would
// make whoever stops wait for it. Whoever stops raises the interrupt; what waits returns
// `cancelled` soon.
#pragma once

#include "base/list.h"

namespace dst::io {

/// Belongs to one thread. Must outlive the calls that it was given to.
class Interrupt {
  public:
    /// For implementations of the seam: what is to happen when the interrupt is raised.
    class Hook : public ListHook<> {
      public:
        /// Called once, from `raise()`; the hook has been taken off before.
        virtual void on_interrupt() = 0;

      protected:
        ~Hook() = default;
    };

    /// What waits returns `cancelled` soon, and so does what comes later. Idempotent.
    void raise() {
        is_raised_ = true;
        while (Hook* const hook = hooks_.pop_front()) hook->on_interrupt();
    }
    /// What comes later may wait again.
    void clear() { is_raised_ = false; }
    [[nodiscard]] bool is_raised() const { return is_raised_; }
    /// For implementations: stays until raised or until the hook dies.
    void add(Hook& hook) { hooks_.push_back(hook); }

  private:
    bool is_raised_ = false;
    List<Hook> hooks_;
};

}  // namespace dst::io
