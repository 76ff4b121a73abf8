// Holds on regions, for as long as they live: a change under way; a lock against changes.
#pragma once

#include "algorithm/mirror/core.h"

namespace dst::mirror {

/// A change under way.
class Entered {
  public:
    Entered(Core& core, RegionRange range) : core_(core), range_(range) {
        core_.regions->enter(range_);
    }
    ~Entered() {
        core_.regions->leave(range_);
        // Who has locked them waits for the changes that were there before.
        if (core_.regions->is_locked(range_)) core_.progress.wake_all();
    }
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;

  private:
    Core& core_;
    const RegionRange range_;
};

/// Nobody begins a change there.
class Locked {
  public:
    /// They are not locked.
    Locked(Core& core, RegionRange range) : core_(core), range_(range) {
        core_.regions->lock(range_);
    }
    ~Locked() {
        core_.regions->unlock(range_);
        core_.progress.wake_all();
    }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;

    /// Waits until the changes are over that were there before; false if the mirror is. Suspends
    /// unless they are.
    async::Task<bool> alone() {
        while (core_.regions->is_busy(range_) && !core_.is_over()) co_await core_.progress.wait();
        co_return !core_.is_over();
    }

  private:
    Core& core_;
    const RegionRange range_;
};

}  // namespace dst::mirror
