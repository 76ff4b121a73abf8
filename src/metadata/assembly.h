// Assembling: whether a head may form a storage from what it sees, out of which copy, and with whom
// (design §7, rules 6, 8, 9). Pure: everything seen goes in, a decision comes out.
//
// A head asks twice: with what it has read, and again after it claimed the reservations; it claims
// only if the first answer was to start, and releases all if the second is not.
//
// Without quorum a storage starts when every node is there that was attached in the newest age
// seen; under a majority when a majority of votes is, with an attached node of the newest age among
// them. What stands in the way is an obstacle, and the reason names all of them. --force overrides
// those, no others, and not those that only better knowledge can remove.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "metadata/form.h"
#include "metadata/superblock.h"

namespace dst::metadata {

// What was seen.

struct Unreachable {
    std::string why;  // "connection refused"
};

/// Who holds a node's reservation.
enum class Holder : std::uint8_t {
    nobody,
    us,         // this head, in whatever incarnation
    lapsed,     // another head, gone for `takeover`: it may be displaced
    gone,       // another head, not gone for so long
    connected,  // another head
};

/// A place that the configuration names, and what is there.
struct Place {
    std::string name{};  // as the configuration has it: "R: host:10809/disk0"
    std::variant<Unreachable, Unreadable, Superblock> seen{};
    /// Local, or an exporter of our kind; a plain one promises nothing to anybody.
    bool can_reserve = true;
    Holder holder = Holder::nobody;
    std::uint64_t holder_id = 0;  // the other head's
    /// Of the exporter now; 0 if it tells none.
    std::uint64_t instance = 0;
    /// Taking over from it has failed, for what its disk said.
    bool is_broken = false;
    /// Where it ends, in whole pages; 0 if that is not known. For texts.
    SectorCount size{};
};

struct Situation {
    std::string storage_name{};
    /// If this head has formed it before; so another storage of that name is no rival.
    std::optional<StorageId> storage_id{};
    std::uint64_t head_id = 0;
    std::vector<Place> places{};
    /// Override what the reason names.
    bool force = false;
    /// Where sides have diverged and counting can't tell, go on with that of this node
    /// (`dst storage resolve`).
    std::optional<Cookie> keep{};
    /// A person says that this node's copy is the right one, whatever it lacks.
    std::optional<Cookie> clean{};
    /// Where that was said while this head had it in use: the newest age that it has sent. Nodes
    /// that hold it, and are not seen now, have not gone another way.
    std::optional<Form> left{};
};

// What to do.

struct Obstacle {
    enum class Kind : std::uint8_t {
        // --force overrides them.
        missing,      // a node that was attached is not there
        no_majority,  // too few votes are there
        held,         // another head has the reservation
        other_head,   // a plain node that another head used last, and did not stop cleanly
        // They may pass by themselves.
        no_source,  // none of the attached nodes is there
        undecided,  // sides have diverged; the votes that are away can tell
        not_ready,  // to make a new storage all of its places must be there
        // A person has to do something.
        diverged,       // sides have diverged, and nobody can tell
        occupied,       // to make a new storage all of its places must be blank
        newer_version,  // a program that knows more was here
        twice,          // one node at two places
        two_storages,   // of one name
    };
    Kind kind = Kind::missing;
    std::string text{};

    [[nodiscard]] bool can_be_forced() const { return kind <= Kind::other_head; }
    [[nodiscard]] bool may_pass() const { return kind <= Kind::not_ready; }
};

/// All places are there and blank, or of a making that was interrupted: make a new storage.
struct Create {};

/// A node that takes part: which place, and who it is.
struct Member {
    std::size_t place = 0;
    Cookie cookie = 0;

    friend bool operator==(const Member&, const Member&) = default;
};

struct Joiner {
    Member member{};
    /// It went another way, which was given up: nothing on it is known to be right. Else it is
    /// stale where the attached nodes' bitmaps or its own intent say so.
    bool is_all_stale = false;

    friend bool operator==(const Joiner&, const Joiner&) = default;
};

struct LeftOut {
    std::size_t place = 0;
    std::string reason;
};

struct Start {
    /// The newest age; the new one forks off it (`first_form`).
    Form base{};
    /// Attached nodes, of which one is the source and the others join: best first, those not
    /// broken, and not restarted since they were seen last. After a clean stop
    /// (base.stopped_cleanly) all of them may be attached at once.
    std::vector<Member> sources{};
    std::vector<Joiner> joiners{};
    std::vector<Member> witnesses{};
    /// Of those, the ones that went with a side that a person gave up.
    std::vector<Cookie> given_up_witnesses{};
    std::vector<LeftOut> left_out{};
    /// What --force overrode.
    std::vector<Obstacle> overridden{};
    /// Votes that are not there, if --force did without a majority: they count no more.
    std::vector<Cookie> lost_votes{};
    /// Nothing before this age may be decided by counting votes any more: --force did without a
    /// majority, or `keep` gave a side up.
    bool votes_begin_anew = false;
    /// The source was declared to be right (`clean`): nothing of what others have counts, nor of
    /// what bitmaps say.
    bool is_declared = false;
};

/// It can't start now and may later, by itself.
struct Wait {
    std::string reason;  // one line: for whom, and what would change it
    std::vector<Obstacle> obstacles;
};

/// It can't start before a person does something.
struct Refuse {
    std::string reason;
    std::vector<Obstacle> obstacles;
};

using Decision = std::variant<Create, Start, Wait, Refuse>;

[[nodiscard]] Decision decide(const Situation& situation);

/// The form of the new age: forked off `start.base` with `new_id` (drawn at random), by `head`,
/// with the nodes of `attached`, which are sources: one, or after a clean stop any. Lost votes are
/// taken from nodes, and witnesses that lost theirs leave the table. Else records are as they were:
/// the caller brings instances and types up to date.
[[nodiscard]] Form first_form(const Start& start, std::span<const Cookie> attached,
                              std::uint64_t new_id, Head head);

/// Why what was seen at a place is no node of the storage that has `current`, and what to do.
[[nodiscard]] std::string stranger(const Form& current, const Place& seen);

/// What a node is to a head that runs: `current` is the age that it sent last, in force or coming
/// from one that is.
enum class Admission : std::uint8_t {
    joins,         // it is behind, or went a way that can never have been in force
    is_diverged,   // refused until a person says which side to keep
    is_newer,      // another head has gone on from here: this one is at an end
    is_no_member,  // of this storage, and not in its table
    is_foreign,    // of another storage
};
[[nodiscard]] Admission admit(const Form& current, const Superblock& arriving);

}  // namespace dst::metadata
