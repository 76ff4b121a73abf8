// Verify: compares the copies while they are in use, and makes them equal if asked to.
//
// A region is locked while it is compared, so that what differs is no write under way. Where copies
// differ nobody can tell which one is right: that of the most nodes is taken, and among as many the
// one that comes first in the table.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "algorithm/mirror/changes.h"
#include "algorithm/mirror/core.h"

namespace dst::mirror {

/// How far a comparison is, and what it found.
struct Comparison {
    bool is_running = false;
    bool is_complete = false;  // it came to the end
    SectorCount done;
    SectorCount total;
    SectorCount different;
    SectorCount repaired;
    /// Could not be compared: a node did not answer, or could not read.
    SectorCount skipped;
};

class Verify {
  public:
    Verify(Core& core, Membership& membership, Changes& changes)
        : core_(core), membership_(membership), changes_(changes) {}

    /// From the first region to the last; refused while another one runs. Suspends.
    async::Task<Outcome<Comparison>> run(bool repair);
    /// Of the one that runs, or ran last; nothing if none did.
    [[nodiscard]] const std::optional<Comparison>& view() const { return view_; }

  private:
    /// What the nodes have of one piece.
    struct Copies;
    enum class Verdict : std::uint8_t { equal, different, unknown };

    async::Task<void> verify_region(RegionIndex region, bool repair);
    async::Task<Verdict> compare(SectorRange range);
    async::Task<Result<Digest>> digest_of(Node& node, SectorRange range);
    async::Task<Result<>> read(Node& node, SectorRange range, const block::Buffer& buffer);
    async::Task<bool> repair_region(RegionIndex region);
    async::Task<bool> make_equal(SectorRange range);
    [[nodiscard]] std::vector<Node*> attached() const;

    Core& core_;
    Membership& membership_;
    Changes& changes_;
    std::optional<Comparison> view_;
};

}  // namespace dst::mirror
