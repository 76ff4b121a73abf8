// Resync: what a joining node lacks is copied to it. Rule 5 of design §7.
//
// A window slides over the regions that are stale there, and several pieces of it are in hand at a
// time: regions are locked, once the changes that were there are answered, copied from an attached
// node, and take changes again from then on. They stay stale until the node has flushed them. So it
// may be interrupted anywhere, and goes on from what the bits say, after any number of restarts.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "algorithm/mirror/core.h"
#include "algorithm/mirror/membership.h"
#include "algorithm/mirror/reads.h"

namespace dst::mirror {

class Resync {
  public:
    Resync(Core& core, Membership& membership, Reads& reads)
        : core_(core), membership_(membership), reads_(reads) {}

    /// Copies until no region of `node` is stale, or it leaves, or the mirror is over. Suspends.
    async::Task<void> run(Node& node);

    [[nodiscard]] bool is_running() const { return !courses_.empty(); }
    /// A request of a user took so long.
    void note_latency(io::Duration took);

    struct View {
        SectorCount done;
        SectorCount total;  // done, and what is still to be copied to nodes that are there
        std::uint64_t bytes_per_second = 0;  // copied, or found to be equal
    };
    /// All nodes together, since the first of them began. When nothing is being copied any more: of
    /// the last time, until the next.
    [[nodiscard]] View view() const;

  private:
    /// What a copying of one node has in hand.
    struct Course;
    async::Task<void> copy_piece(Course& course, RegionRange regions);
    async::Task<void> copy_regions(Course& course, RegionRange regions);
    void note_copied(Course& course, RegionRange regions);
    async::Task<Result<>> copy(Course& course, SectorRange range);
    async::Task<bool> is_equal(Node& source, Node& target, SectorRange range);
    async::Task<void> digest(Node& node, SectorRange range, Result<Digest>& found);
    async::Task<void> flush_copied(Course& course);
    [[nodiscard]] RegionCount piece() const;
    [[nodiscard]] std::optional<RegionRange> next_piece(const Course& course) const;
    [[nodiscard]] SectorCount whole_size(RegionRange regions) const;
    [[nodiscard]] SectorCount left_to_copy(const Node& node) const;
    void adapt();
    [[nodiscard]] static bool goes_on(const Course& course);

    Core& core_;
    Membership& membership_;
    Reads& reads_;
    // Pieces that may be copied at the same time, all nodes together; and how that came about.
    static constexpr std::size_t kPiecesMax = 16;
    std::size_t pieces_allowed_ = 4;
    std::size_t pieces_ = 0;
    std::uint64_t latencies_ = 0;
    io::Duration latency_{};
    io::TimePoint adapted_at_;
    std::vector<const Course*> courses_;  // those that run
    SectorCount done_;
    std::uint64_t bytes_lately_ = 0;
    std::uint64_t rate_ = 0;
};

}  // namespace dst::mirror
