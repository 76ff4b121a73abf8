// Ages: who was attached when, and which of two copies of that is the newer one.
//
// An age is (id, generation). The id is drawn at each assembling, so two heads that assemble the
// same nodes apart never make the same age; the generation grows by one with each change within it,
// and no generation is ever used for two changes, in force or not. So ages form a tree: within an
// id a chain, and a new id forks off the age that was assembled from. Which of two ages is newer is
// asked of that tree, never of the numbers: the newer one is the one whose history passes through
// the other (design §7, rule 8). If neither does, they have diverged: two heads went their own
// ways.
//
//     (5,1) (5,2) (5,3) (5,4)          history of (9,2): path (5,3), age (9,2)
//                   \                  (5,2) older than (9,2), for (5,3) is on its path
//                    (9,1) (9,2)       (5,4) diverged from (9,2): neither passes through the other
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dst::metadata {

struct Age {
    std::uint64_t id = 0;          // drawn at assembling; never 0
    std::uint64_t generation = 0;  // 1 at assembling, one more with each change

    friend bool operator==(const Age&, const Age&) = default;
};

/// "0123456789abcdef.7"
[[nodiscard]] std::string to_string(const Age& age);

/// No storage lives to see it; so `+ 1` never overflows, whatever a disk says.
inline constexpr std::uint64_t kGenerationMax = std::uint64_t{1} << 62;

/// Entries of a path. Each is an assembling since all nodes last had the age in force, so the bound
/// is met only by a storage that was started this often without one of its nodes.
inline constexpr std::size_t kPathMax = 512;

struct History {
    Age age{};
    /// The ids that came before, oldest first, each with its last generation on the way to `age`.
    std::vector<Age> path{};
    /// The path was full and its oldest entries were dropped, though a node may still hold such an
    /// age. That node counts as diverged, never as older: it is refused, not overwritten; and where
    /// histories diverged, nothing is decided by counting nodes (assembly.h).
    bool is_cut_short = false;

    friend bool operator==(const History&, const History&) = default;
};

/// Every id is nonzero and occurs once; generations are 1 to kGenerationMax; at most kPathMax.
[[nodiscard]] bool is_valid(const History& history);

/// The last generation of `id` on the way to the history's age, itself included; nothing if it did
/// not come by there.
[[nodiscard]] std::optional<std::uint64_t> last_generation(const History& history,
                                                           std::uint64_t id);
/// True if `age` is the history's own or came before it.
[[nodiscard]] bool passes_through(const History& history, const Age& age);

enum class Order : std::uint8_t { equal, newer, older, diverged };
/// What `a` is, seen from `b`. Histories that contradict each other (each passes through the other)
/// have diverged.
[[nodiscard]] Order compare(const History& a, const History& b);

/// The history of a new storage.
[[nodiscard]] History first_history(std::uint64_t id);
/// The next change within this assembling.
[[nodiscard]] History next_generation(History history);
/// An assembling from `history`: the new `id` (nonzero, not on the path) forks off its age. Drops
/// the oldest entry of a full path.
[[nodiscard]] History fork(History history, std::uint64_t id);
/// Drops of the path what is older than all that is `held`: the ages that the nodes of the table
/// hold durably, witnesses and absent ones included, each of them. Drops nothing if one of them is
/// not on this history. So when all hold the age in force the path becomes empty. What was dropped
/// takes effect with the next generation: histories of one age are alike.
[[nodiscard]] History forget_before(History history, std::span<const Age> held);

/// The first age on `to`'s way that is not on `from`'s: where `to` left it. Nothing if `to` is on
/// `from`'s way, or if the two remember no age in common, so that nobody knows.
[[nodiscard]] std::optional<Age> first_apart(const History& from, const History& to);

}  // namespace dst::metadata
