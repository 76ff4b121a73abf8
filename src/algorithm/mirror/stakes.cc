#include "algorithm/mirror/stakes.h"

#include <optional>

namespace dst::mirror {
namespace {

SectorCount sectors_in(const Shape& shape, const Bitmap& regions) {
    SectorCount sum;
    RegionIndex from(0);
    while (const auto run = regions.next_run(from)) {
        sum = sum + shape.sectors_of(*run).count;
        from = run->end();
    }
    return sum;
}

Bitmap written(const Regions& regions) {
    Bitmap all(regions.shape().regions(), true);
    all.and_not(regions.bits.unwritten());
    all.or_with(regions.fresh());
    return all;
}

}  // namespace

Stakes stakes_of(const Regions& regions, std::span<const CopyNow> copies, bool goes_on) {
    const Shape& shape = regions.shape();
    const Bitmap data = written(regions);
    Stakes stakes;
    Bitmap at_risk = data;
    for (const CopyNow& copy : copies) {
        // Nobody has given it a bitmap yet: it has nothing.
        if (!regions.bits.uses_slot(copy.slot)) continue;
        const Bitmap& stale = regions.bits.stale(copy.slot);
        if (copy.is_lost) {
            Bitmap lacking = stale;
            if (goes_on) lacking.or_with(regions.unsettled());
            stakes.resync = stakes.resync + sectors_in(shape, lacking);
            stakes.whole = stakes.whole + sectors_in(shape, data);
        } else if (copy.takes_part) {
            stakes.copies += copy.is_attached ? 1 : 0;
            at_risk.and_with(stale);
        }
    }
    stakes.at_risk = sectors_in(shape, at_risk);
    return stakes;
}

SectorCount crash_resync(const Regions& regions, std::size_t attached) {
    if (attached < 2) return {};
    return SectorCount(sectors_in(regions.shape(), regions.bits.intent()).value() * (attached - 1));
}

}  // namespace dst::mirror
