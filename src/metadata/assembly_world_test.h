// The truth about a small world, and the rules of starting said of it by brute force: of the whole
// tree of ages, which nothing in the product knows, not of paths.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "metadata/form.h"

namespace dst::metadata::test {

using Set = std::vector<std::size_t>;

inline bool contains(const Set& set, std::size_t member) {
    return std::ranges::find(set, member) != set.end();
}

struct World {
    unsigned data_nodes;
    unsigned witnesses;
    Quorum quorum;

    [[nodiscard]] std::size_t nodes() const { return data_nodes + witnesses; }
    [[nodiscard]] std::size_t majority() const { return nodes() / 2 + 1; }
};

/// All that ever happened: the tree of ages and that of writes, each with its parent.
struct Truth {
    struct TrueAge {
        Form form;
        std::size_t parent;
    };
    std::vector<TrueAge> ages;
    std::vector<std::size_t> writes{0};
    std::vector<std::size_t> node_age;   // by node
    std::vector<std::size_t> node_data;  // the last write on it
    std::size_t acknowledged = 0;

    [[nodiscard]] bool comes_from(std::size_t age, std::size_t ancestor) const {
        while (age != ancestor && age != 0) age = ages[age].parent;
        return age == ancestor;
    }
    [[nodiscard]] bool has_write(std::size_t data, std::size_t write) const {
        while (data != write && data != 0) data = writes[data];
        return data == write;
    }
    [[nodiscard]] const Form& form_on(std::size_t node) const { return ages[node_age[node]].form; }
    [[nodiscard]] bool attaches(std::size_t age, std::size_t node) const {
        return ages[age].form.nodes[node].attached;
    }
};

/// The rules, said of the whole tree.
struct Rules {
    const World& world;
    const Truth& truth;

    [[nodiscard]] bool is_source(std::size_t node, std::size_t age) const {
        return truth.attaches(age, node) && truth.comes_from(age, truth.node_age[node]);
    }
    /// The ages that a head which sees `seen` may go on from.
    [[nodiscard]] Set startable(const Set& seen) const {
        Set newest;
        for (const std::size_t node : seen) {
            const std::size_t age = truth.node_age[node];
            const bool is_newest = std::ranges::none_of(seen, [&](std::size_t other) {
                return truth.node_age[other] != age && truth.comes_from(truth.node_age[other], age);
            });
            if (is_newest && !contains(newest, age)) newest.push_back(age);
        }
        std::erase_if(newest,
                      [&](std::size_t age) { return !may_start(age, seen, newest.size() > 1); });
        return newest;
    }
    [[nodiscard]] bool may_start(std::size_t age, const Set& seen, bool is_diverged) const {
        const auto is_source_here = [&](std::size_t node) { return is_source(node, age); };
        if (std::ranges::none_of(seen, is_source_here)) return false;
        if (world.quorum == Quorum::majority)
            return seen.size() >= world.majority() && !may_lose(age, seen);
        for (std::size_t node = 0; node < world.data_nodes; ++node)
            if (truth.attaches(age, node) && !contains(seen, node)) return false;
        return !is_diverged;
    }
    /// True if any age at all, beside the way to `age`, can have been in force.
    [[nodiscard]] bool may_lose(std::size_t age, const Set& seen) const {
        for (std::size_t other = 0; other < truth.ages.size(); ++other) {
            if (truth.comes_from(age, other) || truth.comes_from(other, age)) continue;
            const auto holders = std::ranges::count_if(seen, [&](std::size_t node) {
                return truth.comes_from(truth.node_age[node], other);
            });
            if (static_cast<std::size_t>(holders) + world.nodes() - seen.size() >= world.majority())
                return true;
        }
        return false;
    }
};

}  // namespace dst::metadata::test
