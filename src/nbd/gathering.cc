#include "nbd/gathering.h"

#include <algorithm>
#include <utility>

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
        slow_stretches_ = 0;
        requests_before_ = requests;
        look_again(true);
    } else if (is_slower(now, requests)) {
        end();
        return {};
    }
    ++pauses_;
    requests_ += requests - std::exchange(requests_before_, requests);
    return {length_, is_watched_ || pauses_ % kLookEach == 0};
}

/// Fewer requests come than without pauses: what they save is paid for by somebody who waits.
bool Gathering::is_slower(io::TimePoint now, std::uint64_t requests) {
    const auto came = static_cast<std::int64_t>(requests - stretch_.requests);
    if (came < static_cast<std::int64_t>(kStretchMin)) return false;
    // By a third, and not once: less than that happens by chance on a busy machine.
    const bool slower = (now - stretch_.begun) * 3 > per_request_ * came * 4;
    stretch_ = {now, requests};
    if (!slower) try_after_ = kTryAfterMin;
    slow_stretches_ = slower ? slow_stretches_ + 1 : 0;
    return slow_stretches_ >= kSlowStretchesMax;
}

void Gathering::received(io::Duration waited) {
    short_waits_ = waited < kShortWait ? short_waits_ + 1 : 0;
}

void Gathering::looked(std::size_t before, std::size_t half, std::size_t all) {
    if (half >= kStreamBytes) {
        ran_dry();
        return;
    }
    early_ += half - std::min(before, half);
    late_ += all - std::min(half, all);
    ++looks_;
    if (looks_ >= 2 && late_ == 0) {
        ran_dry();
    } else if (looks_ >= kLooksMin) {
        const bool is_few = requests_ < kRequestsMin * pauses_;
        if (late_ * 3 < early_ * 2 || is_few) {
            ran_dry();
            return;
        }
        if (late_ * 5 >= early_ * 4) length_ = std::min(length_ * 5 / 4, kMost);
        look_again(false);
    }
}

void Gathering::look_again(bool closely) {
    is_watched_ = closely;
    looks_ = pauses_ = 0;
    early_ = late_ = 0;
    requests_ = 0;
}

/// The client had nothing left to do before the pause was over.
void Gathering::ran_dry() {
    length_ = length_ * 3 / 5;
    look_again(true);
    if (length_ < kLeast) end();
}

/// Where pauses don't pay they are tried more and more rarely.
void Gathering::end() {
    length_ = io::Duration::zero();
    short_waits_ = 0;
    try_after_ = std::min(try_after_ * 2, kTryAfterMax);
}

}  // namespace dst::nbd
