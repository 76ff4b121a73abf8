// The plan of `dst apply`: which requests to a daemon make what it runs what a file says. Pure, so
// it can be shown before anything is done, and a daemon that runs that already needs none.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/config.h"
#include "control/table.h"

namespace dst::control {

struct Step {
    /// For a person: "add node R: host3:10809/disk0 to storage 'vol0'".
    std::string text;
    // The request; no method: only waits.
    std::string method;
    std::string path;
    std::string body;
    /// Wait before the next step until all nodes of this storage are in sync.
    std::string waits_for{};
    /// Whoever uses it notices.
    bool interrupts = false;
    friend bool operator==(const Step&, const Step&) = default;
};

struct Plan {
    std::vector<Step> steps;
    /// What no request can change: what it takes, a line each.
    std::vector<std::string> remarks;
};

/// From what runs (`now`) to what is wanted. Both are checked. Things that `wanted` does not name
/// are left alone, unless `prune`. Refused where what is wanted can't be had without loss: the text
/// says what to do by hand.
[[nodiscard]] Outcome<Plan> plan_of(const Config& now, const Config& wanted, bool prune);

/// A numbered line for each step, then the remarks.
[[nodiscard]] std::string to_text(const Plan& plan, TableStyle style);
/// {"steps": [{"text", "interrupts", "method", "path", "body", "waits_for"}], "remarks": [...]}
[[nodiscard]] std::string to_json(const Plan& plan);
[[nodiscard]] Outcome<Plan> parse_plan(std::string_view json);

}  // namespace dst::control
