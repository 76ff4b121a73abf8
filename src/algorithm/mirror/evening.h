// Evening: regions in which a change failed on all nodes are made equal again: by what one of them
// has, on all others. Rule 7 of design §7.
#pragma once

#include "algorithm/mirror/core.h"
#include "algorithm/mirror/membership.h"
#include "algorithm/mirror/reads.h"

namespace dst::mirror {

class Evening {
  public:
    Evening(Core& core, Membership& membership, Reads& reads)
        : core_(core), membership_(membership), reads_(reads) {}

    /// Until the mirror is over. Suspends.
    async::Task<void> run();

  private:
    async::Task<bool> make_even(RegionIndex region);
    async::Task<Result<>> copy(SectorRange range);

    Core& core_;
    Membership& membership_;
    Reads& reads_;
};

}  // namespace dst::mirror
