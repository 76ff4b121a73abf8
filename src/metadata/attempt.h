// An attempt at assembling, on paper: what would come of starting with some of the nodes that were
// seen. Assembly makes one with those that may be had, and one with all, to say what is in the way.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "metadata/assembly.h"

namespace dst::metadata {

/// A node of the storage that was seen.
struct Seen {
    std::size_t index = 0;  // of its place
    const Place* place = nullptr;
    const Superblock* superblock = nullptr;

    [[nodiscard]] const Form& form() const { return superblock->form; }
    [[nodiscard]] const History& history() const { return superblock->form.history; }
    [[nodiscard]] Member member() const { return {.place = index, .cookie = superblock->cookie}; }
};
using SeenNodes = std::vector<Seen>;

struct Attempt {
    SeenNodes nodes{};
    const Form* base = nullptr;  // none: sides have diverged
    bool is_resolved = false;    // by `keep`
    std::vector<const NodeRecord*> absent_votes{};
    std::vector<Obstacle> obstacles{};

    void obstruct(Obstacle::Kind kind, std::string text) {
        obstacles.push_back({.kind = kind, .text = std::move(text)});
    }
};

/// `nodes` are of one storage, at least one.
[[nodiscard]] Attempt attempt_with(const Situation& situation, SeenNodes nodes);

/// Of the nodes that vote in `form` those that are not there.
[[nodiscard]] std::vector<const NodeRecord*> absent_votes_of(const SeenNodes& nodes,
                                                             const Form& form);

/// This head may reserve it without displacing a head that may be alive.
[[nodiscard]] inline bool is_available(const Place& place) {
    return place.holder != Holder::gone && place.holder != Holder::connected;
}

/// Its data is what the newest age says it is: attached in `base`, and never on another way.
[[nodiscard]] bool is_source(const Seen& seen, const Form& base);

}  // namespace dst::metadata
