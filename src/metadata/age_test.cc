#include "metadata/age.h"

#include <gtest/gtest.h>

#include <random>

namespace dst::metadata {
namespace {

Age age(std::uint64_t id, std::uint64_t generation) { return {.id = id, .generation = generation}; }

History grown(History history, int generations) {
    for (int i = 0; i < generations; ++i) history = next_generation(std::move(history));
    return history;
}

TEST(Age, a_later_generation_of_one_assembling_is_newer) {
    const History first = first_history(5);
    const History later = grown(first, 3);
    EXPECT_EQ(later.age, age(5, 4));
    EXPECT_EQ(compare(first, first), Order::equal);
    EXPECT_EQ(compare(later, first), Order::newer);
    EXPECT_EQ(compare(first, later), Order::older);
}

TEST(Age, an_assembling_is_newer_than_what_it_began_with_whatever_the_numbers_say) {
    const History base = grown(first_history(0xffff), 99);
    const History forked = fork(base, 1);
    EXPECT_EQ(forked.age, age(1, 1));
    EXPECT_EQ(compare(forked, base), Order::newer);
    EXPECT_EQ(compare(base, forked), Order::older);
    EXPECT_TRUE(passes_through(forked, age(0xffff, 100)));
    EXPECT_FALSE(passes_through(forked, age(0xffff, 101)));
}

TEST(Age, what_the_other_head_went_on_with_has_diverged) {
    const History base = grown(first_history(5), 2);
    EXPECT_EQ(compare(fork(base, 8), next_generation(base)), Order::diverged);
    EXPECT_EQ(compare(fork(base, 8), fork(base, 9)), Order::diverged);
    EXPECT_EQ(compare(first_history(1), first_history(2)), Order::diverged);
}

TEST(Age, histories_that_contradict_each_other_have_diverged) {
    const History a{.age = age(1, 5), .path = {age(2, 9)}};
    const History b{.age = age(2, 3), .path = {age(1, 9)}};
    EXPECT_EQ(compare(a, b), Order::diverged);
    EXPECT_EQ(compare(b, a), Order::diverged);
}

TEST(Age, a_path_that_is_full_forgets_its_oldest_entry_and_says_so) {
    History history = first_history(1);
    for (std::uint64_t id = 2; id <= kPathMax + 1; ++id) history = fork(history, id);
    EXPECT_EQ(history.path.size(), kPathMax);
    EXPECT_FALSE(history.is_cut_short);
    EXPECT_TRUE(passes_through(history, age(1, 1)));

    const History longer = fork(history, kPathMax + 2);
    EXPECT_EQ(longer.path.size(), kPathMax);
    EXPECT_TRUE(longer.is_cut_short);
    EXPECT_TRUE(is_valid(longer));
    // Older than what is remembered: never taken for older, so never overwritten.
    EXPECT_EQ(compare(longer, first_history(1)), Order::diverged);
    EXPECT_EQ(compare(longer, history), Order::newer);
    EXPECT_TRUE(fork(longer, kPathMax + 3).is_cut_short);
}

TEST(Age, what_no_node_holds_any_more_is_forgotten) {
    const History first = grown(first_history(1), 4);
    const History second = grown(fork(first, 2), 4);
    const History third = grown(fork(second, 3), 4);

    const Age all_there[] = {third.age, third.age};
    EXPECT_TRUE(forget_before(third, all_there).path.empty());
    const Age one_behind[] = {third.age, age(2, 2), third.age};
    EXPECT_EQ(forget_before(third, one_behind).path, std::vector{age(2, 5)});
    const Age far_behind[] = {third.age, age(2, 2), age(1, 5)};
    EXPECT_EQ(forget_before(third, far_behind), third);
    const Age diverged[] = {third.age, age(1, 6)};
    EXPECT_EQ(forget_before(third, diverged), third);
}

TEST(Age, forgetting_makes_a_path_whole_again) {
    History history = first_history(1);
    for (std::uint64_t id = 2; id <= kPathMax + 2; ++id) history = fork(history, id);
    ASSERT_TRUE(history.is_cut_short);
    const Age held[] = {history.age, age(kPathMax, 1)};
    history = forget_before(history, held);
    EXPECT_EQ(history.path.size(), 2U);
    EXPECT_FALSE(history.is_cut_short);
    const Age lost[] = {history.age, age(1, 1)};
    history.is_cut_short = true;
    EXPECT_TRUE(forget_before(history, lost).is_cut_short);
}

TEST(Age, where_two_histories_parted_is_known_as_long_as_they_remember_a_common_age) {
    const History base = grown(first_history(1), 4);
    const History left = grown(fork(base, 2), 3);
    const History right = grown(base, 3);
    const History far_left = fork(left, 3);
    EXPECT_EQ(first_apart(left, right), age(1, 6));
    EXPECT_EQ(first_apart(right, left), age(2, 1));
    EXPECT_EQ(first_apart(right, far_left), age(2, 1));
    EXPECT_EQ(first_apart(far_left, left), std::nullopt);
    EXPECT_EQ(first_apart(left, far_left), age(3, 1));
    EXPECT_EQ(first_apart(left, first_history(9)), std::nullopt);
    // What was forgotten before the common age does not matter.
    History cut = far_left;
    cut.path.erase(cut.path.begin());
    EXPECT_EQ(first_apart(cut, fork(left, 4)), age(4, 1));
}

TEST(Age, a_history_that_cannot_be_is_not_valid) {
    EXPECT_TRUE(is_valid(fork(first_history(1), 2)));
    EXPECT_FALSE(is_valid(History{.age = age(0, 1)}));
    EXPECT_FALSE(is_valid(History{.age = age(1, 0)}));
    EXPECT_FALSE(is_valid(History{.age = age(1, kGenerationMax + 1)}));
    EXPECT_FALSE(is_valid(History{.age = age(1, 1), .path = {age(1, 1)}}));
    EXPECT_FALSE(is_valid(History{.age = age(1, 1), .path = {age(2, 1), age(2, 3)}}));
    EXPECT_FALSE(is_valid(History{.age = age(1, 1), .path = {age(2, 0)}}));
}

// The relation of histories is that of the tree they were made from.
TEST(Age, in_any_tree_of_ages_the_newer_is_the_descendant) {
    for (unsigned seed = 0; seed < 200; ++seed) {
        std::mt19937 random(seed);
        struct Node {
            History history;
            std::vector<bool> ancestors;  // itself included
            bool has_next = false;
        };
        constexpr std::size_t kAges = 24;
        std::vector<Node> tree{{first_history(1), {}, false}};
        tree[0].ancestors.resize(kAges);
        tree[0].ancestors[0] = true;
        while (tree.size() < kAges) {
            Node& parent = tree[random() % tree.size()];
            Node child{parent.history, parent.ancestors, false};
            child.ancestors[tree.size()] = true;
            if (parent.has_next || random() % 3 == 0) {
                child.history = fork(parent.history, tree.size() + 100);
            } else {
                child.history = next_generation(parent.history);
                parent.has_next = true;
            }
            tree.push_back(child);
        }
        for (std::size_t a = 0; a < kAges; ++a) {
            for (std::size_t b = 0; b < kAges; ++b) {
                const bool newer = tree[a].ancestors[b];
                const bool older = tree[b].ancestors[a];
                const Order order = newer && older ? Order::equal
                                    : newer        ? Order::newer
                                    : older        ? Order::older
                                                   : Order::diverged;
                ASSERT_EQ(compare(tree[a].history, tree[b].history), order) << seed;
                ASSERT_EQ(passes_through(tree[a].history, tree[b].history.age), newer) << seed;
                // first_apart is the oldest ancestor of b that is none of a.
                std::optional<Age> apart;
                for (std::size_t c = kAges; c-- > 0;)
                    if (tree[b].ancestors[c] && !tree[a].ancestors[c]) apart = tree[c].history.age;
                ASSERT_EQ(first_apart(tree[a].history, tree[b].history), apart) << seed;
            }
        }
    }
}

}  // namespace
}  // namespace dst::metadata
