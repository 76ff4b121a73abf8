// Sender: hands a request to the nodes that are to take it and waits until all of them have
// answered that still have to; a node that fails what others did has to leave first. Rules 2 and 3.
#pragma once

#include "algorithm/mirror/core.h"
#include "algorithm/mirror/lease.h"
#include "algorithm/mirror/membership.h"

namespace dst::mirror {

class Sender {
  public:
    Sender(Core& core, Membership& membership, Lease& lease)
        : core_(core), membership_(membership), lease_(lease) {}

    /// The node takes a change of these regions.
    [[nodiscard]] bool takes(const Node& node, RegionRange regions) const;
    /// Starts `delivery` on every node that takes a change of these regions; for the others they
    /// are stale from now on.
    void send_change(Delivery& delivery, RegionRange regions);
    /// Starts it on every node that takes part.
    void send_to_all(Delivery& delivery);

    /// Waits until `delivery` may be acknowledged, or has failed: with the error of the attached
    /// nodes, if all of them failed. Nodes that failed alone have left then. Suspends.
    async::Task<Result<>> finish(Delivery& delivery);
    /// Waits until somebody may answer for it. Suspends.
    async::Task<Result<>> vouched() { return lease_.held(); }

  private:
    [[nodiscard]] static const Delivery::Part* common_failure(const Delivery& delivery);
    async::Task<void> all_settled(Delivery& delivery);

    Core& core_;
    Membership& membership_;
    Lease& lease_;
};

}  // namespace dst::mirror
