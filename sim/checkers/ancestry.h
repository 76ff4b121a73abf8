// Ancestry: which ages came from which, as far as it has been seen. A history forgets what no node
// holds any more, so none of them alone tells all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "metadata/age.h"

namespace dst::sim {

class Ancestry {
  public:
    void note(const metadata::History& history) {
        std::optional<metadata::Age> before;
        for (const metadata::Age& step : history.path) {
            note(step.id, before);
            before = step;
        }
        note(history.age.id, before);
    }

    /// `now` came from `age`, which has been seen; or that can't be known, for what lay between was
    /// forgotten before it was seen.
    [[nodiscard]] bool descends(const metadata::History& now, const metadata::Age& age) const {
        if (metadata::passes_through(now, age)) return true;
        std::uint64_t id = now.path.empty() ? now.age.id : now.path.front().id;
        for (std::size_t steps = 0; steps < ids_.size(); ++steps) {
            const auto at = ids_.find(id);
            if (at == ids_.end() || !at->second.parent)
                return at == ids_.end() || at->second.order > ids_.at(age.id).order;
            const metadata::Age parent = *at->second.parent;
            if (parent.id == age.id) return age.generation <= parent.generation;
            id = parent.id;
        }
        return false;
    }

  private:
    struct Known {
        std::size_t order;                    // in which they were seen first
        std::optional<metadata::Age> parent;  // where it forked off
    };
    void note(std::uint64_t id, const std::optional<metadata::Age>& parent) {
        Known& known = ids_.try_emplace(id, Known{ids_.size(), parent}).first->second;
        if (!known.parent) known.parent = parent;
    }

    std::map<std::uint64_t, Known> ids_;
};

}  // namespace dst::sim
