#include "sim/run/workload.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace dst::sim {
namespace {

using block::Op;

/// One request in so many goes where others went a short time ago.
constexpr std::uint64_t kNearRecentOneIn = 3;
/// One in so many is as long as it may be; the others are drawn evenly.
constexpr std::uint64_t kLongestOneIn = 16;
constexpr SectorCount kReadBack{128};

}  // namespace

Workload::Workload(const ClientSpec& spec, check::History& history, World& world)
    : spec_(spec),
      history_(history),
      world_(world),
      random_(world.random()),
      left_(spec.requests) {}

bool Workload::is_over() const {
    return left_ == 0 && under_way_ == 0 && (!reads_back_ || unread_.count.value() == 0);
}

std::string Workload::state() const {
    if (!has_device()) return fmt::format("{} has not found {}", spec_.name, spec_.at);
    return fmt::format("{}: {} requests answered, {} under way, {} not sent", spec_.name, answered_,
                       under_way_, left_);
}

void Workload::read_back() {
    reads_back_ = true;
    if (has_device()) unread_ = own_part(size_);
}

SectorRange Workload::own_part(SectorCount size) const {
    const std::uint64_t each = size.value() / spec_.parts / 8 * 8;  // whole blocks of 4 KiB
    const std::uint64_t first = each * (spec_.part - 1);
    const bool is_last = spec_.part == spec_.parts;
    return {SectorIndex(first), SectorCount(is_last ? size.value() - first : each)};
}

bool Workload::next(block::Request& request, const block::Geometry& geometry) {
    // A node that is added makes it larger; a storage that is stopped has no size.
    size_ = std::max(size_, geometry.size);
    if (left_ == 0) return reads_back_ && next_read_back(request);
    if (geometry.size.value() == 0) return false;
    --left_;
    if (spec_.burst > 0 && left_ % spec_.burst == 0)
        rests_until_ = world_.now() + spec_.rest + random_.up_to(spec_.rest);
    request.op = draw_op();
    if (block::is_change(request.op)) request.fua = random_.below(100) < spec_.fua_percent;
    if (request.op == Op::write_zeroes) request.no_hole = random_.one_in(2);
    if (request.op != Op::flush) request.range = draw_range(geometry);
    return true;
}

bool Workload::next_read_back(block::Request& request) {
    if (unread_.count.value() == 0) return false;
    const SectorCount count = std::min(unread_.count, kReadBack);
    request.op = Op::read;
    request.range = {unread_.first, count};
    unread_ = {unread_.first + count, SectorCount(unread_.count.value() - count.value())};
    return true;
}

Op Workload::draw_op() {
    const MixSpec& mix = spec_.mix;
    const std::array<std::pair<unsigned, Op>, 6> weights{{{mix.read, Op::read},
                                                          {mix.write, Op::write},
                                                          {mix.write_zeroes, Op::write_zeroes},
                                                          {mix.trim, Op::trim},
                                                          {mix.flush, Op::flush},
                                                          {mix.block_status, Op::block_status}}};
    std::uint64_t all = 0;
    for (const auto& [weight, op] : weights) all += weight;
    std::uint64_t drawn = random_.below(all);
    for (const auto& [weight, op] : weights) {
        if (drawn < weight) return op;
        drawn -= weight;
    }
    return Op::read;
}

SectorRange Workload::draw_range(const block::Geometry& geometry) {
    const std::uint64_t block = geometry.block_bytes / kSectorBytes;
    const SectorRange part = own_part(geometry.size);
    const std::uint64_t end = part.end().value() / block * block;
    const std::uint64_t most =
        std::min(end - part.first.value(), sectors_floor(spec_.longest).value()) / block;
    const std::uint64_t least =
        std::min(most, std::max<std::uint64_t>(1, sectors_floor(spec_.shortest).value() / block));
    CHECK(most > 0);
    const std::uint64_t count =
        block * (random_.one_in(kLongestOneIn) ? most : random_.between(least, most));
    std::uint64_t at =
        part.first.value() + block * random_.below((end - part.first.value() - count) / block + 1);
    if (random_.one_in(kNearRecentOneIn)) {
        // So that it overlaps the other, if it may.
        const SectorRange& near = recent_[random_.below(kRecent)];
        const std::uint64_t back = block * random_.below(count / block);
        if (near.count.value() > 0 && near.first.value() >= part.first.value() + back &&
            near.first.value() - back + count <= end)
            at = near.first.value() - back;
    }
    const SectorRange range{SectorIndex(at), SectorCount(count)};
    recent_[recent_at_++ % kRecent] = range;
    return range;
}

}  // namespace dst::sim
