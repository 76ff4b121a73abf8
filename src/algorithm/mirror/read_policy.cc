#include "algorithm/mirror/read_policy.h"

#include <tuple>

#include "base/check.h"

namespace dst::mirror {

std::string_view to_string(ReadPolicy policy) {
    switch (policy) {
        case ReadPolicy::nearest:
            return "nearest";
        case ReadPolicy::least_busy:
            return "least-busy";
        case ReadPolicy::local_first:
            return "local-first";
    }
    return "unknown";
}

std::optional<ReadPolicy> parse_read_policy(std::string_view text) {
    for (const ReadPolicy policy :
         {ReadPolicy::nearest, ReadPolicy::least_busy, ReadPolicy::local_first})
        if (text == to_string(policy)) return policy;
    return std::nullopt;
}

std::size_t choose_source(ReadPolicy policy, SectorIndex start,
                          std::span<const ReadCandidate> candidates) {
    CHECK(!candidates.empty());
    const auto rank = [&](const ReadCandidate& candidate) {
        const SectorCount distance =
            candidate.position < start ? start - candidate.position : candidate.position - start;
        const std::uint64_t far = policy == ReadPolicy::least_busy ? 0 : distance.value();
        const bool is_second = policy == ReadPolicy::local_first && !candidate.is_local;
        return std::tuple(is_second, far, candidate.in_flight);
    };
    std::size_t best = 0;
    for (std::size_t at = 1; at < candidates.size(); ++at)
        if (rank(candidates[at]) < rank(candidates[best])) best = at;
    return best;
}

}  // namespace dst::mirror
