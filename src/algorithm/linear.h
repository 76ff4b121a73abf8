// Linear: nodes one after another; the storage is as large as all of them together.
//
//   | node 0        | node 1   | node 2             |  <- add_node appends here, while I/O runs
//   0               start      start                size
//
// What a request costs does not depend on how many nodes there are, but for the binary search of
// its first sector; only a flush goes to all of them. A node's place never changes while it is
// there. Where one has left, nothing is: requests there fail.
#pragma once

#include <cstddef>
#include <vector>

#include "algorithm/algorithm.h"

namespace dst::algorithm {

class Linear final : public Algorithm {
  public:
    /// Refuses a node of no size, one that would make the storage longer than 2^63 - 1 bytes, and
    /// one whose blocks would not begin where the storage's blocks do.
    Outcome<> add_node(node::Node& node) override;
    /// Only the last one: the others would leave a gap.
    [[nodiscard]] Outcome<> can_del_node(const node::Node& node) const override;
    void del_node(node::Node& node) override;
    void node_changed(node::Node& node) override;
    async::Task<Result<>> remap(block::Request& request) override;
    /// A lost link is no failure: the node keeps its queue and comes back.
    async::Task<Recovery> error(node::Node& node, Error error) override;
    [[nodiscard]] block::Geometry geometry() const override { return geometry_; }

  private:
    /// The first sectors of a range: those that lie within one node.
    struct Piece {
        node::Node* node;  // null: it has left
        SectorRange range;
    };

    [[nodiscard]] std::size_t place_of(SectorIndex sector) const;
    [[nodiscard]] Piece first_piece(SectorRange range) const;
    async::Task<Result<>> split(block::Request& request);
    async::Task<Result<>> describe(block::Request& request);
    async::Task<Result<>> flush();
    void take_geometry();

    std::vector<SectorIndex> starts_;  // apart from the nodes: the search shall touch little memory
    std::vector<node::Node*> nodes_;
    block::Geometry geometry_;
};

/// The registry's factory. Linear has no options.
Outcome<std::unique_ptr<Algorithm>> make_linear(const Options& options);

}  // namespace dst::algorithm
