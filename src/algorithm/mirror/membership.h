// Membership: who is attached: rules 3 and 4 of design §7, and how joining nodes leave.
//
// An age is a form that is sent to nodes. One change at a time; each is planned anew from how
// things stand, marks what is not settled stale for those it leaves out, durably, and is sent: to
// nodes that are attached already, then to those that it attaches, then to others. (If ages were
// sent before it that are not in force, first of all to nodes that are attached in each of them.
// Else, without quorum, nodes of one of those could start without it, beside who has it.) When it
// is durable on all that it names, and under quorum on a majority of votes, it is in force. If a
// node that it names can't be had meanwhile it is given up, and the next one planned; but it binds:
// what was sent may be found by the next head.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "algorithm/mirror/core.h"
#include "metadata/loss.h"

namespace dst::mirror {

class Membership {
  public:
    explicit Membership(Core& core) : core_(core) {}

    /// Changes ages as it is needed, until the mirror is over. Suspends.
    async::Task<void> run();

    /// `node` failed what others did, or can't be waited for: it leaves, as soon as it may. False
    /// if nobody would be left who could go on: then it stays, and its errors are the user's.
    bool expel(Node& node, std::string reason);
    /// Others can go on without it.
    [[nodiscard]] bool may_expel(const Node& node) const;
    /// A node that takes no bits leaves. The error of one that may not, for nobody else is left:
    /// nothing can be changed.
    [[nodiscard]] std::optional<Error> failure_of_the_last();
    /// The same of this one.
    [[nodiscard]] std::optional<Error> failure_to_stay(Node& node);
    /// `node` stays although it failed: if it has lost changes, who uses the mirror has to know.
    void note_losses(Node& node);
    /// A later age without it is being made, or will be when that can be.
    [[nodiscard]] bool is_to_leave(const Node& node) const {
        return node.has_failed || node.is_taken() ||
               node.is_silent(core_.world.clock.now(), core_.settings.grace);
    }

    /// A node that no age names, and that is not to be had after all.
    void give_up(Node& node, std::string reason);

    /// Sends an age that has this table, and waits until it is in force. False if it was given up.
    /// For those parts of a mirror's life in which nothing else changes ages. Suspends.
    async::Task<bool> impose(metadata::Form next);
    /// A change of the table, or of what the storage says of itself. May be asked more than once.
    using Edit = std::function<void(metadata::Form&)>;
    /// Waits until an age with `edit` is in force: the first one that nothing more urgent needs.
    /// Refused if nobody could go on from it, or at `deadline`: then an age that was sent by then
    /// is followed by one without it (a head that starts before that one is anywhere finds the
    /// former). Suspends.
    async::Task<Outcome<>> change(Edit edit, io::TimePoint deadline);
    /// Why the only node that has all of the data stays.
    [[nodiscard]] static Outcome<> refuse_as_last();
    /// `edit` takes the node out, and with it the majority that is asked for: an age without the
    /// node has to be in force before that. Until then `change` waits.
    [[nodiscard]] bool has_to_leave_first(const Node& node, const Edit& edit) const;
    /// What is stale on the node of this slot is known to all that are attached. Asks them to hurry
    /// if it is not.
    [[nodiscard]] bool is_stale_durable(std::uint8_t slot) const;

    /// The form that follows the last one that was sent; its table is the one in force.
    [[nodiscard]] metadata::Form successor() const;
    /// The latest age that was sent, in force or not.
    [[nodiscard]] const metadata::Form& newest_form() const {
        return sent_.empty() ? *core_.form : *sent_.back();
    }
    /// What nodes get that are not named in it; null before the first one.
    [[nodiscard]] FormHandle for_others() const { return for_others_; }
    [[nodiscard]] bool is_changing() const { return is_carrying_out_ || !sent_.empty(); }
    /// Another head has so many nodes that no age can be formed any more. Says who.
    [[nodiscard]] std::string fence() const;
    /// Nobody can be asked without these: whom requests wait for, why, and until when, for a
    /// person; empty: for nobody.
    [[nodiscard]] std::string obstacle() const;
    /// All attached nodes are there, and as many votes as are needed: no age is.
    [[nodiscard]] bool is_answering() const;
    /// An attached node is there.
    [[nodiscard]] bool has_source() const;
    /// What the ages that bind would come to without `lost`, as things stand.
    [[nodiscard]] metadata::Outlook outlook_after(std::span<const metadata::Cookie> lost,
                                                  bool is_head_lost) const;

  private:
    struct Wish {
        const Edit edit;
        bool is_sent = false;
        bool is_done = false;
        bool is_impossible = false;
    };
    /// The next age, and whose wish it is.
    struct Plan {
        metadata::Form form;
        std::shared_ptr<Wish> wish{};
    };
    [[nodiscard]] std::optional<std::string> why_no_age(const metadata::NodeRecord& record) const;
    [[nodiscard]] metadata::History forgetful(metadata::History history) const;
    [[nodiscard]] bool stays_attached(const metadata::NodeRecord& record) const;
    [[nodiscard]] bool may_be_named(const metadata::NodeRecord& record) const;
    [[nodiscard]] bool is_anything_due() const;
    [[nodiscard]] std::optional<Plan> plan();
    [[nodiscard]] static bool takes_out_unawares(const metadata::Form& now,
                                                 const metadata::Form& wished);
    [[nodiscard]] bool fulfil(Wish& wish, metadata::Form& next) const;
    [[nodiscard]] bool is_bound(const metadata::Form& next) const;
    [[nodiscard]] bool is_void(const metadata::Form& next) const;
    async::Task<bool> until(const metadata::Form& next, std::function<bool()> done);
    async::Task<bool> carry_out(metadata::Form next);
    void mark_stale(const metadata::Form& next);
    bool unmark();
    [[nodiscard]] bool stale_is_durable(const metadata::Form& next) const;
    template <typename IsMeant>
    [[nodiscard]] bool is_durable_on(std::uint8_t slot, IsMeant is_meant) const;
    /// To whom an age goes, one after the other.
    enum class Wave : std::uint8_t { bound, old_ones, new_ones };
    [[nodiscard]] Wave wave_of(const Node& node) const;
    [[nodiscard]] bool is_held(Wave wave, const metadata::Form& next) const;
    [[nodiscard]] bool has_votes(const metadata::Form& table, const metadata::Age& age) const;
    void send(Wave wave, const FormHandle& form);
    void send_to_others(const FormHandle& form);
    void conclude(const FormHandle& form);
    async::Task<void> leave(Node& node);
    void left(Node& node);

    Core& core_;
    std::vector<FormHandle> sent_;  // since the one in force, none of them in force
    FormHandle for_others_;
    std::deque<std::shared_ptr<Wish>> wishes_;  // oldest first
    bool is_carrying_out_ = false;
    std::shared_ptr<Wish> carried_out_;  // of the age that is on its way; may be null
    bool has_marked_ = false;            // regions as stale for nodes that an age was to leave out
};

}  // namespace dst::mirror
