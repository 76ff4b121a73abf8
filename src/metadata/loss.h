// Loss: what becomes of a storage when some of its nodes are lost, by the rules that it runs and
// starts by: whether requests go on (design §7, rules 3 and 4), and whether a head that begins
// meanwhile would form it by itself (rule 8; assembly.h decides that). Pure: no I/O.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "metadata/assembly.h"
#include "metadata/form.h"

namespace dst::metadata {

/// How far the nodes that are there carry an age.
struct Standing {
    std::size_t attached = 0;  // named by the age, and there
    std::size_t votes = 0;     // there
    std::size_t votes_all = 0;
    std::size_t majority = 0;  // 0: no votes are counted

    [[nodiscard]] bool has_votes() const { return votes >= majority; }
    /// Requests are answered, once an age without the others is in force: the last attached node is
    /// never detached, and under a majority ages need one.
    [[nodiscard]] bool goes_on() const { return has_votes() && attached > 0; }
};

/// `is_there(record)`: it can be had.
template <typename IsThere>
[[nodiscard]] Standing standing_of(const Form& form, IsThere is_there) {
    Standing standing{
        .votes_all = form.votes(),
        .majority = form.quorum == Quorum::none ? 0 : form.majority(),
    };
    for (const NodeRecord& record : form.nodes) {
        if (!is_there(record)) continue;
        standing.attached += record.attached ? 1 : 0;
        standing.votes += record.has_vote ? 1 : 0;
    }
    return standing;
}

/// A node as it is before the loss.
struct NodeNow {
    Cookie cookie = 0;
    bool is_there = false;
    /// Heads can be kept from it (Place::can_reserve).
    bool can_reserve = true;
    /// Its type, as texts name it.
    std::string name{};
};

struct Outlook {
    /// Of those that are left, in the age in force, or the one sent since that they carry least.
    Standing standing{};
    /// An attached node is lost: requests wait until an age without it is in force.
    bool detaches = false;
    /// What a head decides that begins while the nodes are lost. After a loss that it goes on from
    /// it starts from the age without them.
    Decision restart{};
    /// What one decides when they are back and nothing was changed meanwhile.
    Decision restart_after{};
};

/// `forms`: the age in force, and those sent since, which bind (rule 4). `nodes`: of its table;
/// `lost` are some of them. `is_head_lost`: the head goes with them, so no age follows, and who
/// begins is another head, after `takeover`; and the same one when they are back.
[[nodiscard]] Outlook outlook_after(std::span<const Form* const> forms,
                                    std::span<const NodeNow> nodes, std::span<const Cookie> lost,
                                    bool is_head_lost);

/// Why a decision is none to start, for a person; empty if it is one.
[[nodiscard]] std::string reason_of(const Decision& decision);

}  // namespace dst::metadata
