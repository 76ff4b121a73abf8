// Gate: who decides, at each new connection of a remote node, whether the node still is what its
// head believes (design §5): the reservation's number, the superblock.
//
// Asked after the handshake and before anything is replayed or sent: what is kept for replay would
// overwrite what another head has written meanwhile.
#pragma once

#include <cstdint>
#include <span>

#include "async/task.h"
#include "base/result.h"
#include "base/units.h"
#include "nbd/reservation.h"

namespace dst::node {

/// A look at the peer over a new connection, past all that waits. Valid while `admit` runs.
class Visit {
  public:
    /// Speaks our extension: else there is no instance, no session and no reservation.
    [[nodiscard]] virtual bool is_ours() const = 0;
    /// 0: a plain server.
    [[nodiscard]] virtual std::uint64_t instance() const = 0;
    /// That of the last connection that was admitted, since the node has a history.
    [[nodiscard]] virtual bool is_same_instance() const = 0;
    /// What the peer has now; may be more than the node's size.
    [[nodiscard]] virtual SectorCount size() const = 0;

    /// Both fail with `node_lost` when the connection ends. Suspend.
    virtual async::Task<Result<>> read(SectorRange range, std::span<std::byte> into) = 0;
    virtual async::Task<Result<nbd::Reservation>> read_reservation() = 0;

  protected:
    ~Visit() = default;
};

class Gate {
  public:
    /// Refused, the node is fenced and the text is its reason; but with code `node_lost` the
    /// connection alone is given up, and another one made. Must return soon after what it awaits of
    /// the visit has failed. Suspends.
    virtual async::Task<Outcome<>> admit(Visit& visit) = 0;

  protected:
    ~Gate() = default;
};

}  // namespace dst::node
