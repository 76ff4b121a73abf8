#include "algorithm/mirror/membership.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace dst::mirror {
namespace {

using metadata::Form;
using metadata::NodeRecord;
using namespace std::chrono_literals;

/// A node that failed is looked at again after this time, doubling.
constexpr io::Duration kBackoffFirst = 1s;
constexpr io::Duration kBackoffMax = 60s;

bool names_one_of(const Form& form, const Form& other) {
    return std::ranges::any_of(form.nodes, [&](const NodeRecord& record) {
        const NodeRecord* const there = other.find(record.cookie);
        return record.attached && there != nullptr && there->attached;
    });
}

bool is_attached_in(const Form& form, const Node& node) {
    const NodeRecord* const record = form.find(node.cookie);
    return record != nullptr && record->attached;
}

}  // namespace

async::Task<void> Membership::run() {
    while (!core_.is_over()) {
        if (core_.holds_ages) {
            co_await core_.progress.wait();
        } else if (auto next = plan()) {
            carried_out_ = next->wish;
            if (carried_out_ != nullptr) carried_out_->is_sent = true;
            is_carrying_out_ = true;
            const bool is_in_force = co_await carry_out(std::move(next->form));
            is_carrying_out_ = false;
            if (carried_out_ != nullptr) carried_out_->is_done = is_in_force;
            carried_out_.reset();
            if (is_in_force) core_.changed();
        } else if (!unmark())
            co_await core_.progress.wait();
    }
}

async::Task<bool> Membership::impose(Form next) { co_return co_await carry_out(std::move(next)); }

Form Membership::successor() const {
    Form next = *core_.form;
    next.history = metadata::next_generation(forgetful(newest_form().history));
    next.head = core_.head;
    next.stopped_cleanly = next.is_forming = false;
    if (core_.growth) {
        next.shape = core_.growth->shape;
        next.zero_from = core_.growth->zero_from;
    }
    for (NodeRecord& record : next.nodes) {
        const Node* const node = core_.find(record.cookie);
        if (node == nullptr) continue;
        record.size = node->size;
        if (node->is_connected()) record.instance = node->backing->instance();
    }
    return next;
}

Outcome<> Membership::refuse_as_last() {
    return refuse(ErrorCode::not_permitted,
                  "no other node has all of the data: bring one in sync first, or give up with "
                  "--force what the others lack");
}

async::Task<Outcome<>> Membership::change(Edit edit, io::TimePoint deadline) {
    const auto wish = std::make_shared<Wish>(std::move(edit));
    wishes_.push_back(wish);
    core_.changed();
    bool is_in_time = true;
    while (!wish->is_done && !wish->is_impossible && !core_.is_over() && is_in_time)
        is_in_time = co_await core_.progress_until(deadline);
    std::erase(wishes_, wish);
    if (wish->is_done) co_return Outcome<>{};
    core_.changed();  // an age that it was sent with is void now
    if (wish->is_impossible) co_return refuse_as_last();
    if (core_.is_over()) co_return refuse(ErrorCode::cancelled, "the storage is being stopped");
    const std::string waits = obstacle();
    co_return refuse(
        ErrorCode::timed_out,
        fmt::format("it {}{}", waits.empty() ? "takes too long" : "waits for " + waits,
                    wish->is_sent ? "; a head that starts anew just now may find it done" : ""));
}

/// Without what nobody remembers: that is known if it is known of every member what it holds.
metadata::History Membership::forgetful(metadata::History history) const {
    if (core_.owner.remembers_others()) return history;
    std::vector<metadata::Age> held;
    for (const NodeRecord& record : core_.form->nodes) {
        const Node* const node = core_.find(record.cookie);
        if (node == nullptr || node->superblock == nullptr || !node->superblock->durable())
            return history;
        held.push_back(*node->superblock->durable());
    }
    return metadata::forget_before(std::move(history), held);
}

/// Named by an age that was sent and given up, too: it has taken everything since.
bool Membership::stays_attached(const NodeRecord& record) const {
    const Node* const node = core_.find(record.cookie);
    return node != nullptr && node->is_attached() && !is_to_leave(*node);
}

/// It lacks nothing any more, and has the bitmaps: an age may name it.
bool Membership::may_be_named(const NodeRecord& record) const {
    const Node* const node = core_.find(record.cookie);
    return node != nullptr && node->state == NodeState::completing && !node->is_leaving &&
           !is_to_leave(*node) && node->holds_bits && node->pages->is_in_step() &&
           !core_.bits().stale(node->slot).any() &&
           // Without an age of its own nobody could start from it, though one names it.
           node->superblock->durable();
}

/// Whether it is worth while to make a plan. Asked whenever anything has changed.
bool Membership::is_anything_due() const {
    if (!sent_.empty() || !wishes_.empty()) return true;
    return std::ranges::any_of(core_.form->nodes, [this](const NodeRecord& record) {
        return stays_attached(record) != record.attached || may_be_named(record);
    });
}

/// What has to change, as things stand; nothing if nothing has to, or nothing can.
std::optional<Membership::Plan> Membership::plan() {
    if (!is_anything_due()) return std::nullopt;
    Plan plan{.form = successor()};
    Form& next = plan.form;
    bool changes = !sent_.empty();  // what was sent and given up has to be followed by something
    for (NodeRecord& record : next.nodes) {
        const bool was_attached = std::exchange(record.attached, stays_attached(record));
        changes |= was_attached != record.attached;
    }
    if (!changes) {
        for (const auto& wish : wishes_) {
            if (wish->is_done || !fulfil(*wish, next)) continue;
            plan.wish = wish;
            return plan;
        }
    }
    if (!changes) {
        for (NodeRecord& record : next.nodes)
            if (may_be_named(record)) record.attached = changes = true;
    }
    // The last attached node is never detached, and what was sent binds: else it holds.
    const bool has_any = std::ranges::any_of(next.nodes, &NodeRecord::attached);
    if (!changes || !has_any || !is_bound(next)) return std::nullopt;
    return plan;
}

/// Where the votes of a majority count no more, those that are left may be told apart from those
/// before by nobody: with A and B attached, C away, and A removed, C and A have two votes of three,
/// and B is all that the next age names. Either would go on without the other. An age without A
/// that is in force, by the votes as they are, makes B known to one of them at least.
bool Membership::takes_out_unawares(const Form& now, const Form& wished) {
    return now.quorum == metadata::Quorum::majority && wished.quorum == metadata::Quorum::none &&
           std::ranges::any_of(now.nodes, [&](const NodeRecord& record) {
               return record.attached && wished.find(record.cookie) == nullptr;
           });
}

bool Membership::has_to_leave_first(const Node& node, const Edit& edit) const {
    if (!node.is_attached() && !is_attached_in(*core_.form, node)) return false;
    Form now = *core_.form;
    for (NodeRecord& record : now.nodes) record.attached |= record.cookie == node.cookie;
    Form wished = now;
    edit(wished);
    return takes_out_unawares(now, wished);
}

/// Makes `next` what is wished; false if that can't be, which is noted.
bool Membership::fulfil(Wish& wish, Form& next) const {
    Form wished = next;
    wish.edit(wished);
    if (takes_out_unawares(next, wished)) return false;  // it has come back: not now
    // Counting says nothing between ages that disagree on who votes.
    const auto votes = [](const Form& form) {
        std::vector<metadata::Cookie> all;
        for (const NodeRecord& record : form.nodes)
            if (record.has_vote) all.push_back(record.cookie);
        return all;
    };
    if (wished.quorum != next.quorum || votes(wished) != votes(next))
        wished.votes_since = wished.history.age;
    wish.is_impossible = std::ranges::none_of(wished.nodes, &NodeRecord::attached) ||
                         metadata::broken_rule(wished) != nullptr || !is_bound(wished);
    if (wish.is_impossible)
        core_.progress.wake_all();
    else
        next = std::move(wished);
    return !wish.is_impossible;
}

/// Rule 4: each age keeps an attached node of the one in force and of each sent since.
bool Membership::is_bound(const Form& next) const {
    return names_one_of(next, *core_.form) &&
           std::ranges::all_of(sent_,
                               [&](const FormHandle& sent) { return names_one_of(next, *sent); });
}

/// It names somebody who can't be had any more, or leaves out somebody who can be had again, or the
/// mirror is over, or nobody wishes it any more. (Who is left out gets no ages, so it may be waited
/// for in vain: for its vote; and so may one that was to come in.)
bool Membership::is_void(const Form& next) const {
    if (core_.is_over()) return true;
    if (carried_out_ != nullptr && std::ranges::find(wishes_, carried_out_) == wishes_.end())
        return true;
    return std::ranges::any_of(next.nodes, [&](const NodeRecord& record) {
        const Node* const node = core_.find(record.cookie);
        const bool may_stay = node != nullptr && node->is_attached() && !is_to_leave(*node);
        if (!record.attached) return may_stay;
        return node == nullptr || is_to_leave(*node) || node->is_leaving ||
               (!node->is_attached() && node->state != NodeState::completing);
    });
}

/// Waits for `done()`; false as soon as the age is void, whatever is done by then: a node that is
/// about to leave must not be named.
async::Task<bool> Membership::until(const Form& next, std::function<bool()> done) {
    while (!is_void(next)) {
        if (done()) co_return true;
        co_await core_.progress.wait();
    }
    co_return false;
}

async::Task<bool> Membership::carry_out(Form next) {
    CHECK(metadata::broken_rule(next) == nullptr);
    mark_stale(next);
    if (!co_await until(next, [&] { return stale_is_durable(next); })) co_return false;

    const auto form = std::make_shared<const Form>(std::move(next));
    sent_.push_back(form);
    // From here on it may be found on a node: whom it names is attached.
    for (const NodeRecord& record : form->nodes)
        if (Node* const node = core_.find(record.cookie); record.attached && !node->is_attached())
            core_.become(*node, NodeEvent::named, "attached");
    for (const Wave wave : {Wave::bound, Wave::old_ones, Wave::new_ones}) {
        send(wave, form);
        if (!co_await until(*form, [&] { return is_held(wave, *form); })) co_return false;
    }
    send_to_others(form);
    // Where the votes change it takes a majority of those before, too: else those might go on
    // without it. (Whoever assembles has counted those, or a person has said that they don't
    // count.)
    const FormHandle before = core_.is_serving ? core_.form : form;
    if (!co_await until(*form, [&] {
            return has_votes(*before, form->history.age) && has_votes(*form, form->history.age);
        }))
        co_return false;
    conclude(form);
    co_return true;
}

/// Rule 4: before an age is sent, every region that is not settled is stale for every node outside
/// of it, present or not.
void Membership::mark_stale(const Form& next) {
    has_marked_ = true;
    for (const NodeRecord& record : next.nodes) {
        if (record.attached || record.is_witness) continue;
        core_.bits().use_slot(record.slot);
        const Node* const node = core_.find(record.cookie);
        if (node != nullptr && node->is_distrusted)
            core_.bits().set(Bits::stale_of(record.slot),
                             {RegionIndex(0), core_.shape().regions()});
        else
            core_.bits().set_all_of(Bits::stale_of(record.slot), core_.regions->unsettled());
    }
    for (const auto& node : core_.nodes)
        if (node->pages != nullptr && is_attached_in(next, *node)) node->pages->hurry();
}

/// Nodes that were to be left out and stayed have missed nothing. True if there were such.
bool Membership::unmark() {
    if (!has_marked_ || !sent_.empty()) return false;
    has_marked_ = false;
    bool any = false;
    for (const auto& node : core_.nodes) {
        if (node->is_witness || !node->is_attached()) continue;
        const Bitmap& stale = core_.bits().stale(node->slot);
        if (!stale.any()) continue;
        // It may have to leave yet.
        if (is_to_leave(*node)) {
            has_marked_ = true;
            continue;
        }
        core_.bits().clear(Bits::stale_of(node->slot), {RegionIndex(0), core_.shape().regions()});
        any = true;
    }
    return any;
}

bool Membership::stale_is_durable(const Form& next) const {
    return std::ranges::all_of(next.nodes, [&](const NodeRecord& record) {
        return record.attached || record.is_witness ||
               is_durable_on(record.slot,
                             [&](const Node& node) { return is_attached_in(next, node); });
    });
}

bool Membership::is_stale_durable(std::uint8_t slot) const {
    return is_durable_on(slot, [](const Node& node) { return node.is_attached(); });
}

template <typename IsMeant>
bool Membership::is_durable_on(std::uint8_t slot, IsMeant is_meant) const {
    const Bits& bits = core_.bits();
    for (std::uint32_t at = 0; at < bits.shape().bitmap_pages(); ++at) {
        const PageNumber page = bits.page_at(Bits::stale_of(slot), at);
        for (const auto& node : core_.nodes)
            if (is_meant(*node) && !node->pages->is_durable(page, bits.version(page))) {
                node->pages->hurry();
                return false;
            }
    }
    return true;
}

/// Of a node that the age names. Bound: attached in the age in force and in each sent since. Old:
/// in the one in force.
Membership::Wave Membership::wave_of(const Node& node) const {
    if (!is_attached_in(*core_.form, node)) return Wave::new_ones;
    const bool is_bound = std::ranges::all_of(
        sent_, [&](const FormHandle& sent) { return is_attached_in(*sent, node); });
    return is_bound ? Wave::bound : Wave::old_ones;
}

/// Durable on all that it names, up to that wave.
bool Membership::is_held(Wave wave, const Form& next) const {
    return std::ranges::all_of(core_.nodes, [&](const auto& node) {
        return !is_attached_in(next, *node) || wave_of(*node) > wave ||
               (node->superblock != nullptr && node->superblock->holds(next.history.age));
    });
}

/// Under a majority: so many of the votes of `table` hold `age`.
bool Membership::has_votes(const Form& table, const metadata::Age& age) const {
    if (table.quorum == metadata::Quorum::none) return true;
    std::size_t votes = 0;
    for (const NodeRecord& record : table.nodes)
        if (const Node* const node = core_.find(record.cookie);
            record.has_vote && node != nullptr && node->superblock != nullptr &&
            !node->is_taken() && node->superblock->holds(age))
            ++votes;
    return votes >= table.majority();
}

void Membership::send(Wave wave, const FormHandle& form) {
    for (const auto& node : core_.nodes)
        if (is_attached_in(*form, *node) && wave_of(*node) == wave) node->superblock->send(form);
}

/// Those that it leaves out, too: their votes count, and they may be well again.
void Membership::send_to_others(const FormHandle& form) {
    for_others_ = form;
    for (const auto& node : core_.nodes)
        if (!is_attached_in(*form, *node) && node->superblock != nullptr &&
            form->find(node->cookie) != nullptr)
            node->superblock->send(form);
}

void Membership::conclude(const FormHandle& form) {
    const FormHandle before = std::exchange(core_.form, form);
    if (core_.growth && form->shape == core_.growth->shape) core_.growth.reset();
    sent_.clear();
    std::vector<std::string> names;
    for (const NodeRecord& record : form->nodes)
        if (record.attached) names.push_back(record.type);
    log::info("storage {}: age {} in force, attached: {}", core_.settings.name,
              metadata::to_string(form->history.age), fmt::join(names, ", "));
    for (Node* const node : core_.snapshot()) {
        const bool is_removed =
            before->find(node->cookie) != nullptr && form->find(node->cookie) == nullptr;
        if (is_removed)
            node->reason = "removed";
        else if (node->is_attached() && !is_attached_in(*form, *node) && !node->has_failed)
            node->reason = "it is silent";
        if (node->is_attached() ? !is_attached_in(*form, *node)
                                : is_removed && node->state != NodeState::away)
            left(*node);
        if (is_removed) core_.retire(*node);
    }
    core_.changed();
}

/// An attached node may, if another one is left that failed nothing, answers, and is bound to.
bool Membership::may_expel(const Node& node) const {
    if (!node.is_attached()) return true;
    Form rest = *core_.form;
    for (NodeRecord& record : rest.nodes) {
        const Node* const other = core_.find(record.cookie);
        record.attached =
            record.attached && other != nullptr && other != &node && !is_to_leave(*other);
    }
    return std::ranges::any_of(rest.nodes, &NodeRecord::attached) && is_bound(rest);
}

bool Membership::expel(Node& node, std::string reason) {
    if (node.has_failed || node.is_leaving || core_.is_over()) return true;
    if (!may_expel(node)) {
        note_losses(node);
        return false;
    }
    log::warning("storage {}: {} has to leave: {}", core_.settings.name, node.type, reason);
    node.reason = std::move(reason);
    if (node.is_attached()) {
        node.has_failed = true;
        core_.changed();
    } else if (node.is_joining()) {
        node.has_failed = node.is_leaving = true;
        core_.scope.spawn(leave(node));
    }
    return true;
}

std::optional<Error> Membership::failure_of_the_last() {
    for (const auto& node : core_.nodes)
        if (const auto error = failure_to_stay(*node)) return error;
    return std::nullopt;
}

std::optional<Error> Membership::failure_to_stay(Node& node) {
    if (node.is_attached() && node.pages->failure() && !expel(node, "writing its bitmaps failed"))
        return node.pages->failure();
    return std::nullopt;
}

void Membership::note_losses(Node& node) {
    if (!node.has_lost_changes()) return;
    log::error("storage {}: {} has lost changes, and nobody else has them", core_.settings.name,
               node.type);
    node.backing->accept_losses();
    // Others may have what it lost: those that are coming in.
    const auto may_have_it = [&](const auto& other) {
        return other.get() != &node && other->takes_part();
    };
    if (std::ranges::any_of(core_.nodes, may_have_it)) core_.regions->doubt_unsettled();
    core_.owner.mirror_lost_changes();
    core_.changed();
}

/// Rule 2: a joining node that goes is first stale in all that it took and did not flush.
async::Task<void> Membership::leave(Node& node) {
    if (node.is_witness) {
        left(node);
        co_return;
    }
    core_.bits().set_all_of(Bits::stale_of(node.slot), core_.regions->unsettled());
    const std::uint64_t membership = node.membership;
    while (!is_stale_durable(node.slot) && !core_.is_over()) co_await core_.progress.wait();
    if (node.membership == membership) left(node);
}

void Membership::give_up(Node& node, std::string reason) {
    node.reason = std::move(reason);
    if (node.state != NodeState::away) left(node);
}

void Membership::left(Node& node) {
    ++node.membership;
    if (node.has_failed && !node.is_distrusted) {
        const io::TimePoint now = core_.world.clock.now();
        // What went well for so long has nothing to do with failures before.
        if (now >= node.try_again_at + kBackoffMax) node.backoff = {};
        node.backoff = std::clamp(node.backoff * 2, kBackoffFirst, kBackoffMax);
        node.try_again_at = now + node.backoff;
    }
    node.has_failed = node.is_leaving = node.holds_bits = node.is_distrusted = false;
    node.copied.reset();
    node.being_flushed.reset();
    if (node.is_attached() || node.is_joining()) {
        node.found_on.reset();
        if (node.is_connected()) node.found_on = node.backing->instance();
    }
    if (node.backing != nullptr) node.backing->accept_losses();  // it is copied to
    // What it is given no more, and has perhaps not got: intents say so on the nodes, till then.
    if (core_.bits().uses_slot(node.slot))
        core_.bits().set_all_of(Bits::stale_of(node.slot), core_.regions->unsettled());
    if (node.pages != nullptr) node.pages->stop();
    if (node.superblock != nullptr) node.superblock->stop();
    core_.become(node, NodeEvent::left, node.reason);
    if (node.backing != nullptr) node.backing->drop();
    core_.deliveries.wake_all();
}

std::string Membership::fence() const {
    if (std::ranges::none_of(core_.nodes, [](const auto& node) { return node->is_taken(); }))
        return {};
    std::vector<std::string> taken;
    Form rest = *core_.form;
    for (NodeRecord& record : rest.nodes) {
        const Node* const node = core_.find(record.cookie);
        const bool is_taken = node != nullptr && node->is_taken();
        if (is_taken) taken.push_back(record.type);
        record.attached &= !is_taken;
    }
    if (taken.empty()) return {};  // by a node that is coming in
    // One that may be had, but went on with another head, gives this one no vote.
    const metadata::Standing standing = metadata::standing_of(rest, [&](const NodeRecord& record) {
        const Node* const node = core_.find(record.cookie);
        return node == nullptr || (!node->is_taken() && !node->is_astray);
    });
    if (standing.goes_on() && is_bound(rest)) return {};
    return fmt::format("another head has {}", fmt::join(taken, ", "));
}

}  // namespace dst::mirror
