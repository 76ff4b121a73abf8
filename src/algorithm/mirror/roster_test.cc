// Nodes that are added to a mirror, removed from it and marked, and a mirror that grows: over nodes
// in memory.
#include "algorithm/mirror/test_support.h"

namespace dst::mirror {
namespace {

TEST_F(MirrorTest, a_node_that_is_added_gets_all_of_the_data_while_it_is_written) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        for (std::uint64_t at = 0; at < 8000; at += 400)
            EXPECT_TRUE((co_await t.write(at, 64, 1)).has_value());
        const auto added = co_await t.add(3);
        EXPECT_TRUE(added.has_value()) << added.error().text;
        EXPECT_EQ(t.mirror->form().nodes.size(), 3u);
        EXPECT_EQ(t.mirror->form().quorum, metadata::Quorum::majority);
        EXPECT_EQ(t.mirror->form().votes_since, t.mirror->form().history.age);
        for (std::uint64_t at = 0; at < 8000; at += 160)
            EXPECT_TRUE((co_await t.write(at, 8, 2)).has_value());
        co_await t.until_state(2, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[2]));
        // It is as good as the others.
        t.connect(0, false);
        EXPECT_TRUE((co_await t.write(0, 8, 3)).has_value());
        EXPECT_EQ(co_await t.read(0), 3);
    });
}

// An age that names a node which holds none would be one that nobody can start from when only that
// node is left; and one that is in the table and blank is taken in after a crash all the same.
TEST_F(MirrorTest, a_node_that_is_added_holds_an_age_before_one_attaches_it) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 64, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        const auto added = co_await t.add(3, MirrorTest::kNodeSize, true);
        EXPECT_TRUE(added.has_value()) << added.error().text;
        co_await t.until_state(2, NodeState::completing);
        co_await io::sleep_for(t.world.clock, 300ms);
        EXPECT_EQ(to_string(t.state_of(2)), to_string(NodeState::completing));
        t.release(2);
        co_await t.until_state(2, NodeState::attached);
    });
}

// The head before had let it grow, and this one's connection is from before that.
TEST_F(MirrorTest, a_node_that_has_grown_unseen_is_taken_in) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3);
        const metadata::Form form = t.mirror->form();
        co_await t.end();
        for (const std::size_t at : {1U, 2U}) t.nodes[at]->end = SectorCount(8192);
        t.nodes[1]->grown_to = t.kNodeSize;
        t.make(form);
        const auto assembled = co_await t.mirror->assemble(
            {.first = t.next_form(form, 77, 1), .source = 1, .others = {2, 3}});
        EXPECT_TRUE(assembled.has_value());
        co_await t.until_state(1, NodeState::attached);
        EXPECT_EQ(t.mirror->nodes()[2].reason,
                  "it has 8192 sectors and had 16384: restore the disk that was there");
    });
}

TEST_F(MirrorTest, a_node_that_was_added_and_is_blank_joins_after_a_crash) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 64, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        const auto added = co_await t.add(3, MirrorTest::kNodeSize, true);
        EXPECT_TRUE(added.has_value()) << added.error().text;
        const metadata::Form form = t.mirror->form();
        co_await t.end();
        t.nodes[2] = std::make_unique<FakeNode>(3, MirrorTest::kNodeSize);  // nothing got there
        t.make(form);
        // As the bits were when it was put into the table: it is stale everywhere.
        const auto assembled = co_await t.mirror->assemble(
            {.first = t.next_form(form, 77, 1), .source = 1, .others = {2}});
        EXPECT_TRUE(assembled.has_value()) << assembled.error().text;
        co_await t.until_state(2, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[2]));
    });
}

TEST_F(MirrorTest, a_node_that_is_too_small_is_not_added) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        const metadata::Form before = t.mirror->form();
        const auto refused = co_await t.add(3, SectorCount(8192));
        EXPECT_FALSE(refused.has_value());
        EXPECT_EQ(refused.error().code, ErrorCode::no_space);
        EXPECT_EQ(t.mirror->form(), before);
        EXPECT_TRUE((co_await t.write(0, 8, 3)).has_value());
    });
}

TEST_F(MirrorTest, nodes_are_removed_but_not_the_last_one_that_has_the_data) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.mirror->roster().remove(1, {}, t.soon())).has_value());
        EXPECT_EQ(t.mirror->form().nodes.size(), 2u);
        EXPECT_EQ(t.mirror->form().quorum, metadata::Quorum::none);
        t.connect(2, false);
        EXPECT_TRUE((co_await t.write(0, 8, 2)).has_value());  // and leaves the third one behind
        const auto refused = co_await t.mirror->roster().remove(2, {}, t.soon());
        EXPECT_FALSE(refused.has_value());
        EXPECT_EQ(refused.error().code, ErrorCode::not_permitted);
        EXPECT_TRUE((co_await t.mirror->roster().remove(3, {}, t.soon())).has_value());
        EXPECT_EQ(t.mirror->form().nodes.size(), 1u);
        EXPECT_EQ(co_await t.read(0), 2);
        while (!t.mirror->roster().is_gone(1)) co_await t.changes.wait();
        EXPECT_TRUE((co_await t.write(8, 8, 4)).has_value());
    });
}

TEST_F(MirrorTest, a_slot_is_all_stale_when_it_is_used_again) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 128, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        EXPECT_TRUE((co_await t.mirror->roster().remove(2, {}, t.soon())).has_value());
        EXPECT_TRUE((co_await t.write(0, 8, 2)).has_value());
        EXPECT_TRUE((co_await t.add(3)).has_value());
        EXPECT_EQ(t.mirror->form().find(3)->slot, 1);
        co_await t.until_state_of(3, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[2]));
    });
}

TEST_F(MirrorTest, a_node_that_is_marked_dirty_is_copied_to_anew) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        for (std::uint64_t at = 0; at < 4096; at += 512)
            EXPECT_TRUE((co_await t.write(at, 512, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        t.spoil(1, 100);
        EXPECT_NE(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        const auto marked = co_await t.mirror->roster().distrust(2, t.soon());
        EXPECT_TRUE(marked.has_value()) << marked.error().text;
        EXPECT_NE(to_string(t.state_of(1)), to_string(NodeState::attached));
        co_await t.until_state(1, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        t.connect(1, false);
        EXPECT_TRUE((co_await t.write(0, 8, 2)).has_value());
        const auto refused = co_await t.mirror->roster().distrust(1, t.soon());
        EXPECT_FALSE(refused.has_value());
        EXPECT_EQ(co_await t.read(0), 2);
    });
}

TEST_F(MirrorTest, it_grows_when_all_nodes_have) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        const std::uint64_t before = t.mirror->geometry().size.value();
        EXPECT_NE(before % 128, 0u);  // its last region is a part of one
        EXPECT_TRUE((co_await t.write(before - 8, 8, 0x33)).has_value());
        t.nodes[0]->end = SectorCount(24576);
        const auto too_soon = co_await t.mirror->growing().grow(t.soon());
        EXPECT_FALSE(too_soon.has_value());
        EXPECT_TRUE(too_soon.error().text.starts_with("L: node1 has")) << too_soon.error().text;
        t.nodes[1]->end = SectorCount(24584);
        const auto grown = co_await t.mirror->growing().grow(t.soon());
        EXPECT_TRUE(grown.has_value()) << grown.error().text;
        const std::uint64_t after = t.mirror->geometry().size.value();
        EXPECT_EQ(after, before + 8192);
        EXPECT_EQ(t.mirror->form().shape.data_size.value(), after);
        EXPECT_EQ(t.mirror->form().nodes[1].size, SectorCount(24584));
        EXPECT_EQ(t.mirror->form().zero_from.value(), 0u);
        EXPECT_EQ(co_await t.read(before - 1), 0x33);
        // Where the metadata was, and what is new.
        for (const std::uint64_t at : {before, before + 8, std::uint64_t{16383}, after - 1})
            EXPECT_EQ(co_await t.read(at), 0);
        EXPECT_TRUE((co_await t.write(after - 8, 8, 0x44)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());

        // It is taken over as it is now.
        const metadata::Form form = t.mirror->form();
        co_await t.end();
        t.make(form);
        const auto assembled = co_await t.mirror->assemble(
            {.first = t.next_form(form, 77, 2), .source = 2, .others = {1}});
        EXPECT_TRUE(assembled.has_value()) << assembled.error().text;
        EXPECT_EQ(co_await t.read(before - 1), 0x33);
        EXPECT_EQ(co_await t.read(after - 1), 0x44);
        co_await t.until_state(0, NodeState::attached);
    });
}

// A head that died when the age of the new size was in force had not made zero what follows the
// data of before.
TEST_F(MirrorTest, what_a_head_that_grew_it_has_left_is_made_zero_by_the_next_one) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        const std::uint64_t before = t.mirror->geometry().size.value();
        EXPECT_TRUE((co_await t.write(before - 8, 8, 0x33)).has_value());
        for (const auto& node : t.nodes) node->end = SectorCount(24576);
        EXPECT_TRUE((co_await t.mirror->growing().grow(t.soon())).has_value());
        metadata::Form form = t.mirror->form();
        co_await t.end();
        t.spoil(0, before + 3);
        t.spoil(1, before + 5);
        form.zero_from = SectorIndex(before);
        t.make(form);
        const auto assembled = co_await t.mirror->assemble(
            {.first = t.next_form(form, 77, 1), .source = 1, .others = {2}});
        EXPECT_TRUE(assembled.has_value()) << assembled.error().text;
        EXPECT_EQ(t.mirror->form().zero_from.value(), 0u);
        co_await t.until_state(1, NodeState::attached);
        EXPECT_EQ(co_await t.read(before - 1), 0x33);
        for (const std::uint64_t at : {before + 3, before + 5}) EXPECT_EQ(co_await t.read(at), 0);
        // All of the region; what follows was never written.
        auto first = t.content(*t.nodes[0], before / 128 * 128);
        auto second = t.content(*t.nodes[1], before / 128 * 128);
        first.resize(128 * kSectorBytes);
        second.resize(128 * kSectorBytes);
        EXPECT_EQ(first, second);
    });
}

TEST_F(MirrorTest, it_grows_when_the_bitmaps_of_the_new_size_are_there) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        const SectorCount before = t.mirror->geometry().size;
        for (const auto& node : t.nodes) node->end = SectorCount(24576);
        t.nodes[1]->holds_bits_back = true;
        async::Scope scope;
        Outcome<> grown;
        scope.spawn(t.grow(grown));
        co_await t.until_held_back(1);
        // Long enough for all that does not wait for it.
        co_await io::sleep_for(t.world.clock, 100ms);
        EXPECT_EQ(t.mirror->form().shape.data_size, before);
        EXPECT_EQ(t.mirror->newest_form().shape.data_size, before);
        t.release(1);
        co_await scope.join();
        EXPECT_TRUE(grown.has_value()) << grown.error().text;
        EXPECT_GT(t.mirror->geometry().size, before);
    });
}

TEST_F(MirrorTest, it_does_not_grow_while_what_could_not_be_read_is_written_again) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 0x11)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        for (const auto& node : t.nodes) {
            node->end = SectorCount(24576);
            node->holds_data_back = true;
        }
        // Whichever is read from.
        t.nodes[0]->bad_sector = SectorIndex(0);
        while (t.mirror->nodes()[0].read_errors == 0) EXPECT_EQ(co_await t.read(0), 0x11);
        co_await t.until_held_back(0);
        async::Scope scope;
        Outcome<> grown = refuse("not yet");
        scope.spawn(t.grow(grown));
        // Long enough for all that does not wait for it.
        co_await io::sleep_for(t.world.clock, 100ms);
        EXPECT_EQ(t.nodes[0]->held_back, 1u);
        EXPECT_FALSE(grown.has_value());
        t.nodes[0]->bad_sector.reset();
        t.release(0);
        t.release(1);
        co_await scope.join();
        EXPECT_TRUE(grown.has_value()) << grown.error().text;
        EXPECT_EQ(t.mirror->nodes()[0].rewritten, 1u);
    });
}

TEST_F(MirrorTest, growing_is_given_up_as_long_as_no_age_says_so) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3);
        const SectorCount before = t.mirror->geometry().size;
        const auto age = t.mirror->form().history.age;
        EXPECT_TRUE((co_await t.write(0, 8, 0x11)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        for (const auto& node : t.nodes) node->end = SectorCount(24576);
        t.nodes[1]->holds_superblocks_back = true;
        async::Scope scope;
        Outcome<> grown;
        scope.spawn(t.grow(grown));
        co_await t.until_held_back(1);
        EXPECT_EQ(t.mirror->form().history.age, age);
        t.connect(1, false);
        co_await scope.join();
        EXPECT_FALSE(grown.has_value());
        EXPECT_TRUE(grown.error().text.starts_with("L: node1 is away")) << grown.error().text;
        EXPECT_EQ(t.mirror->geometry().size, before);
        co_await t.until_state(1, NodeState::away);
        EXPECT_TRUE((co_await t.write(0, 8, 0x22)).has_value());
        t.nodes[1]->holds_superblocks_back = false;
        t.connect(1, true);
        co_await t.until_state(1, NodeState::attached);
        const auto again = co_await t.mirror->growing().grow(t.soon());
        EXPECT_TRUE(again.has_value()) << again.error().text;
        EXPECT_EQ(co_await t.read(0), 0x22);
    });
}

TEST_F(MirrorTest, growing_is_given_up_although_a_node_does_not_answer) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        for (const auto& node : t.nodes) node->end = SectorCount(24576);
        t.nodes[1]->holds_bits_back = true;
        async::Scope scope;
        Outcome<> grown;
        scope.spawn(t.grow(grown));
        co_await t.until_held_back(1);
        t.mirror->growing().give_up();
        co_await scope.join();
        EXPECT_FALSE(grown.has_value());
        EXPECT_NE(t.nodes[1]->held_back, 0u);
        // What is under way may be written at any moment, and must not meet what comes after it.
        const auto too_soon = co_await t.mirror->growing().grow(t.soon());
        EXPECT_FALSE(too_soon.has_value());
        EXPECT_NE(too_soon.error().text.find("still under way"), std::string::npos)
            << too_soon.error().text;
        t.release(1);
        Outcome<> again = refuse("not tried");
        const auto deadline = t.soon();
        while (!again && t.world.clock.now() < deadline) {
            co_await io::sleep_for(t.world.clock, 10ms);
            again = co_await t.mirror->growing().grow(deadline);
        }
        EXPECT_TRUE(again.has_value()) << again.error().text;
    });
}

TEST_F(MirrorTest, a_node_that_takes_no_age_is_not_added_and_leaves_all_as_it_was) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        t.connect(1, false);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        co_await t.until_state(1, NodeState::away);
        // With three votes it takes two of them, and one of the new ones has none.
        EXPECT_FALSE((co_await t.add(3, kNodeSize, true)).has_value());
        const auto removed = co_await t.mirror->roster().remove(2, {}, t.soon());
        EXPECT_TRUE(removed.has_value()) << removed.error().text;
        EXPECT_EQ(t.mirror->form().nodes.size(), 1u);
        EXPECT_TRUE((co_await t.write(0, 8, 2)).has_value());
        t.nodes.back()->holds_superblocks_back = false;
        t.nodes.back()->link.wake_all();
    });
}

}  // namespace
}  // namespace dst::mirror
