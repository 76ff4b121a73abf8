#include "metadata/form.h"

#include <gtest/gtest.h>

#include <functional>

#include "metadata/test_support.h"

namespace dst::metadata {
namespace {

TEST(Form, that_keeps_every_rule_breaks_none) {
    EXPECT_EQ(broken_rule(test::two_nodes_and_witness()), nullptr);
    EXPECT_EQ(broken_rule(test::full_form()), nullptr);
    Form first = test::two_nodes_and_witness();
    first.history = first_history(0xa);
    first.votes_since = first.history.age;
    first.is_forming = true;
    EXPECT_EQ(broken_rule(first), nullptr);
}

TEST(Form, that_breaks_a_rule_says_which) {
    struct Case {
        const char* rule;
        std::function<void(Form&)> spoil;
    };
    const Case cases[] = {
        {"no storage id", [](Form& form) { form.storage_id = {}; }},
        {"name of the storage", [](Form& form) { form.name = ""; }},
        {"name of the storage", [](Form& form) { form.name = ".hidden"; }},
        {"name of the storage", [](Form& form) { form.name = "a/b"; }},
        {"name of the storage", [](Form& form) { form.name = std::string(65, 'x'); }},
        {"name of the algorithm", [](Form& form) { form.algorithm = "mir ror"; }},
        {"settings of the algorithm", [](Form& form) { form.settings = "chunk\x1b[2J"; }},
        {"settings of the algorithm", [](Form& form) { form.settings = std::string(513, 'x'); }},
        {"history", [](Form& form) { form.history.age.id = 0; }},
        {"history", [](Form& form) { form.history.path.push_back(form.history.age); }},
        {"history", [](Form& form) { form.history.path.resize(kPathMax + 1, {9, 9}); }},
        {"age of the last change of votes", [](Form& form) { form.votes_since = {}; }},
        {"age of the last change of votes", [](Form& form) { form.votes_since = {0xa, 8}; }},
        {"age of the last change of votes", [](Form& form) { form.votes_since = {0xb, 4}; }},
        {"quorum policy", [](Form& form) { form.quorum = Quorum{2}; }},
        {"size of its blocks", [](Form& form) { form.block_bytes = 0; }},
        {"size of its blocks", [](Form& form) { form.block_bytes = 3 * 512; }},
        {"size of its blocks", [](Form& form) { form.block_bytes = 8192; }},
        {"takeover", [](Form& form) { form.takeover = std::chrono::milliseconds(0); }},
        {"size of data, regions or number of slots",
         [](Form& form) { form.shape.region_shift = 60; }},
        {"size of data, regions or number of slots", [](Form& form) { form.shape.slots = 0; }},
        {"where the data ended before",
         [](Form& form) { form.zero_from = SectorIndex(form.shape.data_size.value()); }},
        {"where the data ended before", [](Form& form) { form.zero_from = SectorIndex(9); }},
        {"a node without a cookie", [](Form& form) { form.nodes[0].cookie = 0; }},
        {"a cookie used twice", [](Form& form) { form.nodes[2].cookie = form.nodes[0].cookie; }},
        {"slot of a node", [](Form& form) { form.nodes[0].slot = 8; }},
        {"slot of a node", [](Form& form) { form.nodes[0].slot = NodeRecord::kNoSlot; }},
        {"a slot used twice", [](Form& form) { form.nodes[0].slot = 1; }},
        {"size of a node", [](Form& form) { form.nodes[0].size += SectorCount(1); }},
        {"size of a node", [](Form& form) { form.nodes[0].size = SectorCount(UINT64_MAX - 7); }},
        {"a node too small for its data",
         [](Form& form) { form.nodes[0].size = form.shape.data_size; }},
        {"type of a node", [](Form& form) { form.nodes[0].type = std::string(61, 'x'); }},
        {"type of a node", [](Form& form) { form.nodes[0].type = "L: \n"; }},
        {"a witness that holds data", [](Form& form) { form.nodes[2].attached = true; }},
        {"a witness that holds data", [](Form& form) { form.nodes[2].slot = 2; }},
        {"a witness without a vote", [](Form& form) { form.nodes[2].has_vote = false; }},
        {"size of a witness", [](Form& form) { form.nodes[2].size = SectorCount(120); }},
        {"too many witnesses",
         [](Form& form) {
             for (Cookie cookie = 1; cookie <= Form::kWitnessesMax; ++cookie) {
                 form.nodes.push_back(form.nodes[2]);
                 form.nodes.back().cookie = cookie;
             }
         }},
        {"no node is attached",
         [](Form& form) { form.nodes[0].attached = form.nodes[1].attached = false; }},
        {"no node is attached", [](Form& form) { form.nodes.clear(); }},
        {"a majority without votes",
         [](Form& form) {
             form.nodes.pop_back();
             form.nodes[0].has_vote = form.nodes[1].has_vote = false;
         }},
        {"no head", [](Form& form) { form.head.id = 0; }},
        {"no head", [](Form& form) { form.head.incarnation = 0; }},
        {"forming in a later age", [](Form& form) { form.is_forming = true; }},
    };
    for (const Case& each : cases) {
        Form form = test::two_nodes_and_witness();
        each.spoil(form);
        EXPECT_STREQ(broken_rule(form), each.rule);
    }
}

TEST(Form, a_superblock_is_of_a_node_in_its_table) {
    Superblock superblock{test::two_nodes_and_witness(), 0xc1, 1};
    EXPECT_EQ(broken_rule(superblock), nullptr);
    EXPECT_EQ(superblock.self().slot, 1);
    superblock.cookie = 0xc9;
    EXPECT_STREQ(broken_rule(superblock), "a node that its table lacks");
    superblock.cookie = 0xc2;
    EXPECT_EQ(broken_rule(superblock), nullptr);
    superblock.sequence = 0;
    EXPECT_STREQ(broken_rule(superblock), "sequence");
    superblock.sequence = kSequenceMax + 1;
    EXPECT_STREQ(broken_rule(superblock), "sequence");
}

TEST(Form, where_the_votes_changed_may_be_forgotten) {
    Form form = test::two_nodes_and_witness();
    form.votes_since = {.id = 0x77, .generation = 1};
    EXPECT_EQ(broken_rule(form), nullptr);
}

TEST(Form, a_majority_is_more_than_half_of_the_votes) {
    Form form = test::two_nodes_and_witness();
    EXPECT_EQ(form.votes(), 3U);
    EXPECT_EQ(form.majority(), 2U);
    form.nodes[0].has_vote = false;
    EXPECT_EQ(form.majority(), 2U);
    form.nodes[1].has_vote = false;
    EXPECT_EQ(form.majority(), 1U);
}

TEST(Form, a_type_is_cut_between_characters) {
    EXPECT_EQ(cut_type("L: /dev/sdc"), "L: /dev/sdc");
    EXPECT_EQ(cut_type("L: a\x1b[2J\n"), "L: a [2J ");
    EXPECT_EQ(cut_type(std::string(70, 'x')), std::string(60, 'x'));
    EXPECT_EQ(cut_type(std::string(58, 'x') + "\xe2\x82\xac" + "y"), std::string(58, 'x'));
    EXPECT_EQ(cut_type(std::string(57, 'x') + "\xe2\x82\xac" + "y"),
              std::string(57, 'x') + "\xe2\x82\xac");
    EXPECT_EQ(cut_type(std::string(70, '\x80')), "");
}

}  // namespace
}  // namespace dst::metadata
