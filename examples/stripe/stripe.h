// Stripe: RAID 0. Chunks are dealt out to the nodes in turn, so that large requests and many small
// ones keep all of them busy. Nothing is stored twice: with one node lost, all is lost.
//
//   node 0    node 1    node 2
//   chunk 0   chunk 1   chunk 2    <- stripe 0
//   chunk 3   chunk 4   chunk 5    <- stripe 1
//
// What one node holds of a range of the storage is one range on the node. All nodes give as many
// whole chunks as the smallest one has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "algorithm/algorithm.h"

namespace stripe {

using dst::Error;
using dst::Outcome;
using dst::Result;
using dst::SectorCount;
using dst::SectorIndex;
using dst::SectorRange;
using dst::algorithm::Options;
using dst::algorithm::Recovery;
using dst::async::Task;
using dst::block::Request;
using dst::node::Node;

/// Where the sectors of a storage of `nodes` nodes are.
struct Layout {
    SectorCount chunk;
    std::uint64_t nodes = 0;

    struct Place {
        std::size_t node;
        SectorIndex sector;  // on the node
    };
    [[nodiscard]] Place place_of(SectorIndex sector) const;
    /// What `node` holds of `range`, in its own sectors; may be empty.
    [[nodiscard]] SectorRange on_node(SectorRange range, std::size_t node) const;
    /// The first sectors of `range`: those that lie in one chunk.
    [[nodiscard]] SectorRange first_piece(SectorRange range) const;

  private:
    [[nodiscard]] SectorIndex end_on_node(SectorIndex end, std::size_t node) const;
};

class Stripe final : public dst::algorithm::Algorithm {
  public:
    /// `chunk`: a power of two.
    explicit Stripe(SectorCount chunk) : layout_{chunk} {}

    /// Refused once there was I/O: every chunk would move.
    Outcome<> add_node(Node& node) override;
    [[nodiscard]] Outcome<> can_del_node(const Node& node) const override;
    void del_node(Node& node) override;
    void node_changed(Node& node) override;
    Task<Result<>> remap(Request& request) override;
    Task<Recovery> error(Node& node, Error error) override;
    [[nodiscard]] dst::block::Geometry geometry() const override { return geometry_; }

  private:
    Task<Result<>> by_chunk(Request& request);
    Task<Result<>> by_node(Request& request);
    Task<Result<>> describe(Request& request);
    Task<Result<>> flush();
    void take_geometry();

    std::vector<Node*> nodes_;
    Layout layout_;
    dst::block::Geometry geometry_;
    bool started_ = false;  // there was I/O: the layout is fixed
    bool broken_ = false;   // a node left after that: nothing is whole any more
};

/// Option `chunk`: 512 to 1G, a power of two; 64K unless said.
Outcome<std::unique_ptr<dst::algorithm::Algorithm>> make_stripe(const Options& options);

}  // namespace stripe
