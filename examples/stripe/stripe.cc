#include "stripe.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <deque>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "algorithm/geometry.h"
#include "algorithm/module.h"
#include "algorithm/parts.h"

namespace stripe {

using dst::ByteCount;
using dst::ErrorCode;
using dst::refuse;
using dst::algorithm::Parts;
using dst::block::Extent;
using dst::block::ExtentList;
using dst::block::Op;

namespace {

/// Positions in bytes must fit the signed 64 bits that kernels and NBD clients count in.
constexpr SectorCount kSizeMax =
    dst::sectors_floor(ByteCount(std::numeric_limits<std::int64_t>::max()));

constexpr std::uint64_t kChunkBytes = 64 << 10;
constexpr std::uint64_t kChunkBytesMax = 1 << 30;

/// One block_status describes no more, so that a huge one doesn't keep the reactor busy.
constexpr std::uint64_t kDescribedChunksMax = 4096;
/// Room for what one node says of its part.
constexpr std::size_t kExtentsPerNode = 64;

Task<Result<>> forward(Node& node, Request part) { co_return co_await node.device().execute(part); }

Task<Result<>> fail_with(Error error) { co_return std::unexpected(error); }

}  // namespace

Layout::Place Layout::place_of(SectorIndex sector) const {
    const std::uint64_t index = sector.value() / chunk.value();
    return {index % nodes,
            SectorIndex(index / nodes * chunk.value() + sector.value() % chunk.value())};
}

/// How many sectors `node` holds of what lies before `end`.
SectorIndex Layout::end_on_node(SectorIndex end, std::size_t node) const {
    const std::uint64_t stripe = chunk.value() * nodes;
    const std::uint64_t before = chunk.value() * node;  // in the stripe
    const std::uint64_t rest = end.value() % stripe;
    const std::uint64_t of_last = rest <= before ? 0 : std::min(rest - before, chunk.value());
    return SectorIndex(end.value() / stripe * chunk.value() + of_last);
}

SectorRange Layout::on_node(SectorRange range, std::size_t node) const {
    const SectorIndex first = end_on_node(range.first, node);
    return {first, end_on_node(range.end(), node) - first};
}

SectorRange Layout::first_piece(SectorRange range) const {
    const SectorCount left(chunk.value() - range.first.value() % chunk.value());
    return {range.first, std::min(left, range.count)};
}

Outcome<> Stripe::add_node(Node& node) {
    if (started_)
        return refuse(ErrorCode::busy, "a stripe in use can't take node " + node.type() +
                                           ": every chunk would move; create a new storage");
    if (node.size() < layout_.chunk)
        return refuse("node " + node.type() + " is smaller than a chunk of " +
                      std::to_string(layout_.chunk.value()) + " sectors");
    if (to_bytes(layout_.chunk).value() % node.device().geometry().block_bytes != 0)
        return refuse("node " + node.type() + " has blocks larger than a chunk: make chunk " +
                      std::to_string(node.device().geometry().block_bytes) + " bytes or more");
    SectorCount smallest = node.size();
    for (const Node* const other : nodes_) smallest = std::min(smallest, other->size());
    if (smallest.value() > kSizeMax.value() / (nodes_.size() + 1))
        return refuse(ErrorCode::no_space, "node " + node.type() +
                                               " is too large: the storage would have more than " +
                                               std::to_string(kSizeMax.value()) + " sectors");

    node.set_start(SectorIndex(0) + SectorCount(layout_.chunk.value() * nodes_.size()));
    nodes_.push_back(&node);
    take_geometry();
    return {};
}

Outcome<> Stripe::can_del_node(const Node& node) const {
    if (!started_) return {};
    return refuse(ErrorCode::busy, "node " + node.type() +
                                       " can't leave a stripe in use: every node holds a share of "
                                       "the data");
}

void Stripe::del_node(Node& node) {
    broken_ = started_;
    std::erase(nodes_, &node);
    if (nodes_.empty()) started_ = broken_ = false;
    if (!broken_) take_geometry();
}

void Stripe::node_changed(Node& /*node*/) { take_geometry(); }

void Stripe::take_geometry() {
    geometry_ = dst::algorithm::limits_of(nodes_);
    const std::uint64_t chunk = to_bytes(layout_.chunk).value();
    const std::uint64_t request = std::min<std::uint64_t>(chunk, dst::block::kPayloadMaxBytes);
    geometry_.preferred_bytes =
        std::max(geometry_.preferred_bytes, static_cast<std::uint32_t>(request));
    layout_.nodes = nodes_.size();
    for (std::size_t at = 0; at < nodes_.size(); ++at)
        nodes_[at]->set_start(SectorIndex(0) + SectorCount(layout_.chunk.value() * at));
    if (nodes_.empty()) return;
    const auto size = [](const Node* node) { return node->size(); };
    const std::uint64_t smallest = std::ranges::min(nodes_, {}, size)->size().value();
    const std::uint64_t chunks = smallest / layout_.chunk.value();
    geometry_.size = SectorCount(chunks * layout_.chunk.value() * nodes_.size());
}

Task<Result<>> Stripe::remap(Request& request) {
    if (request.op == Op::flush) return flush();
    if (broken_) return fail_with({ErrorCode::io_error, "a node of the stripe has left"});
    if (nodes_.empty() || !request.range.fits(geometry_.size))
        return fail_with({ErrorCode::out_of_range, "beyond the end of the storage"});
    started_ = true;
    if (layout_.first_piece(request.range) == request.range) {
        const Layout::Place place = layout_.place_of(request.range.first);
        Request part = request;
        part.range.first = place.sector;
        return forward(*nodes_[place.node], part);
    }
    switch (request.op) {
        case Op::block_status:
            return describe(request);
        case Op::read:
        case Op::write:
            return by_chunk(request);
        default:
            return by_node(request);
    }
}

/// A payload lies in the storage's order: each chunk of it is a request of its own.
Task<Result<>> Stripe::by_chunk(Request& request) {
    Parts parts;
    for (SectorRange rest = request.range; rest.count > SectorCount(0);) {
        const SectorRange piece = layout_.first_piece(rest);
        const Layout::Place place = layout_.place_of(piece.first);
        Request part = dst::block::part_of(request, piece);
        part.range.first = place.sector;
        parts.start(nodes_[place.node]->device(), part);
        rest = {piece.end(), rest.count - piece.count};
    }
    co_return co_await parts.finish();
}

/// Without a payload, what a node holds of the range is one request.
Task<Result<>> Stripe::by_node(Request& request) {
    Parts parts;
    const std::size_t first = layout_.place_of(request.range.first).node;
    for (std::size_t at = 0; at < nodes_.size(); ++at) {
        const std::size_t node = (first + at) % nodes_.size();  // in the order of addresses
        Request part = request;
        part.range = layout_.on_node(request.range, node);
        if (part.range.count > SectorCount(0)) parts.start(nodes_[node]->device(), part);
    }
    co_return co_await parts.finish();
}

namespace {

/// What one node said of its part of a range; taken off from the front.
class Described {
  public:
    [[nodiscard]] ExtentList& list() { return list_; }
    /// At most `count` sectors of one kind; nothing if the node said no more.
    std::optional<Extent> take(SectorCount count) {
        if (at_ == list_.extents().size()) return std::nullopt;
        Extent extent = list_.extents()[at_];
        const SectorCount left = extent.count - taken_;
        extent.count = std::min(count, left);
        taken_ += extent.count;
        if (extent.count == left) {
            ++at_;
            taken_ = SectorCount(0);
        }
        return extent;
    }

  private:
    Extent room_[kExtentsPerNode];
    ExtentList list_{room_};
    std::size_t at_ = 0;
    SectorCount taken_;
};

}  // namespace

/// Each node is asked once for all it holds of the range; then the answers are dealt out as the
/// chunks are, up to where the first of them ends.
Task<Result<>> Stripe::describe(Request& request) {
    const SectorCount count_max(layout_.chunk.value() * kDescribedChunksMax);
    SectorRange rest{request.range.first, std::min(request.range.count, count_max)};
    std::deque<Described> described;  // never moves what it holds
    Parts parts;
    for (std::size_t node = 0; node < nodes_.size(); ++node) {
        Request part = request;
        part.range = layout_.on_node(rest, node);
        part.extents = &described.emplace_back().list();
        if (part.range.count > SectorCount(0)) parts.start(nodes_[node]->device(), part);
    }
    CO_TRY_VOID(co_await parts.finish());

    while (rest.count > SectorCount(0)) {
        const SectorCount in_chunk = layout_.first_piece(rest).count;
        const auto extent = described[layout_.place_of(rest.first).node].take(in_chunk);
        if (!extent.has_value() || !request.extents->add(*extent)) break;
        rest = {rest.first + extent->count, rest.count - extent->count};
    }
    co_return Result<>{};
}

Task<Result<>> Stripe::flush() {
    Request everything;
    everything.op = Op::flush;
    Parts parts;
    for (Node* const node : nodes_)
        if (node->device().geometry().can_flush) parts.start(node->device(), everything);
    co_return co_await parts.finish();
}

Task<Recovery> Stripe::error(Node& /*node*/, Error error) {
    co_return error.code == ErrorCode::node_lost ? Recovery::fixed : Recovery::not_fixed;
}

namespace {

/// "4096", "64K", "1M", "1G".
std::optional<std::uint64_t> parse_bytes(const std::string& text) {
    constexpr std::string_view kUnits = "KMG";
    std::uint64_t value = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || value > kChunkBytesMax) return std::nullopt;
    if (stop == end) return value;
    const std::size_t unit = kUnits.find(*stop);
    if (unit == kUnits.npos || stop + 1 != end) return std::nullopt;
    return value << (10 * (unit + 1));
}

}  // namespace

Outcome<std::unique_ptr<dst::algorithm::Algorithm>> make_stripe(const Options& options) {
    std::uint64_t chunk = kChunkBytes;
    for (const auto& [name, value] : options) {
        if (name != "chunk")
            return refuse("algorithm stripe has no option \"" + name + "\": it takes chunk");
        const auto bytes = parse_bytes(value);
        if (!bytes.has_value() || *bytes < dst::kSectorBytes || *bytes > kChunkBytesMax ||
            !std::has_single_bit(*bytes))
            return refuse("option chunk of algorithm stripe is \"" + value +
                          "\": give a power of two from 512 to 1G");
        chunk = *bytes;
    }
    return std::make_unique<Stripe>(dst::sectors_floor(ByteCount(chunk)));
}

}  // namespace stripe

DST_ALGORITHM_MODULE("stripe", "RAID 0: chunks dealt out to the nodes in turn", stripe::make_stripe)
