// Promises: what has to be on every copy of a volume that somebody may go on from, at this moment:
// changes that were acknowledged with FUA, or before a flush that was acknowledged.
//
// The judge of a history (register.h) asks what clients have seen; this asks what they would see if
// all that is volatile were gone now. So it finds a copy that lacks something before anybody reads
// it. It asserts less: of a sector, that what it holds was not certainly followed by a change that
// is durable.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/check/history.h"
#include "sim/check/stamp.h"

namespace dst::sim::check {

class Promises {
  public:
    /// `history` outlives it. To be followed from its begin.
    explicit Promises(const History& history) : history_(history) {}

    /// Takes in what was asked and answered since. Appends where more is promised than before.
    void follow(std::vector<SectorRange>& raised);

    /// Something is promised there.
    [[nodiscard]] bool has(SectorIndex sector) const {
        return sector.value() < sectors_.size() && sectors_[sector.value()].floor > 0;
    }
    /// No sector from there on has anything promised.
    [[nodiscard]] SectorIndex end() const { return SectorIndex(sectors_.size()); }
    /// A copy may hold this: `bytes`, one sector, or zeroes if there are none.
    [[nodiscard]] bool allows(SectorIndex sector, std::span<const std::byte> bytes) const;

  private:
    struct Sector {
        Order floor = 0;            // what was over by then was followed by something durable
        Order zeroed = 0;           // when the last change to zeroes was answered
        std::uint32_t zeroing = 0;  // changes to zeroes that were not answered, or with an error
    };
    /// After a trim anything may be there that was, or zeroes.
    static bool makes_zero(block::Op op) {
        return op == block::Op::write_zeroes || op == block::Op::trim;
    }
    void began(const Operation& operation);
    void ended(const Operation& operation, History::Number number,
               std::vector<SectorRange>& raised);
    void flushed(Order since, std::vector<SectorRange>& raised);
    void promise(const Operation& operation, std::vector<SectorRange>& raised);

    const History& history_;
    std::size_t known_ = 0;  // operations that were seen
    std::vector<History::Number> open_;
    std::vector<History::Number> acknowledged_;  // and not durable
    Order crashed_ = 0;
    std::vector<Sector> sectors_;
};

}  // namespace dst::sim::check
