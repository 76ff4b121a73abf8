// Lease: may this head still answer? Rule 9 of design §7.
//
// Another head takes over no sooner than `takeover` after it heard of this one. So this one answers
// nothing unless those who would have to be asked (every attached node, or under quorum a majority
// of the votes) answered a ping that was sent less than half of that time ago.
#pragma once

#include <cstdint>
#include <optional>

#include "algorithm/mirror/core.h"

namespace dst::mirror {

class Lease {
  public:
    explicit Lease(Core& core) : core_(core) {}

    /// As of now. Nodes that nobody else can have (local ones) vouch for as long as they are open.
    [[nodiscard]] bool holds() const;
    /// Waits until it holds; an error once the mirror is over. Suspends unless it holds.
    async::Task<Result<>> held();
    /// Requests that wait for it: only time will tell.
    [[nodiscard]] std::size_t waiting() const { return waiting_; }

  private:
    /// When the node vouched last, as of now for one that nobody else can have.
    [[nodiscard]] static std::optional<io::TimePoint> vouched_at(const Node& node,
                                                                 io::TimePoint now);
    [[nodiscard]] std::optional<io::TimePoint> vouched_until() const;

    Core& core_;
    std::size_t waiting_ = 0;
    // Holds until then, unless something changes.
    mutable io::TimePoint good_until_;
    mutable std::uint64_t good_for_ = 0;
};

}  // namespace dst::mirror
