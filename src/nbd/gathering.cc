#include "nbd/gathering.h"

#include <algorithm>

namespace dst::nbd {

Gathering::Pause Gathering::next(io::TimePoint now, std::uint64_t requests) {
    if (length_ == io::Duration::zero()) {
        if (short_waits_ == 0) stretch_ = {now, requests};
        const std::uint64_t came = requests - stretch_.requests;
        if (short_waits_ < try_after_ || came == 0) return {};
        per_request_ = (now - stretch_.begun) / static_cast<std::int64_t>(came);
        stretch_ = {now, requests};
        short_waits_ = 0;
        length_ = kFirst;
        looks_ = slow_stretches_ = 0;
        early_ = late_ = 0;
    } else if (is_slower(now, requests)) {
        end();
        return {};
    }
    // A pause that is new is looked at closely.
    const bool is_new = length_ == kFirst;
    return {length_, is_new || ++pauses_ % kLookEach == 0};
}

/// Fewer requests come than without pauses: what they save is paid for by somebody who waits.
bool Gathering::is_slower(io::TimePoint now, std::uint64_t requests) {
    const auto came = static_cast<std::int64_t>(requests - stretch_.requests);
    if (came < static_cast<std::int64_t>(kStretchMin)) return false;
    // By a half, and twice: less than that happens by chance on a busy machine.
    const bool slower = (now - stretch_.begun) * 2 > per_request_ * came * 3;
    stretch_ = {now, requests};
    if (!slower) try_after_ = kTryAfterMin;
    slow_stretches_ = slower ? slow_stretches_ + 1 : 0;
    return slow_stretches_ >= 2;
}

void Gathering::received(io::Duration waited) {
    short_waits_ = waited < kShortWait ? short_waits_ + 1 : 0;
}

void Gathering::looked(std::size_t early, std::size_t all) {
    if (early >= kStreamBytes) {
        ran_dry();
        return;
    }
    early_ += early;
    late_ += all - std::min(all, early);
    if (++looks_ < kLooksMin) return;
    if (late_ * 4 >= early_ * 3) {
        length_ = std::min(length_ * 5 / 4, kMost);
        looks_ = 0;
        early_ = late_ = 0;
    } else if (late_ * 2 < early_) {
        ran_dry();
    }
}

/// The client had nothing left to do before the pause was over.
void Gathering::ran_dry() {
    length_ = length_ * 3 / 5;
    looks_ = 0;
    early_ = late_ = 0;
    if (length_ < kLeast) end();
}

/// Where pauses don't pay they are tried more and more rarely.
void Gathering::end() {
    length_ = io::Duration::zero();
    short_waits_ = 0;
    try_after_ = std::min(try_after_ * 2, kTryAfterMax);
}

}  // namespace dst::nbd
