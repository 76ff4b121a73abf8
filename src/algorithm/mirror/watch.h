// Watch: what time brings: nodes that are silent or slow, leases that run out, intents that may be
// cleared, nodes that may be looked at again. It sleeps until the next of these is due.
#pragma once

#include "algorithm/mirror/changes.h"
#include "algorithm/mirror/core.h"
#include "algorithm/mirror/flushes.h"
#include "algorithm/mirror/joining.h"
#include "algorithm/mirror/membership.h"

namespace dst::mirror {

class Watch {
  public:
    Watch(Core& core, Membership& membership, Lease& lease, Flushes& flushes, Joining& joining)
        : core_(core),
          membership_(membership),
          lease_(lease),
          flushes_(flushes),
          joining_(joining) {}

    /// Until the mirror is over. Suspends.
    async::Task<void> run();
    /// Something about a node's backing has changed.
    void look_at(Node& node);

  private:
    [[nodiscard]] bool look_at_all();
    void look_at_reads(Node& node);
    void look_at_writers(Node& node);
    [[nodiscard]] bool look_for_slow_ones();
    void expel_slow(Node& node, const Delivery& delivery, io::Duration most);
    void look_for_fence();
    async::Task<void> flush_some_time();

    Core& core_;
    Membership& membership_;
    Lease& lease_;
    Flushes& flushes_;
    Joining& joining_;
    io::TimePoint flush_at_ = io::TimePoint::max();
    bool is_flushing_ = false;
};

}  // namespace dst::mirror
