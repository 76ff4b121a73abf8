// Verify: compares the copies while they are in use, and makes them equal if asked to.
//
// A region is locked while it is compared, so that what differs is no write under way. Where copies
// differ, what more than half of them have is right. Where there is no such half, as with two
// copies, nobody can tell: it stays as it is, for a person who knows whom not to trust
// (mark-dirty).
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
    /// Of what was to be made equal: no majority of the copies tells what is right.
    SectorCount undecided;
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
    enum class Repair : std::uint8_t { done, undecided, failed };

    async::Task<void> verify_region(RegionIndex region, bool repair);
    async::Task<Verdict> compare(SectorRange range);
    async::Task<Result<Digest>> digest_of(Node& node, SectorRange range);
    async::Task<Result<>> read(Node& node, SectorRange range, const block::Buffer& buffer);
    async::Task<void> repair_region(RegionIndex region);
    async::Task<Repair> make_equal(SectorRange range);
    async::Task<bool> copy_to_others(const Copies& copies, std::size_t right, SectorRange range);
    [[nodiscard]] std::vector<Node*> attached() const;

    Core& core_;
    Membership& membership_;
    Changes& changes_;
    std::optional<Comparison> view_;
};

}  // namespace dst::mirror
