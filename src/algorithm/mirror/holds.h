// Holds, for as long as they live: on a region, a change under way, or a lock against changes; on a
// node, a task that uses it, or a read.
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

/// The node and its backing stay, and the mirror does not grow.
class InUse {
  public:
    InUse(Core& core, Node& node) : core_(core), node_(node) { ++node_.tasks; }
    ~InUse() {
        --node_.tasks;
        core_.progress.wake_all();
    }
    InUse(const InUse&) = delete;
    InUse& operator=(const InUse&) = delete;

  private:
    Core& core_;
    Node& node_;
};

/// A request under way that changes nothing: who answers none for long is too slow.
class Reading {
  public:
    Reading(Core& core, Node& node) : core_(core), node_(node) {
        ++node_.in_flight;
        if (node_.reads++ == 0) node_.reads_wait_since = core_.deliveries.now();
    }
    ~Reading() {
        --node_.in_flight;
        --node_.reads;
        node_.reads_wait_since = core_.deliveries.now();
    }
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

  private:
    Core& core_;
    Node& node_;
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
