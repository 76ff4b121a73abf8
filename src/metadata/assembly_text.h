// What assembly says to people: one clause for each obstacle, each with what would change it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "metadata/assembly.h"

namespace dst::metadata::text {

/// "node 00000000000000c1 (R: far:10809/disk0)"
[[nodiscard]] std::string node(const NodeRecord& node);
/// Why nothing can be used of `place`: "R: far:10809/disk0: connection refused". Of one that can be
/// used: what it is.
[[nodiscard]] std::string unusable(const Situation& situation, const Place& place);

/// A node of the table that is not there, with what is seen at the place of its name.
[[nodiscard]] std::string missing(const Situation& situation, const NodeRecord& node);
[[nodiscard]] std::string no_majority(const Situation& situation, const Form& form,
                                      std::span<const NodeRecord* const> absent);
[[nodiscard]] std::string held(const Place& place);
/// Blank, and reserved by a head that is gone.
[[nodiscard]] std::string used(const Place& place);
[[nodiscard]] std::string other_head(const Superblock& superblock, const Form& base);
[[nodiscard]] std::string no_source(const Situation& situation, const Form& base);

/// Why nodes are left out of a storage that starts.
[[nodiscard]] std::string not_there(Cookie cookie);
[[nodiscard]] std::string stranger(const Form& current, const Superblock& superblock);
[[nodiscard]] std::string stranger(const Unreadable& unreadable);
[[nodiscard]] std::string no_member(const Place& place);
[[nodiscard]] std::string interrupted(const Place& place);

/// A side, for who has to choose: its newest age, and the nodes that hold it.
struct Side {
    Age age;
    std::vector<Cookie> holders;
};
[[nodiscard]] std::string diverged(const Situation& situation, std::span<const Side> sides);
[[nodiscard]] std::string undecided(const Situation& situation, std::span<const Side> sides,
                                    std::span<const NodeRecord* const> absent);

[[nodiscard]] std::string not_ready(const Situation& situation);
/// What to do about places that are none of a new storage's; follows the last of them.
[[nodiscard]] std::string how_to_free(const Situation& situation);
[[nodiscard]] std::string newer_version(const Place& place, const Unreadable& newer);
[[nodiscard]] std::string twice(const Place& one, const Place& other, Cookie cookie);
[[nodiscard]] std::string two_storages(const Place& one, const Place& other,
                                       const std::string& name);

/// All of them in one line.
[[nodiscard]] std::string reason(std::span<const Obstacle> obstacles);

}  // namespace dst::metadata::text
