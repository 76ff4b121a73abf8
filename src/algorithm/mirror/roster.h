// Roster: the table of nodes is changed while the mirror serves: nodes come in, go out, are not to
// be trusted any more. Each is an age (design §7).
#pragma once

#include <optional>

#include "algorithm/mirror/core.h"
#include "algorithm/mirror/joining.h"
#include "algorithm/mirror/membership.h"

namespace dst::mirror {

class Roster {
  public:
    Roster(Core& core, Membership& membership, Joining& joining)
        : core_(core), membership_(membership), joining_(joining) {}

    /// What the table is to say of a node that comes in; its slot is found here, and it is not
    /// attached.
    using Newcomer = metadata::NodeRecord;
    /// A quorum policy, or what follows from the number of votes.
    using Policy = std::optional<metadata::Quorum>;

    /// A node of that size is large enough to be one; the text has the numbers.
    [[nodiscard]] Outcome<> check_size(SectorCount size, bool is_witness) const;
    /// Takes in a node that holds no metadata; what it lacks is copied to it afterwards. `backing`
    /// outlives the mirror, or the node's removal. On refusal it is not used any more. Suspends.
    async::Task<Outcome<>> add(Newcomer newcomer, Backing& backing, bool is_local, Policy policy,
                               io::TimePoint deadline);
    /// Takes a node out of the table. Its backing is not used any more once `is_gone`. Refused for
    /// the only one that has all of the data. Suspends.
    async::Task<Outcome<>> remove(metadata::Cookie cookie, Policy policy, io::TimePoint deadline);
    /// Nothing on the node is right: all of it is copied to it anew. Returns when that is noted
    /// durably and the node is attached no more. Refused for the only one that has all of the data.
    /// Suspends.
    async::Task<Outcome<>> distrust(metadata::Cookie cookie, io::TimePoint deadline);

    /// It is in no table, and nothing uses its backing.
    [[nodiscard]] bool is_gone(metadata::Cookie cookie) const;

  private:
    [[nodiscard]] Outcome<std::uint8_t> free_slot() const;
    [[nodiscard]] Outcome<Node*> find(metadata::Cookie cookie) const;
    void make_all_stale(std::uint8_t slot);
    async::Task<Outcome<>> detach(metadata::Cookie cookie, io::TimePoint deadline);
    async::Task<Outcome<>> prepare(Node& node, Backing& backing, bool is_local);

    Core& core_;
    Membership& membership_;
    Joining& joining_;
};

}  // namespace dst::mirror
