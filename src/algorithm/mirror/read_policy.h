// Which node a read goes to: pure, over what is known of the candidates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/units.h"

namespace dst::mirror {

enum class ReadPolicy : std::uint8_t {
    nearest,      // whose previous request ended nearest to the start of this one (the seed's rule)
    least_busy,   // with the fewest requests in flight
    local_first,  // a local one if there is one, then as nearest
};
[[nodiscard]] std::string_view to_string(ReadPolicy policy);
[[nodiscard]] std::optional<ReadPolicy> parse_read_policy(std::string_view text);

struct ReadCandidate {
    SectorIndex position;  // where its previous request ended
    std::size_t in_flight = 0;
    bool is_local = false;
};

/// `one` is to be read from rather than `other`, for what starts at `start`. Of equal ones the less
/// busy; false if they are equal in that, too.
[[nodiscard]] bool is_better(ReadPolicy policy, SectorIndex start, const ReadCandidate& one,
                             const ReadCandidate& other);

}  // namespace dst::mirror
