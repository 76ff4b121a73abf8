// What the loss of each node, link and host of a storage would mean: as JSON, and for people.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/table.h"
#include "storage/storage.h"

namespace dst::control {

struct WhatIf {
    std::string storage;
    std::string algorithm;
    std::vector<storage::Loss> losses;
};

/// {"storage", "algorithm", "losses": [{"kind", "name", "nodes": [cookies], "writable",
/// "pause" (seconds), "reason", "copies", "at_risk", "resync", "whole" (sectors), "starts",
/// "start_reason", "starts_after", "start_after_reason"}]}
[[nodiscard]] std::string to_json(const WhatIf& what_if);
[[nodiscard]] Outcome<WhatIf> parse_what_if(std::string_view json);
/// A table, and below it why requests would wait and what a start would wait for.
[[nodiscard]] std::string to_table(const WhatIf& what_if, TableStyle style);

}  // namespace dst::control
