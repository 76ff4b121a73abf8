// Reads: from one copy, and from another one if that can't answer. Rule 7 of design §7.
#pragma once

#include <vector>

#include "algorithm/mirror/core.h"
#include "algorithm/mirror/sender.h"

namespace dst::mirror {

class Reads {
  public:
    Reads(Core& core, Membership& membership, Sender& sender)
        : core_(core), membership_(membership), sender_(sender) {}

    /// No change that overlaps is under way. Suspends.
    async::Task<Result<>> read(block::Request& request);
    async::Task<Result<>> block_status(block::Request& request);

    /// It may be read from there: what it has is what was acknowledged last.
    [[nodiscard]] bool can_read(const Node& node, RegionRange regions) const;
    /// The node to read from now; null if there is none that answers. `but`: not these.
    [[nodiscard]] Node* choose(SectorRange range, const std::vector<Node*>& but) const;
    /// For copying: the content as an attached node has it, asked for until one answers. Suspends.
    async::Task<Result<>> read_copy(block::Request& request);
    /// Requests that wait for any copy.
    [[nodiscard]] std::size_t waiting() const { return waiting_; }

  private:
    using Execute = async::Task<Result<>> (Reads::*)(block::Request& request);
    async::Task<Result<>> by_regions(block::Request& request, Execute execute);
    async::Task<Result<>> read_alike(block::Request& request);
    async::Task<Result<>> ask(block::Request& request, std::vector<Node*>& failed);
    [[nodiscard]] bool is_alike(RegionRange regions) const;
    async::Task<void> rewrite(Node& node, SectorRange range);

    Core& core_;
    Membership& membership_;
    Sender& sender_;
    std::size_t waiting_ = 0;
};

}  // namespace dst::mirror
