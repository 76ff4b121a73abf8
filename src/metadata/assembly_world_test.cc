// Worlds of a few nodes and one head after another: each assembles with the nodes it happens to
// see, sends ages, writes, attaches and detaches, and dies in the middle of it. Whatever it leaves
// behind,
// - decide() says what a brute-force reading of the rules says, which knows the whole tree of ages
// and
//   nothing of paths (`Rules`);
// - every node that it offers as a source holds the last acknowledged write;
// - with all nodes there it starts, and without quorum nothing ever diverges.
#include "metadata/assembly_world_test.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "metadata/assembly.h"
#include "metadata/assembly_test.h"

namespace dst::metadata {
namespace {

using namespace test;
class Heads {
  public:
    Heads(World world, unsigned seed) : world_(world), random_(seed) {
        Form form = form_of(world.data_nodes, world.quorum, world.witnesses);
        form.history = first_history(1);
        form.votes_since = form.history.age;
        truth_.ages.push_back({form, 0});
        truth_.node_age.assign(world.nodes(), 0);
        truth_.node_data.assign(world.nodes(), 0);
    }

    void run(int heads) {
        const bool is_hasty = chance(2);  // most heads die soon
        for (int head = 0; head < heads && !testing::Test::HasFatalFailure(); ++head) {
            Set seen = everybody();
            if (is_hasty && chance(2)) {
                std::ranges::shuffle(seen, random_);
                seen.resize(world_.majority());
            } else if (!chance(4)) {
                std::erase_if(seen, [this](std::size_t) { return chance(3); });
            }
            dies_one_in_ = is_hasty ? 2 : 6;
            if (!seen.empty()) live(seen);
        }
    }

  private:
    bool chance(unsigned one_in) { return random_() % one_in == 0; }
    std::size_t pick(const Set& set) { return set[random_() % set.size()]; }
    [[nodiscard]] Set everybody() const {
        Set all(world_.nodes());
        std::iota(all.begin(), all.end(), std::size_t{0});
        return all;
    }

    Situation what_is_seen(const Set& seen) {
        std::vector<Place> places;
        for (const std::size_t node : everybody()) {
            const auto number = static_cast<unsigned>(node);
            places.push_back(contains(seen, node) ? place(number, truth_.form_on(node))
                                                  : away(number));
        }
        std::ranges::shuffle(places, random_);
        return situation(std::move(places));
    }

    /// Decides, checks the decision, and acts on it.
    void live(const Set& seen) {
        const Rules rules{world_, truth_};
        const Set startable = rules.startable(seen);
        const Decision decision = decide(what_is_seen(seen));
        const auto* start = std::get_if<Start>(&decision);
        if (start != nullptr)
            for (const Member& member : start->sources)
                ASSERT_TRUE(
                    truth_.has_write(truth_.node_data[member.cookie - 0xc0], truth_.acknowledged));
        ASSERT_EQ(start != nullptr, !startable.empty());
        ASSERT_FALSE(std::holds_alternative<Create>(decision));
        if (world_.quorum == Quorum::none) ASSERT_FALSE(std::holds_alternative<Refuse>(decision));
        if (seen.size() == world_.nodes()) ASSERT_NE(start, nullptr);
        if (start == nullptr) return;

        const auto base = std::ranges::find_if(startable, [&](std::size_t age) {
            return truth_.ages[age].form.history.age == start->base.history.age;
        });
        ASSERT_NE(base, startable.end());
        Set sources;
        for (const Member& member : start->sources) sources.push_back(member.cookie - 0xc0);
        for (const std::size_t node : seen)
            ASSERT_EQ(contains(sources, node), rules.is_source(node, *base));
        for (const Joiner& joiner : start->joiners) ASSERT_FALSE(joiner.is_all_stale);
        if (start->base.stopped_cleanly)
            for (const std::size_t node : sources)
                ASSERT_EQ(truth_.node_data[node], truth_.node_data[sources.front()]);
        serve(*start, *base, sources, seen);
    }

    void serve(const Start& start, std::size_t base, Set sources, const Set& seen) {
        if (!start.base.stopped_cleanly) sources = {pick(sources)};
        std::vector<Cookie> cookies;
        for (const std::size_t node : sources) cookies.push_back(0xc0 + node);
        seen_ = seen;
        last_ = base;
        attached_ = sources;
        named_ = sources;
        sent_since_.clear();
        data_ = truth_.node_data[sources.front()];
        const std::uint64_t id = 0x1000 + truth_.ages.size();
        if (!send(first_form(start, cookies, id, {kUs, 1}), sources) || last_ != in_force_) return;
        while (!chance(6))
            if (!step()) return;
    }

    bool step() {
        switch (random_() % 5) {
            case 0:
                return attach();
            case 1:
                return detach();
            case 2:
                return tell_everybody();
            case 3:
                if (chance(6)) return stop();
                [[fallthrough]];
            default:
                return write();
        }
    }

    /// A change reaches every named node before it is acknowledged, or the head dies before.
    bool write() {
        truth_.writes.push_back(data_);
        const std::size_t write = truth_.writes.size() - 1;
        for (const std::size_t node : named_) {
            if (chance(12)) return false;
            if (!contains(seen_, node)) return true;  // it holds: nothing is acknowledged
            truth_.node_data[node] = write;
        }
        data_ = write;
        truth_.acknowledged = write;
        return true;
    }

    bool attach() {
        for (const std::size_t node : seen_) {
            if (node >= world_.data_nodes || contains(named_, node)) continue;
            const Superblock arriving{truth_.form_on(node), 0xc0 + node, 1};
            EXPECT_EQ(admit(truth_.ages[last_].form, arriving), Admission::joins);
            truth_.node_data[node] = data_;  // copied, and with each write from here on
            Set with = attached_;
            with.push_back(node);
            return change(with);
        }
        return true;
    }

    /// A node fell silent. Each age sent meanwhile keeps one of its nodes, else the head holds.
    bool detach() {
        if (attached_.size() < 2) return true;
        const std::size_t lost = pick(named_);
        Set without = attached_;
        std::erase(without, lost);
        std::erase(seen_, lost);
        for (const Set& sent : sent_since_)
            if (std::ranges::none_of(sent, [&](std::size_t n) { return contains(without, n); }))
                return false;
        return without.empty() ? false : change(without);
    }

    bool tell_everybody() {
        if (last_ != in_force_) return true;
        for (const std::size_t node : seen_) {
            if (chance(8)) return false;
            truth_.node_age[node] = last_;
        }
        return true;
    }

    bool stop() {
        const auto is_equal = [this](std::size_t node) { return truth_.node_data[node] == data_; };
        if (last_ != in_force_ || !std::ranges::all_of(attached_, is_equal)) return true;
        Form form = truth_.ages[last_].form;
        form.history = next_generation(form.history);
        form.stopped_cleanly = true;
        send(form, attached_);
        return false;
    }

    bool change(const Set& attached) {
        Form form = truth_.ages[last_].form;
        form.history = next_generation(form.history);
        for (std::size_t node = 0; node < world_.data_nodes; ++node)
            form.nodes[node].attached = contains(attached, node);
        std::vector<Age> held;
        for (const std::size_t node : everybody()) held.push_back(truth_.form_on(node).history.age);
        if (chance(2)) form.history = forget_before(form.history, held);
        return send(form, attached);
    }

    /// To those already attached first, then to who is attached now, then to others. False: the
    /// head died on the way.
    bool send(Form form, const Set& attached) {
        truth_.ages.push_back({std::move(form), last_});
        last_ = truth_.ages.size() - 1;
        sent_since_.push_back(attached);
        for (const std::size_t node : attached)
            if (!contains(named_, node)) named_.push_back(node);
        Set order = attached;  // new ones are at its end
        for (const std::size_t node : seen_)
            if (!contains(order, node)) order.push_back(node);
        std::shuffle(order.begin() + static_cast<std::ptrdiff_t>(attached.size()), order.end(),
                     random_);
        std::size_t reached = 0;
        for (const std::size_t node : order) {
            if (chance(dies_one_in_)) return false;
            if (!contains(seen_, node) || chance(12)) return true;  // another one will be sent
            truth_.node_age[node] = last_;
            ++reached;
            const bool is_enough = reached >= attached.size() &&
                                   (world_.quorum == Quorum::none || reached >= world_.majority());
            if (!is_enough || !chance(2)) continue;
            break;
        }
        if (reached < attached.size()) return true;
        if (world_.quorum == Quorum::majority && reached < world_.majority()) return true;
        in_force_ = last_;
        attached_ = named_ = attached;
        sent_since_ = {attached};
        return true;
    }

    const World world_;
    std::mt19937 random_;
    Truth truth_;
    unsigned dies_one_in_ = 6;
    // Of the head that lives.
    Set seen_;
    Set attached_;                 // in the age in force
    Set named_;                    // in it, or in one sent since
    std::vector<Set> sent_since_;  // the age in force, and those sent since
    std::size_t last_ = 0;         // the age sent last
    std::size_t in_force_ = 0;
    std::size_t data_ = 0;
};

class Worlds : public testing::TestWithParam<World> {};

TEST_P(Worlds, start_only_with_what_was_acknowledged_and_whenever_the_rules_let_them) {
    for (unsigned seed = 0; seed < 5000 && !HasFatalFailure(); ++seed) {
        SCOPED_TRACE(seed);
        Heads(GetParam(), seed).run(14);
    }
}

INSTANTIATE_TEST_SUITE_P(without_quorum, Worlds,
                         testing::Values(World{2, 0, Quorum::none}, World{3, 0, Quorum::none},
                                         World{3, 1, Quorum::none}));
INSTANTIATE_TEST_SUITE_P(majority, Worlds,
                         testing::Values(World{2, 1, Quorum::majority},
                                         World{3, 0, Quorum::majority},
                                         World{3, 1, Quorum::majority},
                                         World{5, 0, Quorum::majority},
                                         World{4, 3, Quorum::majority}));

}  // namespace
}  // namespace dst::metadata
