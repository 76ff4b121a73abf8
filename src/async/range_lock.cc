#include "async/range_lock.h"

#include "base/check.h"

namespace dst::async {
namespace {

struct Granules {
    std::uint64_t first;
    std::uint64_t last;
};

Granules granules_of(const SectorRange& range, unsigned shift) {
    return {range.first.value() >> shift, (range.end().value() - 1) >> shift};
}

}  // namespace

RangeLock::Hold::Hold(RangeLock& lock, SectorRange range, Mode mode)
    : lock_(lock), range_(range), mode_(mode) {
    CHECK(range.count.value() > 0);
    for (Place& place : places_) place.hold = this;
    lock_.enter(*this);
}

RangeLock::Hold::~Hold() { lock_.leave(*this); }

/// Calls `visit(other)` once for each other hold that is in conflict with `hold`.
template <typename Visit>
void RangeLock::for_each_conflict(Hold& hold, Visit visit) {
    const auto [first, last] = granules_of(hold.range_, kGranuleShift);
    const auto scan = [&](Bucket& in, bool first_places_only) {
        for (Hold::Place* at = in.front(); at != nullptr; at = in.next(*at)) {
            Hold& other = *at->hold;
            // A hold may stand in two of the buckets that are looked at: count it at one place.
            if (&other == &hold || (first_places_only && at != &other.places_[0])) continue;
            if (hold.conflicts(other)) visit(other);
        }
    };
    scan(long_, false);
    if (last - first > 1) {
        for (Bucket& in : buckets_) scan(in, true);
        return;
    }
    scan(bucket(first), false);
    if (last == first || &bucket(last) == &bucket(first)) return;
    Bucket& second = bucket(last);
    for (Hold::Place* at = second.front(); at != nullptr; at = second.next(*at)) {
        Hold& other = *at->hold;
        if (&other == &hold) continue;
        const auto [other_first, other_last] = granules_of(other.range_, kGranuleShift);
        // Seen already if it stands in the first bucket, too.
        if (&bucket(other_first) == &bucket(first) ||
            (other_last != other_first && &bucket(other_last) == &bucket(first)))
            continue;
        if (hold.conflicts(other)) visit(other);
    }
}

void RangeLock::enter(Hold& hold) {
    for_each_conflict(hold, [&](Hold&) { ++hold.blockers_; });
    hold.sequence_ = next_sequence_++;
    ++size_;
    const auto [first, last] = granules_of(hold.range_, kGranuleShift);
    if (last - first > 1) {
        long_.push_back(hold.places_[0]);
        return;
    }
    bucket(first).push_back(hold.places_[0]);
    if (&bucket(last) != &bucket(first)) bucket(last).push_back(hold.places_[1]);
}

void RangeLock::leave(Hold& hold) {
    for (Hold::Place& place : hold.places_) place.unlink();
    --size_;
    for_each_conflict(hold, [&](Hold& other) {
        if (other.sequence_ < hold.sequence_) return;
        CHECK(other.blockers_ > 0);
        if (--other.blockers_ == 0 && other.waiter_ != nullptr) other.waiter_->wake();
    });
}

}  // namespace dst::async
