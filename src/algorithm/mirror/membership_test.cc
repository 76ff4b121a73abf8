// Ages, votes and superblocks of a mirror over nodes in memory.
#include "algorithm/mirror/test_support.h"

namespace dst::mirror {
namespace {

TEST_F(MirrorTest, a_silent_node_is_left_out_and_gets_what_it_lacks_when_it_is_back) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        t.connect(1, false);
        const auto begun = t.world.clock.now();
        EXPECT_TRUE((co_await t.write(0, 8, 2)).has_value());
        EXPECT_LT(t.world.clock.now() - begun, 1s);
        EXPECT_EQ(to_string(t.state_of(1)), to_string(NodeState::away));
        EXPECT_TRUE((co_await t.write(4096, 8, 3)).has_value());
        EXPECT_EQ(co_await t.read(0), 2);
        EXPECT_GT(t.mirror->nodes()[1].stale.value(), 0u);
        t.connect(1, true);
        co_await t.until_state(1, NodeState::attached);
        EXPECT_EQ(t.mirror->nodes()[1].stale.value(), 0u);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        // And now the other one is the one to go.
        t.connect(0, false);
        EXPECT_EQ(co_await t.read(4096), 3);
        EXPECT_TRUE((co_await t.write(4096, 8, 4)).has_value());
        EXPECT_EQ(co_await t.read(4096), 4);
    });
}

TEST_F(MirrorTest, grace_counts_from_when_a_silent_node_was_asked) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        // The link is there, and nothing comes: noticed only now.
        const io::TimePoint noticed = t.world.clock.now();
        t.nodes[1]->silent = noticed - 300ms;  // grace is 200
        t.mirror->backing_changed(t.nodes[1]->id);
        co_await t.until_state(1, NodeState::away);
        EXPECT_LT(t.world.clock.now() - noticed, 150ms);
        t.nodes[1]->silent.reset();
        t.mirror->backing_changed(t.nodes[1]->id);
        co_await t.until_state(1, NodeState::attached);
    });
}

TEST_F(MirrorTest, an_age_that_waits_for_the_vote_of_whom_it_leaves_out_is_given_up) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3, metadata::Quorum::majority);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        t.connect(1, false);
        t.connect(2, false);
        // An age with one node alone is sent to it, and one vote is no majority.
        async::Scope scope;
        bool done = false;
        scope.spawn(t.write_some_time(0, 2, done));
        co_await io::sleep_for(t.world.clock, 600ms);
        EXPECT_FALSE(done);
        t.connect(1, true);
        co_await scope.join();
        co_await t.until_state(2, NodeState::away);
        co_await t.until_state(1, NodeState::attached);
        t.connect(2, true);
        co_await t.until_state(2, NodeState::attached);
        const auto deadline = t.world.clock.now() + 5s;
        const auto all_is_well = [&t] {
            return std::ranges::all_of(t.mirror->nodes(), [](const Mirror::NodeView& node) {
                return node.state == NodeState::attached && node.stale == SectorCount(0);
            });
        };
        while (!all_is_well() && t.world.clock.now() < deadline)
            co_await io::wait_until(t.world.clock, t.changes, deadline);
        EXPECT_TRUE(all_is_well());
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[2]));
    });
}

TEST_F(MirrorTest, a_node_that_was_named_stays_when_another_is_lost_meanwhile) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3, metadata::Quorum::majority);
        t.connect(2, false);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        co_await t.until_state(2, NodeState::away);
        // The age that attaches the third one again can't get to the second one any more.
        t.connect(1, false);
        t.connect(2, true);
        EXPECT_TRUE((co_await t.write(0, 8, 2)).has_value());
        co_await t.until_state(1, NodeState::away);
        co_await t.until_state(2, NodeState::attached);
        t.connect(1, true);
        co_await t.until_state(1, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[2]));
    });
}

TEST_F(MirrorTest, a_side_that_was_given_up_lacks_all_for_every_head_from_then_on) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        metadata::Form form = t.mirror->form();
        co_await t.end();
        // Node 1 has gone on by itself, and a person keeps the side of node 2.
        t.nodes[0]->connected = false;
        t.make(form);
        const auto kept = co_await t.mirror->assemble(
            {.first = t.next_form(form, 77, 2), .source = 2, .given_up = {1}});
        EXPECT_TRUE(kept.has_value());
        EXPECT_TRUE(t.mirror->lacks_all(1));
        form = t.mirror->form();
        co_await t.end();
        t.make(form);
        const auto assembled =
            co_await t.mirror->assemble({.first = t.next_form(form, 78, 2), .source = 2});
        EXPECT_TRUE(assembled.has_value());
        EXPECT_TRUE(t.mirror->lacks_all(1));
    });
}

TEST_F(MirrorTest, a_head_that_may_have_been_replaced_takes_in_nobody_that_went_another_way) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3, metadata::Quorum::majority);
        t.connect(2, false);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        co_await t.until_state(2, NodeState::away);
        // Its successor has all nodes, so it has forgotten where its age came from.
        metadata::Form later = t.next_form(t.mirror->form(), 77, 3);
        later.history = metadata::first_history(77);
        std::vector<std::byte> bytes(metadata::kSuperblockBytes);
        metadata::encode_superblock(std::span(bytes).first<metadata::kSuperblockBytes>(),
                                    {.form = later, .cookie = 3, .sequence = 100});
        for (unsigned copy = 0; copy < metadata::kSuperblockCopies; ++copy)
            reactor_done(
                [](FakeNode& node, unsigned which, std::span<std::byte> data) -> Task<Result<>> {
                    Request request{.op = Op::write,
                                    .range = *metadata::superblock_place(kNodeSize, which),
                                    .data = data};
                    co_return co_await node.disk.execute(request);
                }(*t.nodes[2], copy, bytes));
        for (auto& node : t.nodes) node->vouched = t.world.clock.now() - 1h;
        t.connect(2, true);
        const auto deadline = t.soon();
        while (t.mirror->nodes()[2].reason.find("vouch") == std::string::npos &&
               t.world.clock.now() < deadline)
            co_await io::wait_until(t.world.clock, t.changes, deadline);
        EXPECT_NE(t.mirror->nodes()[2].reason.find("vouch"), std::string::npos);
        std::vector<std::byte> found(metadata::kSuperblockBytes);
        Request request{
            .op = Op::read, .range = *metadata::superblock_place(kNodeSize, 0), .data = found};
        EXPECT_TRUE((co_await t.nodes[2]->disk.execute(request)).has_value());
        EXPECT_EQ(found, bytes);
    });
}

TEST_F(MirrorTest, one_bad_copy_of_a_superblock_is_enough) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        for (unsigned copy = 0; copy < metadata::kSuperblockCopies; ++copy) {
            t.connect(1, false);
            EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
            co_await t.until_state(1, NodeState::away);
            t.nodes[1]->bad_sector = metadata::superblock_place(kNodeSize, copy)->first;
            t.connect(1, true);
            co_await t.until_state(1, NodeState::attached);
        }
    });
}

TEST_F(MirrorTest, of_a_superblock_the_copy_that_may_be_torn_is_written_first) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        FakeNode& node = *t.nodes[1];
        std::vector<SectorIndex>& written = node.superblock_writes;
        for (unsigned copy = 0; copy < metadata::kSuperblockCopies; ++copy) {
            const SectorRange place = *metadata::superblock_place(kNodeSize, copy);
            // Torn by a power cut.
            t.connect(1, false);
            EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
            co_await t.until_state(1, NodeState::away);
            Request tear{.op = Op::write_zeroes, .range = {place.first, SectorCount(1)}};
            EXPECT_TRUE((co_await node.disk.execute(tear)).has_value());
            written.clear();
            t.connect(1, true);
            co_await t.until_state(1, NodeState::attached);
            EXPECT_FALSE(written.empty());
            EXPECT_EQ(written.front(), place.first);
            // Torn by a write that fails.
            node.fail_write_at = place.first;
            written.clear();
            t.connect(0, false);
            EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
            EXPECT_FALSE(node.fail_write_at.has_value());
            const auto failed = std::ranges::find(written, place.first);
            EXPECT_GE(written.end() - failed, 3);
            EXPECT_EQ(*std::next(failed), place.first);
            t.connect(0, true);
            co_await t.until_state(0, NodeState::attached);
        }
    });
}

// An age that waits to be sent is given up when the node that it would attach has to leave: once
// sent it could be found, and that node taken for one that has everything.
TEST_F(MirrorTest, a_joining_node_that_leaves_is_not_named_by_the_age_that_was_planned_for_it) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.write(4096, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        t.connect(1, false);
        t.connect(2, false);
        EXPECT_TRUE((co_await t.write(8, 8, 1)).has_value());
        co_await t.until_state(2, NodeState::away);
        // The age waits for what the third node lacks to be durable on the first one.
        EXPECT_TRUE((co_await t.write(4096, 8, 2)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        t.nodes[0]->holds_bits_back = true;
        t.connect(1, true);
        co_await t.until_state(1, NodeState::completing);
        co_await t.until_held_back(0);
        // Meanwhile it fails a change. That it has to leave is to be noted on the first one, too.
        t.nodes[1]->fail_changes = true;
        async::Scope scope;
        scope.spawn([](MirrorTest& test) -> Task<void> {
            EXPECT_TRUE((co_await test.write(4096, 8, 3)).has_value());
        }(t));
        const auto is_leaving = [&] {
            return t.mirror->nodes()[1].reason.starts_with("write failed there");
        };
        const auto until = t.soon();
        while (!is_leaving() && t.world.clock.now() < until)
            co_await io::sleep_for(t.world.clock, 1ms);
        EXPECT_TRUE(is_leaving());
        const metadata::Age age = t.mirror->newest_form().history.age;
        t.release(0);
        co_await scope.join();
        // None was sent: each one has a generation of its own, in force or not.
        EXPECT_EQ(t.mirror->newest_form().history.age, age);
        t.nodes[1]->fail_changes = false;
        t.connect(2, true);
        co_await t.until_state(1, NodeState::attached);
        co_await t.until_state(2, NodeState::attached);
    });
}

TEST_F(MirrorTest, ages_that_all_nodes_have_left_behind_are_forgotten) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        for (std::uint64_t id = 77; id < 90; ++id) {
            const metadata::Form form = t.mirror->form();
            co_await t.end();
            t.make(form);
            const auto assembled = co_await t.mirror->assemble(
                {.first = t.next_form(form, id, 1), .source = 1, .others = {2}});
            EXPECT_TRUE(assembled.has_value()) << assembled.error().text;
            co_await t.until_state(1, NodeState::attached);
        }
        // The last assembling, and the one before it, which the second node held when it came.
        EXPECT_LE(t.mirror->form().history.path.size(), 2u);
        EXPECT_FALSE(t.mirror->form().history.is_cut_short);
    });
}

TEST_F(MirrorTest, an_age_gets_the_votes_of_those_that_it_leaves_out) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3, metadata::Quorum::majority);
        t.connect(2, false);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        // One of two votes is no majority, but whoever fails a write of data can have an age yet.
        t.nodes[1]->fail_changes = true;
        async::Scope scope;
        bool done = false;
        scope.spawn(t.write_some_time(16, 2, done));
        co_await t.until([&] { return done; });
        // Neither is it any other's when its superblock can't be read when it is looked at again.
        t.nodes[1]->unreadable = MirrorTest::superblocks();
        co_await t.until_reason(1, "its superblock can't be read");
        EXPECT_EQ(co_await t.read(16), 2);
        t.connect(1, false);
        co_await t.until_obstacle("1 of 3 votes are there");
        t.connect(1, true);
        t.nodes[1]->unreadable.reset();
        t.nodes[1]->fail_changes = false;
        t.connect(2, true);
        co_await scope.join();
        co_await t.until_state(1, NodeState::attached);
        co_await t.until_state(2, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[2]));
    });
}

TEST_F(MirrorTest, who_can_have_no_age_is_named_where_requests_wait_for_one) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3, metadata::Quorum::majority);
        t.connect(2, false);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_EQ(t.mirror->obstacle(), "");
        t.nodes[1]->fail_changes = t.nodes[1]->holds_superblocks_back = true;
        async::Scope scope;
        bool done = false;
        scope.spawn(t.write_some_time(16, 2, done));
        co_await t.until_obstacle("node1: writing its superblock takes more than 0.2 s");
        t.nodes[1]->unwritable = MirrorTest::superblocks();
        t.release(1);
        for (const char* part : {"node1: its superblock can't be written: I/O error",
                                 "node2: ", "1 of 3 votes are there"})
            co_await t.until_obstacle(part);
        EXPECT_TRUE(t.mirror->has_source());  // whoever waits for it waits for no other copy
        t.nodes[1]->unwritable.reset();
        co_await scope.join();
        EXPECT_EQ(t.mirror->obstacle(), "");
    });
}

TEST_F(MirrorTest, who_waits_for_votes_is_counted) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3, metadata::Quorum::majority);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_EQ(t.mirror->waiting(), 0U);
        for (auto& node : t.nodes) node->vouched = t.world.clock.now() - 1h;
        t.mirror->backing_changed(t.nodes[0]->id);
        // Done on all nodes; one that is not vouched for may not say so.
        async::Scope scope;
        bool is_done = false;
        scope.spawn(t.write_some_time(0, 2, is_done));
        co_await t.until([&] { return t.mirror->waiting() == 1; });
        EXPECT_FALSE(is_done);
        for (auto& node : t.nodes) node->vouched.reset();
        co_await scope.join();
        EXPECT_EQ(t.mirror->waiting(), 0U);
    });
}

TEST_F(MirrorTest, a_vote_that_another_head_had_is_none_until_it_is_looked_at) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3, metadata::Quorum::majority);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        t.connect(2, false);
        co_await t.until_state(2, NodeState::away);
        t.nodes[1]->fail_changes = true;
        EXPECT_TRUE((co_await t.write(16, 8, 2)).has_value());
        // Another head takes it, and lets it go; what that has written can't be read.
        t.nodes[1]->unreadable = MirrorTest::superblocks();
        t.nodes[1]->taken = true;
        t.mirror->backing_changed(t.nodes[1]->id);
        co_await t.until_reason(1, "its superblock can't be read");
        async::Scope scope;
        int content = 0;
        scope.spawn(t.read_some_time(0, content));
        co_await io::sleep_for(t.world.clock, 300ms);
        EXPECT_EQ(content, 0);
        t.connect(2, true);
        co_await scope.join();
        EXPECT_EQ(content, 1);
    });
}

}  // namespace
}  // namespace dst::mirror
