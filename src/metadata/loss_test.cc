#include "metadata/loss.h"

#include <gtest/gtest.h>

#include "metadata/assembly_test.h"

namespace dst::metadata {
namespace {

using test::form_of;
using test::next;

std::vector<NodeNow> all_there(const Form& form) {
    std::vector<NodeNow> nodes;
    for (const NodeRecord& record : form.nodes)
        nodes.push_back({.cookie = record.cookie, .is_there = true, .name = record.type});
    return nodes;
}

Outlook without(const Form& form, std::initializer_list<unsigned> lost, bool is_head_lost = false,
                std::initializer_list<unsigned> away = {}) {
    std::vector<NodeNow> nodes = all_there(form);
    for (const unsigned i : away) nodes[i].is_there = false;
    std::vector<Cookie> cookies;
    for (const unsigned i : lost) cookies.push_back(0xc0 + i);
    const Form* const forms[] = {&form};
    return outlook_after(forms, nodes, cookies, is_head_lost);
}

TEST(Loss, two_nodes_without_votes_go_on_with_one_and_start_with_it) {
    const Form form = form_of(2);
    const Outlook outlook = without(form, {1});
    EXPECT_TRUE(outlook.standing.goes_on());
    EXPECT_TRUE(outlook.detaches);
    EXPECT_EQ(reason_of(outlook.restart), "");
}

TEST(Loss, the_last_attached_node_is_never_detached) {
    const Form form = next(form_of(2), {0});
    const Outlook outlook = without(form, {0});
    EXPECT_FALSE(outlook.standing.goes_on());
    EXPECT_TRUE(outlook.standing.has_votes());
    EXPECT_NE(reason_of(outlook.restart), "");
    EXPECT_EQ(reason_of(outlook.restart_after), "");
    // The other one lacks changes: its loss stops nobody, and no age is needed for it.
    EXPECT_TRUE(without(form, {1}).standing.goes_on());
    EXPECT_FALSE(without(form, {1}).detaches);
}

TEST(Loss, under_a_majority_two_of_three_go_on_and_one_does_not) {
    const Form form = form_of(3, Quorum::majority);
    for (const unsigned lost : {0U, 1U, 2U}) {
        EXPECT_TRUE(without(form, {lost}).standing.goes_on());
        EXPECT_EQ(reason_of(without(form, {lost}).restart), "");
        EXPECT_FALSE(without(form, {lost, (lost + 1) % 3}).standing.goes_on());
        EXPECT_NE(reason_of(without(form, {lost, (lost + 1) % 3}).restart), "");
    }
}

TEST(Loss, a_witness_is_a_vote_and_no_copy) {
    const Form form = form_of(2, Quorum::majority, 1);
    EXPECT_TRUE(without(form, {2}).standing.goes_on());
    EXPECT_FALSE(without(form, {2}).detaches);
    EXPECT_TRUE(without(form, {0}).standing.goes_on());
    EXPECT_FALSE(without(form, {0, 1}).standing.goes_on());  // one vote, no copy
    EXPECT_FALSE(without(form, {0, 2}).standing.goes_on());  // one copy, one vote
}

TEST(Loss, what_is_away_already_counts_for_nothing) {
    const Form form = form_of(3, Quorum::majority);
    const Outlook outlook = without(form, {0}, false, {1});
    EXPECT_FALSE(outlook.standing.goes_on());
    EXPECT_EQ(outlook.standing.votes, 1U);
    EXPECT_EQ(outlook.standing.majority, 2U);
    EXPECT_EQ(reason_of(outlook.restart_after), "");
    // Without a majority who is attached must be there for a start, whoever it was that left.
    EXPECT_NE(reason_of(without(form_of(3), {}, true, {1}).restart_after), "");
}

TEST(Loss, with_the_head_goes_everything_but_another_one_may_take_over) {
    // No age follows, so who is attached stays so.
    const Outlook majority = without(form_of(3, Quorum::majority), {0}, true);
    EXPECT_EQ(reason_of(majority.restart), "");
    const Outlook none = without(form_of(2), {0}, true);
    EXPECT_NE(reason_of(none.restart), "");
    EXPECT_EQ(reason_of(none.restart_after), "");
}

TEST(Loss, plain_nodes_are_not_taken_over_by_another_head) {
    const Form form = form_of(2);
    std::vector<NodeNow> nodes = all_there(form);
    nodes[1].can_reserve = false;
    const Form* const forms[] = {&form};
    EXPECT_NE(reason_of(outlook_after(forms, nodes, {}, true).restart), "");
    EXPECT_EQ(reason_of(outlook_after(forms, nodes, {}, true).restart_after), "");
}

TEST(Loss, an_age_that_was_sent_binds_too) {
    const Form form = form_of(3);
    const Form sent = next(form, {1});
    const Form* const forms[] = {&form, &sent};
    const auto nodes = all_there(form);
    const Cookie first[] = {0xc0};
    const Cookie second[] = {0xc1};
    EXPECT_TRUE(outlook_after(forms, nodes, first, false).standing.goes_on());
    EXPECT_FALSE(outlook_after(forms, nodes, second, false).standing.goes_on());
}

/// Every loss of up to five nodes with and without votes: what goes on is what a head would start
/// from, and what waits for nodes starts when they are back.
TEST(Loss, what_goes_on_can_start_again_with_what_is_left) {
    for (const Quorum quorum : {Quorum::none, Quorum::majority}) {
        for (unsigned nodes = 1; nodes <= 4; ++nodes) {
            for (unsigned witnesses = 0; witnesses <= 1; ++witnesses) {
                const Form form = form_of(nodes, quorum, witnesses);
                for (unsigned mask = 0; mask < 1U << (nodes + witnesses); ++mask) {
                    std::vector<Cookie> lost;
                    for (unsigned i = 0; i < nodes + witnesses; ++i)
                        if ((mask >> i & 1U) != 0) lost.push_back(0xc0 + i);
                    const Form* const forms[] = {&form};
                    const Outlook outlook = outlook_after(forms, all_there(form), lost, false);
                    EXPECT_EQ(outlook.standing.goes_on(), reason_of(outlook.restart).empty())
                        << nodes << " " << witnesses << " " << mask << " "
                        << reason_of(outlook.restart);
                    EXPECT_EQ(reason_of(outlook.restart_after), "");
                }
            }
        }
    }
}

}  // namespace
}  // namespace dst::metadata
