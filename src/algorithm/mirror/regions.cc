#include "algorithm/mirror/regions.h"

#include <utility>

#include "base/check.h"

namespace dst::mirror {
namespace {

/// Calls `visit` for each region of a range.
template <typename Visit>
void for_each(RegionRange regions, Visit visit) {
    for (RegionIndex at = regions.first; at < regions.end(); ++at) visit(at);
}

}  // namespace

Regions::Regions(const Shape& shape, const metadata::StorageId& storage)
    : bits(shape, storage),
      in_flight_(shape.regions().value()),
      open_(shape.regions()),
      locked_(shape.regions()),
      fresh_(shape.regions()),
      uneven_(shape.regions()),
      failed_(shape.regions()),
      unsettled_(shape.regions()),
      changed_(shape.regions()),
      is_listed_(shape.regions()) {}

void Regions::lock(RegionRange regions) {
    CHECK(!locked_.any(regions));
    locked_.set(regions);
    open_.clear(regions);
}

void Regions::enter(RegionRange regions) {
    for_each(regions, [this](RegionIndex region) { ++in_flight_[region.value()]; });
    unsettled_.set(regions);
}

void Regions::leave(RegionRange regions) {
    for_each(regions, [this](RegionIndex region) {
        CHECK(in_flight_[region.value()] > 0);
        --in_flight_[region.value()];
        note_changed(region);
    });
}

void Regions::note_changed(RegionIndex region) {
    if (changed_.test(region)) return;
    changed_.set(region);
    changed_list_.push_back(region);
}

void Regions::doubt_failed() {
    ++doubts_;
    for (auto run = failed_.next_run(RegionIndex(0)); run; run = failed_.next_run(run->end()))
        uneven_.set(*run);
}

void Regions::doubt_unsettled() {
    ++doubts_;
    for (auto run = unsettled_.next_run(RegionIndex(0)); run; run = unsettled_.next_run(run->end()))
        make_uneven(*run);
}

void Regions::make_even(RegionRange regions) {
    uneven_.clear(regions);
    for_each(regions, [this](RegionIndex region) { note_changed(region); });
}

bool Regions::is_busy(RegionRange regions) const {
    for (RegionIndex at = regions.first; at < regions.end(); ++at)
        if (in_flight_[at.value()] > 0) return true;
    return false;
}

void Regions::make_fresh(RegionRange regions) {
    for_each(regions, [this](RegionIndex region) {
        if (!bits.unwritten().test(region) || fresh_.test(region)) return;
        fresh_.set(region);
        fresh_list_.push_back(region);
    });
}

bool Regions::has_unwritten(RegionRange regions) const {
    if (!bits.unwritten().any(regions)) return false;
    for (RegionIndex at = regions.first; at < regions.end(); ++at)
        if (is_unwritten(at)) return true;
    return false;
}

Regions::Flush Regions::begin_flush() {
    for (const RegionIndex region : changed_list_) changed_.clear(region);
    return {.changed = std::exchange(changed_list_, std::exchange(spare_list_, {})),
            .fresh = fresh_list_};
}

void Regions::flush_failed(Flush& flush) {
    for (const RegionIndex region : flush.changed) note_changed(region);
    keep(std::move(flush.changed));
}

void Regions::keep(std::vector<RegionIndex> list) {
    list.clear();
    spare_list_ = std::move(list);
}

void Regions::flush_succeeded(Flush& flush, io::TimePoint now) {
    for (const RegionIndex region : flush.fresh) bits.clear(Bits::kUnwritten, region);
    for (const RegionIndex region : flush.changed) {
        // Changes that came since have their own flush.
        if (changed_.test(region) || in_flight_[region.value()] > 0 || uneven_.test(region))
            continue;
        unsettled_.clear(region);
        failed_.clear(region);
        list_settled(region, now);
    }
    keep(std::move(flush.changed));
}

void Regions::make_written(const Flush& flush) {
    for (const RegionIndex region : flush.fresh) fresh_.clear(region);
    std::erase_if(fresh_list_, [this](RegionIndex region) { return !fresh_.test(region); });
}

void Regions::list_settled(RegionIndex region, io::TimePoint now) {
    if (is_listed_.test(region)) return;
    is_listed_.set(region);
    settled_.push_back({region, now});
}

void Regions::assume_settled(io::TimePoint now) {
    for (auto run = bits.intent().next_run(RegionIndex(0)); run;
         run = bits.intent().next_run(run->end()))
        for_each(*run, [&](RegionIndex region) { list_settled(region, now); });
}

}  // namespace dst::mirror
