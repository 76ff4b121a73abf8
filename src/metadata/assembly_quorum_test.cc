#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metadata/assembly.h"
#include "metadata/assembly_test.h"

namespace dst::metadata {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Kind = Obstacle::Kind;

constexpr Quorum kMajority = Quorum::majority;

TEST(Majority, starts_with_a_node_and_the_witness) {
    const Form form = form_of(2, kMajority, 1);
    const Start start = expect_start(situation({place(0, form), away(1), place(2, form)}));
    EXPECT_THAT(cookies(start.sources), ElementsAre(0xc0));
    EXPECT_THAT(cookies(start.witnesses), ElementsAre(0xc2));
    EXPECT_THAT(start.lost_votes, IsEmpty());
}

TEST(Majority, waits_for_votes_and_names_them) {
    const Form form = form_of(2, kMajority, 1);
    const auto wait =
        expect_wait(situation({place(0, form), away(1), away(2, "no route")}), Kind::no_majority);
    EXPECT_EQ(wait.reason,
              "1 of 3 votes is there, and 2 are a majority; waits for node 00000000000000c1 (R: "
              "host1:10809/disk): connection refused, node 00000000000000c2 (R: host2:10809/disk): "
              "no route; 'dst storage start' with --force starts it all the same");
}

TEST(Majority, waits_for_a_node_of_the_newest_age_that_was_attached) {
    const Form old = form_of(2, kMajority, 1);
    const Form newer = next(old, {1});
    // The witness knows that node 1 went on alone.
    expect_wait(forced(situation({place(0, old), away(1), place(2, newer)})), Kind::no_source);
    expect_start(situation({place(0, old), place(1, newer), away(2)}));
}

TEST(Majority, goes_on_from_a_node_that_the_newest_age_attaches_before_it_heard_of_it) {
    const Form old = form_of(3, kMajority);
    const Form newer = next(next(old, {0}), {0, 1});
    const Start start = expect_start(situation({away(0), place(1, old), place(2, newer)}));
    EXPECT_EQ(start.base, newer);
    EXPECT_THAT(cookies(start.sources), ElementsAre(0xc1));
}

TEST(Majority, overruled_by_force_takes_the_votes_of_those_who_are_not_there) {
    const Form form = form_of(2, kMajority, 2);
    const Start start =
        expect_start(forced(situation({place(0, form), away(1), away(2), place(3, form)})));
    EXPECT_THAT(start.lost_votes, ElementsAre(0xc1, 0xc2));
    const Form first = first_form(start, std::vector<Cookie>{0xc0}, 0xf, {kUs, 2});
    EXPECT_EQ(first.votes(), 2U);
    EXPECT_EQ(first.votes_since, first.history.age);
    EXPECT_NE(first.find(0xc1), nullptr);
    EXPECT_EQ(first.find(0xc2), nullptr);  // a witness is nothing but its vote
    // Who was away and went on alone doesn't join by counting.
    const Superblock alone{.form = forked(form, 0xe, 1), .cookie = 0xc1, .sequence = 1};
    EXPECT_EQ(admit(first, alone), Admission::is_diverged);
}

TEST(Majority, a_plain_node_counts_for_none) {
    const Form form = form_of(3, kMajority);
    Place plain = place(1, form);
    plain.can_reserve = false;
    EXPECT_THAT(expect_wait(situation({place(0, form), plain, away(2)}), Kind::no_majority).reason,
                HasSubstr("1 of 3 votes"));
    Form two_votes = form;
    two_votes.nodes[1].has_vote = false;
    plain = place(1, two_votes);
    plain.can_reserve = false;
    expect_start(situation({place(0, two_votes), plain, place(2, two_votes)}));
    expect_wait(situation({place(0, two_votes), plain, away(2)}), Kind::no_majority);
}

TEST(Majority, held_by_another_head_is_none) {
    const Form form = form_of(3, kMajority);
    const auto two_held = situation({place(0, form), held(place(1, form), Holder::connected),
                                     held(place(2, form), Holder::connected)});
    EXPECT_EQ(expect_wait(two_held, Kind::held).obstacles.size(), 2U);
    expect_start(
        situation({place(0, form), held(place(1, form), Holder::connected), place(2, form)}));
    EXPECT_THAT(expect_start(forced(two_held)).lost_votes, IsEmpty());
}

TEST(Majority, a_side_that_can_never_have_been_in_force_joins_by_itself) {
    const Form base = form_of(2, kMajority, 1);
    const Form mine = next(forked(base, 0xd, 0), {0});
    const Form alone = forked(base, 0xe, 1);
    const Start start = expect_start(situation({place(0, mine), place(1, alone), place(2, mine)}));
    EXPECT_EQ(start.base, mine);
    EXPECT_THAT(start.joiners, ElementsAre(Joiner{{.place = 1, .cookie = 0xc1}, false}));
    EXPECT_FALSE(start.votes_begin_anew);
}

TEST(Majority, of_sides_that_were_never_in_force_either_serves) {
    const Form base = form_of(2, kMajority, 1);
    const Form left = forked(base, 0xd, 0);
    const Form right = forked(base, 0xe, 1);
    const Start start = expect_start(situation({place(0, left), place(1, right), place(2, base)}));
    EXPECT_EQ(start.base, left);
    EXPECT_THAT(start.joiners, ElementsAre(Joiner{{.place = 1, .cookie = 0xc1}, false}));
}

TEST(Majority, waits_for_the_vote_that_tells_which_side_counts) {
    const Form base = form_of(2, kMajority, 1);
    const auto two_sides = situation(
        {place(0, forked(base, 0xd, 0)), place(1, forked(base, 0xe, 1)), away(2, "no route")});
    const auto wait = expect_wait(forced(two_sides), Kind::undecided);
    EXPECT_EQ(wait.reason,
              "the nodes have diverged (age 000000000000000d.1 on 00000000000000c0, age "
              "000000000000000e.1 on 00000000000000c1), and the votes that are not there can tell "
              "which side counts; waits for node 00000000000000c2 (R: host2:10809/disk): no route; "
              "or say which side to keep: dst storage resolve vol0 --keep COOKIE (the others are "
              "overwritten)");
    const Start start = expect_start(keeping(two_sides, 0xc1));
    EXPECT_EQ(start.base.history.age, (Age{0xe, 1}));
    EXPECT_TRUE(start.joiners.front().is_all_stale);
    EXPECT_TRUE(start.votes_begin_anew);
    const Form first = first_form(start, std::vector<Cookie>{0xc1}, 0xf, {kUs, 2});
    EXPECT_EQ(first.votes_since, first.history.age);
    EXPECT_EQ(first.votes(), 3U);
}

TEST(Majority, keeping_a_side_does_not_overrule_what_counting_tells) {
    const Form base = form_of(2, kMajority, 1);
    const Form mine = forked(base, 0xd, 0);
    const Start start = expect_start(
        keeping(situation({place(0, mine), place(1, forked(base, 0xe, 1)), place(2, mine)}), 0xc1));
    EXPECT_EQ(start.base, mine);
    EXPECT_FALSE(start.votes_begin_anew);
}

// The second node may have been in force without node 3's knowing, for node 1 and 2 went on from
// it.
TEST(Majority, an_age_that_two_sides_went_on_from_counts) {
    const Form base = form_of(4, kMajority);
    const Form in_force = next(forked(base, 0xd, 1), {1, 2, 3});
    const Form z = forked(base, 0xe, 0);
    const Start start =
        expect_start(situation({place(0, z), place(1, forked(in_force, 0xf, 1)),
                                place(2, forked(in_force, 0x10, 2)), place(3, in_force)}));
    EXPECT_EQ(start.base.history.age, (Age{0xf, 1}));
    EXPECT_THAT(cookies(start.sources), ElementsAre(0xc1));
}

TEST(Majority, decides_nothing_between_sides_that_disagree_on_who_votes) {
    const Form base = form_of(2, kMajority, 1);
    const Form mine = forked(base, 0xd, 0);
    Form other = forked(base, 0xe, 1);
    other.votes_since = other.history.age;
    expect_refuse(situation({place(0, mine), place(1, other), place(2, mine)}), Kind::diverged);
    other = forked(base, 0xe, 1);
    other.quorum = Quorum::none;
    expect_refuse(situation({place(0, mine), place(1, other), place(2, mine)}), Kind::diverged);
    other = forked(base, 0xe, 1);
    other.history.is_cut_short = true;
    expect_refuse(situation({place(0, mine), place(1, other), place(2, mine)}), Kind::diverged);
}

TEST(Majority, a_newest_age_is_enough_even_where_votes_changed) {
    const Form base = form_of(2, kMajority, 1);
    Form fewer = next(base, {0, 1});
    fewer.nodes.pop_back();
    fewer.votes_since = fewer.history.age;
    // The witness was removed: it is no member and has no vote, and both nodes are a majority.
    const Start start = expect_start(situation({place(0, fewer), place(1, base), place(2, base)}));
    EXPECT_EQ(start.base, fewer);
    EXPECT_THAT(start.left_out.front().reason, HasSubstr("was removed"));
    expect_wait(situation({place(0, fewer), away(1), place(2, base)}), Kind::no_majority);
}

// A node that comes to a head that runs.

TEST(Admission, of_nodes_that_come_later) {
    for (const Quorum quorum : {Quorum::none, kMajority}) {
        const Form base = form_of(3, quorum);
        const Form current = next(forked(base, 0xd, 0), {0, 1});
        const auto holding = [](const Form& form, unsigned number) {
            return Superblock{.form = form, .cookie = 0xc0 + number, .sequence = 1};
        };
        EXPECT_EQ(admit(current, holding(current, 2)), Admission::joins);
        EXPECT_EQ(admit(current, holding(base, 2)), Admission::joins);
        EXPECT_EQ(admit(current, holding(next(current, {0}), 2)), Admission::is_newer);
        EXPECT_EQ(admit(current, holding(forked(current, 0xe, 2), 2)), Admission::is_newer);
        const Form apart = forked(base, 0xe, 2);
        EXPECT_EQ(admit(current, holding(apart, 2)),
                  quorum == kMajority ? Admission::joins : Admission::is_diverged);
        Form other_votes = apart;
        other_votes.votes_since = apart.history.age;
        EXPECT_EQ(admit(current, holding(other_votes, 2)), Admission::is_diverged);
        Form foreign = base;
        foreign.storage_id = storage_id(9);
        EXPECT_EQ(admit(current, holding(foreign, 2)), Admission::is_foreign);
        EXPECT_EQ(admit(current, holding(form_of(4, quorum), 3)), Admission::is_no_member);
    }
}

TEST(FirstForm, without_any_vote_left_asks_for_no_majority) {
    Form form = form_of(2, kMajority);
    form.nodes[0].has_vote = false;
    Place plain = place(0, form);
    plain.can_reserve = false;
    const Start start = expect_start(forced(situation({plain, away(1)})));
    const Form first = first_form(start, std::vector<Cookie>{0xc0}, 0xf, {kUs, 2});
    EXPECT_EQ(first.quorum, Quorum::none);
    EXPECT_EQ(broken_rule(first), nullptr);
}

}  // namespace
}  // namespace dst::metadata
