#include "metadata/assembly.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metadata/assembly_test.h"

namespace dst::metadata {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Kind = Obstacle::Kind;

// A new storage.

TEST(Making, begins_when_all_places_are_there_and_blank) {
    EXPECT_TRUE(std::holds_alternative<Create>(decide(situation({blank(0), blank(1)}))));
}

TEST(Making, waits_for_a_place_that_is_not_there_and_is_not_forced) {
    const auto wait = expect_wait(forced(situation({blank(0), away(1)})), Kind::not_ready);
    EXPECT_EQ(
        wait.reason,
        "no node that is there knows of it; waits for R: host1:10809/disk: connection refused "
        "(if they don't either, it is made anew when all of them are there)");
}

TEST(Making, refuses_what_is_not_blank) {
    for (const auto kind : {Unreadable::Kind::foreign, Unreadable::Kind::damaged})
        expect_refuse(forced(situation({blank(0), unreadable(1, kind)})), Kind::occupied);
    Form other = form_of(2);
    other.name = "vol1";
    const auto refuse = expect_refuse(situation({blank(0), place(1, other)}), Kind::occupied);
    EXPECT_THAT(refuse.reason, HasSubstr("belongs to the storage vol1"));
}

TEST(Making, that_was_interrupted_begins_again_for_it_served_nobody) {
    Form forming = form_of(2);
    forming.history = first_history(0xa);
    forming.is_forming = true;
    EXPECT_TRUE(std::holds_alternative<Create>(decide(situation({place(0, forming), blank(1)}))));
    Form again = forming;
    again.storage_id = test::storage_id(3);
    again.history = first_history(0xb);
    again.votes_since = again.history.age;
    EXPECT_TRUE(
        std::holds_alternative<Create>(decide(situation({place(0, forming), place(1, again)}))));
    expect_wait(situation({place(0, forming), away(1)}), Kind::not_ready);
    // It reached all of its nodes: there is a storage.
    const Start start = expect_start(situation({place(0, forming), place(1, forming)}));
    EXPECT_FALSE(first_form(start, std::vector{start.sources[0].cookie}, 9, {kUs, 2}).is_forming);
    // Another node was served already: what is left over counts for nothing.
    const Start beside =
        expect_start(situation({place(0, next(form_of(2), {0})), place(1, again)}));
    EXPECT_THAT(beside.left_out.front().reason, HasSubstr("interrupted"));
}

TEST(Making, never_happens_beside_a_node_that_served) {
    const auto wait = expect_wait(forced(situation({place(0, next(form_of(2), {1})), blank(1)})),
                                  Kind::no_source);
    EXPECT_THAT(wait.reason, HasSubstr("R: host1:10809/disk): is blank"));
}

TEST(Making, leaves_what_another_head_holds) {
    Place held = blank(1);
    held.holder = Holder::connected;
    held.holder_id = kOther;
    const auto wait = expect_wait(situation({blank(0), held}), Kind::held);
    EXPECT_EQ(wait.reason,
              "R: host1:10809/disk is held by head 0000000000ddba11, which is connected: stop the "
              "storage there; 'dst storage start' with --force starts it all the same");
    EXPECT_TRUE(std::holds_alternative<Create>(decide(forced(situation({blank(0), held})))));
}

TEST(Making, leaves_what_looks_blank_and_was_never_given_back) {
    Place used = blank(1);
    used.holder = Holder::lapsed;
    used.holder_id = kOther;
    const auto wait = expect_wait(situation({blank(0), used}), Kind::held);
    EXPECT_THAT(wait.reason, HasSubstr("looks blank, but head 0000000000ddba11 has it reserved"));
    EXPECT_TRUE(std::holds_alternative<Create>(decide(forced(situation({blank(0), used})))));
}

// Without quorum.

TEST(Starting, happens_when_all_are_there_that_were_attached) {
    const Form form = form_of(2);
    const Start start = expect_start(situation({place(0, form), place(1, form)}));
    EXPECT_EQ(start.base, form);
    EXPECT_THAT(cookies(start.sources), ElementsAre(0xc0, 0xc1));
    EXPECT_THAT(start.joiners, IsEmpty());
    EXPECT_FALSE(start.votes_begin_anew);
}

TEST(Starting, takes_the_newest_age_wherever_it_is) {
    const Form old = form_of(2);
    const Form newer = next(old, {1});
    for (const auto& places : {std::vector{place(0, old), place(1, newer)},
                               std::vector{place(0, newer), place(1, newer)}}) {
        const Start start = expect_start(situation(places));
        EXPECT_EQ(start.base, newer);
        EXPECT_THAT(cookies(start.sources), ElementsAre(0xc1));
        EXPECT_THAT(start.joiners, ElementsAre(Joiner{{.place = 0, .cookie = 0xc0}, false}));
    }
}

TEST(Starting, waits_for_who_was_attached_and_says_what_would_change_it) {
    const Form form = form_of(2);
    const auto wait = expect_wait(situation({place(0, form), away(1)}), Kind::missing);
    EXPECT_EQ(wait.reason,
              "waits for node 00000000000000c1 (R: host1:10809/disk): connection refused, attached "
              "in the newest age; 'dst storage start' with --force starts it all the same");
}

TEST(Starting, by_force_overrides_what_the_reason_names_and_tells) {
    const Form form = form_of(3);
    const Start start = expect_start(forced(situation({place(0, form), away(1), away(2)})));
    EXPECT_THAT(cookies(start.sources), ElementsAre(0xc0));
    EXPECT_EQ(start.overridden.size(), 2U);
    EXPECT_FALSE(start.votes_begin_anew);
    // Nothing to override: it is as without.
    EXPECT_THAT(expect_start(forced(situation({place(0, form), place(1, form), place(2, form)})))
                    .overridden,
                IsEmpty());
}

TEST(Starting, never_goes_on_from_a_node_that_was_only_joining) {
    const Form form = next(form_of(2), {1});
    const auto wait = expect_wait(forced(situation({place(0, form), away(1)})), Kind::no_source);
    EXPECT_EQ(wait.reason,
              "waits for one of the nodes that are attached in the newest age: node "
              "00000000000000c1 (R: host1:10809/disk): connection refused");
}

TEST(Starting, prefers_a_source_that_was_not_restarted) {
    const Form form = form_of(3);
    Place restarted = place(0, form);
    restarted.instance = 0x999;
    Place unknown = place(1, form);
    unknown.instance = 0;
    EXPECT_THAT(cookies(expect_start(situation({restarted, unknown, place(2, form)})).sources),
                ElementsAre(0xc2, 0xc0, 0xc1));
}

TEST(Starting, prefers_a_source_that_holds_the_newest_age) {
    const Form old = form_of(2);
    const Form newer = next(old, {0, 1});
    EXPECT_THAT(cookies(expect_start(situation({place(0, old), place(1, newer)})).sources),
                ElementsAre(0xc1, 0xc0));
}

TEST(Starting, after_a_clean_stop_offers_all_that_were_attached) {
    Form form = next(form_of(2), {0, 1});
    form.stopped_cleanly = true;
    const Start start = expect_start(situation({place(0, form), place(1, form_of(2))}));
    EXPECT_THAT(cookies(start.sources), ElementsAre(0xc0, 0xc1));
    const Form first = first_form(start, std::vector<Cookie>{0xc0, 0xc1}, 0xf, {kUs, 2});
    EXPECT_FALSE(first.stopped_cleanly);
    EXPECT_TRUE(first.nodes[0].attached && first.nodes[1].attached);
    EXPECT_EQ(first.history.age, (Age{0xf, 1}));
    EXPECT_EQ(compare(first.history, form.history), Order::newer);
}

TEST(Starting, refuses_sides_that_went_on_apart_until_one_is_chosen) {
    const Form left = forked(form_of(2), 0xd, 0);
    const Form right = forked(form_of(2), 0xe, 1);
    const auto both = situation({place(0, left), place(1, right)});
    const auto refuse = expect_refuse(forced(both), Kind::diverged);
    EXPECT_EQ(
        refuse.reason,
        "the nodes have diverged (age 000000000000000d.1 on 00000000000000c0, age "
        "000000000000000e.1 on 00000000000000c1): say which side to keep: dst storage resolve "
        "vol0 --keep COOKIE (the others are overwritten)");
    const Start start = expect_start(keeping(both, 0xc1));
    EXPECT_EQ(start.base, right);
    EXPECT_THAT(start.joiners, ElementsAre(Joiner{{.place = 0, .cookie = 0xc0}, true}));
    EXPECT_TRUE(start.votes_begin_anew);
    expect_refuse(keeping(both, 0xc7), Kind::diverged);
}

TEST(Starting, gives_a_witness_up_that_went_with_the_other_side) {
    const Form both = form_of(2, Quorum::majority, 1);
    const Form left = forked(both, 0xd, 0);
    const Form right = forked(both, 0xe, 1);
    const auto seen = situation({place(0, left), away(1), place(2, right)});
    const Start start = expect_start(keeping(seen, 0xc0));
    EXPECT_THAT(cookies(start.sources), ElementsAre(0xc0));
    EXPECT_THAT(cookies(start.witnesses), ElementsAre(0xc2));
    EXPECT_THAT(start.given_up_witnesses, ElementsAre(0xc2));
    // One that knows no other way is none of those.
    const auto calm = situation({place(0, left), away(1), place(2, both)});
    EXPECT_TRUE(expect_start(calm).given_up_witnesses.empty());
}

TEST(Starting, prefers_a_source_whose_disk_has_not_failed) {
    auto seen = situation({place(0, form_of(2)), place(1, form_of(2))});
    EXPECT_THAT(cookies(expect_start(seen).sources), ElementsAre(0xc0, 0xc1));
    seen.places[0].is_broken = true;
    EXPECT_THAT(cookies(expect_start(seen).sources), ElementsAre(0xc1, 0xc0));
}

TEST(Starting, from_a_declared_copy_goes_on_from_what_the_head_left) {
    const Form old = form_of(2);
    const Form newer = next(old, {0});
    auto seen = situation({away(0), place(1, old)});
    seen.force = true;
    seen.clean = 0xc1;
    // Nobody who is there knows of the newer age.
    EXPECT_EQ(expect_start(seen).base, old);
    seen.left = newer;
    const Start start = expect_start(seen);
    EXPECT_EQ(start.base, newer);
    EXPECT_TRUE(start.is_declared);
    // So who holds that is not found to have gone another way.
    const Form first = first_form(start, std::vector<Cookie>{0xc1}, 0xd, start.base.head);
    EXPECT_EQ(admit(first, std::get<Superblock>(place(0, newer).seen)), Admission::joins);
    // An age of another way says nothing.
    seen.left = forked(next(old, {0}), 0xe, 0);
    seen.places[1] = place(1, forked(old, 0xf, 1));
    EXPECT_EQ(expect_start(seen).base, forked(old, 0xf, 1));
}

// Reservations.

TEST(Starting, leaves_nodes_of_a_head_that_may_live) {
    const Form form = form_of(2);
    for (const Holder holder : {Holder::nobody, Holder::us, Holder::lapsed})
        expect_start(situation({place(0, form), held(place(1, form), holder)}));
    for (const Holder holder : {Holder::gone, Holder::connected}) {
        const auto both = situation({place(0, form), held(place(1, form), holder)});
        expect_wait(both, Kind::held);
        EXPECT_EQ(expect_start(forced(both)).overridden.size(), 1U);
    }
    // A node that isn't needed is left out.
    const Form without = next(form, {0});
    const Start start =
        expect_start(situation({place(0, without), held(place(1, form), Holder::connected)}));
    EXPECT_THAT(start.left_out.front().reason, HasSubstr("is held by head"));
    EXPECT_THAT(start.joiners, IsEmpty());
}

TEST(Starting, leaves_plain_nodes_of_another_head_that_did_not_stop_cleanly) {
    Form form = form_of(2);
    form.head.id = kOther;
    Place plain = place(1, form);
    plain.can_reserve = false;
    const auto both = situation({place(0, form), plain});
    EXPECT_THAT(expect_wait(both, Kind::other_head).reason,
                HasSubstr("head 0000000000ddba11, which used it last, did not stop cleanly"));
    EXPECT_EQ(expect_start(forced(both)).overridden.size(), 1U);

    form.stopped_cleanly = true;
    plain = place(1, form);
    plain.can_reserve = false;
    expect_start(situation({place(0, form), plain}));
    form.stopped_cleanly = false;
    form.head.id = kUs;
    plain = place(1, form);
    plain.can_reserve = false;
    expect_start(situation({place(0, form), plain}));

    // It isn't needed: the others start without it.
    form = next(form, {0});
    form.head.id = kOther;
    plain = place(1, form);
    plain.can_reserve = false;
    const Start start = expect_start(situation({place(0, form), plain}));
    EXPECT_THAT(start.left_out.front().reason, HasSubstr("can't be reserved"));
}

// What else may be at a place.

TEST(Starting, leaves_out_what_is_none_of_its_nodes_and_says_why) {
    const Form form = next(form_of(4), {0});
    Form other = form;
    other.name = "vol1";
    Form removed = form_of(9);
    const Start start = expect_start(situation(
        {place(0, form), blank(1), unreadable(2, Unreadable::Kind::foreign), place(3, other),
         unreadable(4, Unreadable::Kind::damaged), place(8, removed), away(5, "no route")}));
    std::vector<std::string> reasons;
    reasons.reserve(start.left_out.size());
    for (const LeftOut& left_out : start.left_out) reasons.push_back(left_out.reason);
    EXPECT_THAT(
        reasons,
        ElementsAre(
            "R: host1:10809/disk: is blank", "R: host2:10809/disk: holds something else",
            "R: host3:10809/disk: belongs to the storage vol1 (" + to_string(form.storage_id) + ")",
            "R: host4:10809/disk: has damaged metadata: wrong checksum",
            "R: host5:10809/disk: no route",
            "R: host8:10809/disk: was removed from the storage: add it anew"));
}

TEST(Starting, is_refused_where_a_newer_program_was) {
    const Form form = next(form_of(2), {0});
    const auto refuse =
        expect_refuse(forced(situation({place(0, form), unreadable(1, Unreadable::Kind::newer)})),
                      Kind::newer_version);
    EXPECT_EQ(refuse.reason,
              "R: host1:10809/disk: has metadata of version 7, and this program knows version 1: "
              "start it with the newer program");
}

TEST(Starting, is_refused_where_one_node_is_seen_twice) {
    const Form form = form_of(2);
    Place copy = place(0, form);
    copy.name = "L: /backup/disk";
    expect_refuse(forced(situation({place(0, form), place(1, form), copy})), Kind::twice);
}

TEST(Starting, is_refused_between_two_storages_of_one_name_unless_one_is_known) {
    const Form form = form_of(1);
    Form other = form_of(2);
    other.storage_id = test::storage_id(9);
    auto both = situation({place(0, form), place(1, other)});
    expect_refuse(forced(both), Kind::two_storages);
    both.storage_id = form.storage_id;
    const Start start = expect_start(both);
    EXPECT_THAT(start.left_out.front().reason, HasSubstr("another storage of that name"));
}

}  // namespace
}  // namespace dst::metadata
