#include "algorithm/mirror/read_policy.h"

#include <tuple>

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

bool is_better(ReadPolicy policy, SectorIndex start, const ReadCandidate& one,
               const ReadCandidate& other) {
    const auto rank = [&](const ReadCandidate& candidate) {
        const SectorCount distance =
            candidate.position < start ? start - candidate.position : candidate.position - start;
        const std::uint64_t far = policy == ReadPolicy::least_busy ? 0 : distance.value();
        const bool is_second = policy == ReadPolicy::local_first && !candidate.is_local;
        return std::tuple(is_second, far, candidate.in_flight);
    };
    return rank(one) < rank(other);
}

}  // namespace dst::mirror
