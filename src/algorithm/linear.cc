#include "algorithm/linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "algorithm/geometry.h"
#include "algorithm/parts.h"

namespace dst::algorithm {
namespace {

/// Positions in bytes must fit the signed 64 bits that kernels and NBD clients count in.
constexpr SectorCount kSizeMax = sectors_floor(ByteCount(std::numeric_limits<std::int64_t>::max()));

constexpr Error kNoNode{ErrorCode::io_error, "no node holds these sectors"};

/// The whole of `request`, or a part of it, as its node sees it.
block::Request on_node(block::Request part, const node::Node& node) {
    part.range.first = SectorIndex(0) + (part.range.first - node.start());
    return part;
}

async::Task<Result<>> forward(node::Node& node, block::Request& request) {
    block::Request part = on_node(request, node);
    co_return co_await node.device().execute(part);
}

async::Task<Result<>> fail_with(Error error) { co_return std::unexpected(error); }

}  // namespace

Outcome<> Linear::add_node(node::Node& node) {
    const SectorCount size = geometry_.size;
    if (node.size() == SectorCount(0))
        return refuse(fmt::format("node {} has no sectors: give it a size", node.type()));
    if (node.size() > kSizeMax - size)
        return refuse(
            ErrorCode::no_space,
            fmt::format("node {} is too large: its {} sectors and the {} there are more "
                        "than the {} that a storage can have",
                        node.type(), node.size().value(), size.value(), kSizeMax.value()));
    const block::Geometry device = node.device().geometry();
    if (to_bytes(size).value() % device.block_bytes != 0)
        return refuse(
            fmt::format("node {} has blocks of {} bytes and would begin amid one, at "
                        "sector {}: add it first, or after nodes of whole blocks",
                        node.type(), device.block_bytes, size.value()));

    if (nodes_.empty()) geometry_ = kNeutralGeometry;
    merge_limits(geometry_, device);
    geometry_.size += node.size();
    node.set_start(SectorIndex(0) + size);
    starts_.push_back(node.start());
    nodes_.push_back(&node);
    return {};
}

Outcome<> Linear::can_del_node(const node::Node& node) const {
    if (!nodes_.empty() && nodes_.back() == &node) return {};
    return refuse(ErrorCode::busy,
                  fmt::format("node {} is not the last one of a linear storage: what lies behind "
                              "it would lose its place",
                              node.type()));
}

void Linear::del_node(node::Node& node) {
    const auto at = std::ranges::find(nodes_, &node);
    CHECK(at != nodes_.end());
    *at = nullptr;
    while (!nodes_.empty() && nodes_.back() == nullptr) {
        nodes_.pop_back();
        starts_.pop_back();
    }
    take_geometry();
}

void Linear::node_changed(node::Node& /*node*/) { take_geometry(); }

void Linear::take_geometry() {
    geometry_ = limits_of(nodes_);
    if (!nodes_.empty()) geometry_.size = nodes_.back()->place().end() - SectorIndex(0);
}

/// No coroutine of its own: a request within one node costs one frame.
async::Task<Result<>> Linear::remap(block::Request& request) {
    if (request.op == block::Op::flush) return flush();
    if (!request.range.fits(geometry_.size) || nodes_.empty())
        return fail_with({ErrorCode::out_of_range, "beyond the end of the storage"});
    node::Node* const node = nodes_[place_of(request.range.first)];
    if (node != nullptr && node->place().contains(request.range)) return forward(*node, request);
    return request.op == block::Op::block_status ? describe(request) : split(request);
}

/// Without branches that depend on the sector: no processor could predict them.
std::size_t Linear::place_of(SectorIndex sector) const {
    const SectorIndex* base = starts_.data();
    for (std::size_t left = starts_.size(); left > 1;) {
        const std::size_t half = left / 2;
        base += base[half] <= sector ? half : 0;
        left -= half;
    }
    return static_cast<std::size_t>(base - starts_.data());
}

Linear::Piece Linear::first_piece(SectorRange range) const {
    const std::size_t at = place_of(range.first);
    // Up to the next start, and not to the node's end: it may have left.
    const SectorIndex end = at + 1 < starts_.size() ? starts_[at + 1] : range.end();
    return {nodes_[at], {range.first, std::min(end, range.end()) - range.first}};
}

async::Task<Result<>> Linear::split(block::Request& request) {
    Parts parts;
    for (SectorRange rest = request.range; rest.count > SectorCount(0);) {
        const Piece piece = first_piece(rest);
        if (piece.node == nullptr)
            parts.fail(kNoNode);
        else
            parts.start(piece.node->device(),
                        on_node(block::part_of(request, piece.range), *piece.node));
        rest = {piece.range.end(), rest.count - piece.range.count};
    }
    co_return co_await parts.finish();
}

/// One node after the other, for the extents stand in order. What is known of the first sectors is
/// an answer: the caller asks again from its end, and gets the error of a later node then.
async::Task<Result<>> Linear::describe(block::Request& request) {
    block::ExtentList& extents = *request.extents;
    const SectorCount before = extents.described();
    SectorRange rest = request.range;
    do {
        const Piece piece = first_piece(rest);
        Result<> result = std::unexpected(kNoNode);
        const SectorCount so_far = extents.described();
        if (piece.node != nullptr) {
            block::Request part = on_node(block::part_of(request, piece.range), *piece.node);
            result = co_await piece.node->device().execute(part);
        }
        if (!result.has_value()) {
            if (extents.described() > before) break;
            co_return result;
        }
        const SectorCount described = extents.described() - so_far;
        if (described > piece.range.count)
            co_return fail(ErrorCode::corrupt, "a node described more than it was asked for");
        if (described < piece.range.count) break;
        rest = {piece.range.end(), rest.count - piece.range.count};
    } while (rest.count > SectorCount(0) && !extents.full() && rest.fits(geometry_.size));
    co_return Result<>{};
}

async::Task<Result<>> Linear::flush() {
    block::Request everything;
    everything.op = block::Op::flush;
    Parts parts;
    for (node::Node* const node : nodes_)
        if (node != nullptr && node->device().geometry().can_flush)
            parts.start(node->device(), everything);
    co_return co_await parts.finish();
}

async::Task<Recovery> Linear::error(node::Node& /*node*/, Error error) {
    co_return error.code == ErrorCode::node_lost ? Recovery::fixed : Recovery::not_fixed;
}

Outcome<std::unique_ptr<Algorithm>> make_linear(const Options& options) {
    if (!options.empty())
        return refuse(fmt::format("algorithm linear has no option \"{}\": it takes none",
                                  options.front().first));
    return std::make_unique<Linear>();
}

}  // namespace dst::algorithm
