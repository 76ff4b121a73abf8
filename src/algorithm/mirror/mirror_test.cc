// A mirror over nodes in memory: what is written and read, errors, flushes, losses, copies that
// differ. (Crashes, power cuts and whole clusters are simulated: sim/.)
#include <random>

#include "algorithm/mirror/test_support.h"

namespace dst::mirror {
namespace {

TEST_F(MirrorTest, what_is_written_is_read_and_on_all_nodes) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3);
        EXPECT_EQ(co_await t.read(100), 0);
        EXPECT_TRUE((co_await t.write(100, 8, 0x11)).has_value());
        EXPECT_TRUE((co_await t.write(127, 2, 0x22)).has_value());
        EXPECT_EQ(co_await t.read(100), 0x11);
        EXPECT_EQ(co_await t.read(128), 0x22);
        EXPECT_EQ(co_await t.read(99), 0);
        EXPECT_TRUE((co_await t.flush()).has_value());
        for (auto& node : t.nodes) {
            const auto content = t.content(*node);
            EXPECT_EQ(content, t.content(*t.nodes[0]));
            EXPECT_EQ(content[100 * kSectorBytes], std::byte{0x11});
        }
    });
}

TEST_F(MirrorTest, the_last_node_is_waited_for) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        t.connect(0, false);
        t.connect(1, false);
        async::Scope scope;
        bool done = false;
        scope.spawn(t.write_some_time(0, 2, done));
        co_await io::sleep_for(t.world.clock, 600ms);
        EXPECT_FALSE(done);
        EXPECT_NE(t.mirror->obstacle(), "");
        t.connect(1, true);
        co_await scope.join();
        EXPECT_EQ(co_await t.read(0), 2);
        EXPECT_EQ(to_string(t.state_of(0)), to_string(NodeState::away));
    });
}

TEST_F(MirrorTest, a_node_that_fails_a_write_is_left_out_and_an_error_of_all_is_the_users) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3);
        EXPECT_TRUE((co_await t.write(0, 128, 1)).has_value());
        t.nodes[2]->fail_changes = true;
        EXPECT_TRUE((co_await t.write(8, 8, 2)).has_value());
        EXPECT_NE(to_string(t.state_of(2)), to_string(NodeState::attached));
        t.nodes[0]->fail_changes = t.nodes[1]->fail_changes = true;
        EXPECT_FALSE((co_await t.write(16, 8, 3)).has_value());
        EXPECT_EQ(to_string(t.state_of(0)), to_string(NodeState::attached));
        EXPECT_EQ(to_string(t.state_of(1)), to_string(NodeState::attached));
        for (auto& node : t.nodes) node->fail_changes = false;
        EXPECT_EQ(co_await t.read(8), 2);
        co_await t.until_state(2, NodeState::attached);
    });
}

TEST_F(MirrorTest, what_can_not_be_read_comes_from_another_node_and_is_written_again) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        t.nodes[0]->fail_reads = t.nodes[1]->fail_reads = false;
        t.nodes[0]->fail_reads = true;
        EXPECT_EQ(co_await t.read(0), 1);
        EXPECT_EQ(co_await t.read(3), 1);
        EXPECT_EQ(t.mirror->nodes()[0].read_errors, 2u);
        EXPECT_EQ(t.mirror->nodes()[1].read_errors, 0u);
        t.nodes[1]->fail_reads = true;
        block::Buffer buffer = co_await t.payloads.allocate(512);
        Request request{.op = Op::read,
                        .range = {SectorIndex(0), SectorCount(1)},
                        .data = buffer.bytes().first(512)};
        EXPECT_FALSE((co_await t.mirror->execute(request)).has_value());
    });
}

TEST_F(MirrorTest, it_is_taken_over_after_a_crash_and_the_other_node_joins) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.write(4096, 8, 2)).has_value());
        const metadata::Form form = t.mirror->form();
        co_await t.end();
        t.make(form);
        const auto assembled = co_await t.mirror->assemble(
            {.first = t.next_form(form, 77, 1), .source = 1, .others = {2}});
        EXPECT_TRUE(assembled.has_value()) << assembled.error().text;
        EXPECT_EQ(t.mirror->form().history.age, (metadata::Age{77, 1}));
        EXPECT_EQ(co_await t.read(0), 0);  // nobody flushed: the region counts as unwritten
        co_await t.until_state(1, NodeState::attached);
        EXPECT_TRUE((co_await t.write(0, 8, 3)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        EXPECT_TRUE(co_await t.mirror->finish(t.world.clock.now() + 3s));
        EXPECT_TRUE(t.mirror->form().stopped_cleanly);
        const metadata::Form after = t.mirror->form();
        co_await t.end();
        t.make(after);
        const auto again = co_await t.mirror->assemble(
            {.first = t.next_form(after, 78, 2), .source = 2, .others = {1}});
        EXPECT_TRUE(again.has_value());
        EXPECT_EQ(co_await t.read(0), 3);
        co_await t.until_state(0, NodeState::attached);
        EXPECT_EQ(t.mirror->nodes()[0].stale.value(), 0u);
    });
}

// What a flush acknowledged has to be found from whichever node an age may name. A node that gets
// the bitmaps is named as soon as it has them, so what is written for the first time meanwhile has
// to be known there, too (rule 10): else the next head, starting from it, reads zeroes.
TEST_F(MirrorTest, a_flush_of_a_first_write_waits_for_a_node_that_is_about_to_be_attached) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        t.connect(1, false);
        EXPECT_TRUE((co_await t.write(0, 8, 2)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        EXPECT_TRUE((co_await t.write(4096, 8, 3)).has_value());  // the first one there
        t.nodes[1]->holds_bits_back = true;
        t.connect(1, true);
        co_await t.until_state(1, NodeState::completing);
        async::Scope scope;
        bool flushed = false;
        scope.spawn([](MirrorTest& test, bool& done) -> Task<void> {
            EXPECT_TRUE((co_await test.flush()).has_value());
            done = true;
        }(t, flushed));
        co_await io::sleep_for(t.world.clock, 300ms);
        EXPECT_GT(t.nodes[1]->held_back, 0u);
        EXPECT_FALSE(flushed);
        t.release(1);
        co_await scope.join();
        co_await t.until_state(1, NodeState::attached);
        // The head crashes, and the other one starts from that node.
        const metadata::Form form = t.mirror->form();
        co_await t.end();
        t.make(form);
        const auto assembled = co_await t.mirror->assemble(
            {.first = t.next_form(form, 77, 2), .source = 2, .others = {1}});
        EXPECT_TRUE(assembled.has_value());
        EXPECT_EQ(co_await t.read(4096), 3);
    });
}

TEST_F(MirrorTest, a_durable_write_waits_for_the_flush_that_makes_its_region_written) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());  // the first one there
        t.nodes[1]->holds_bits_back = true;
        async::Scope scope;
        scope.spawn([](MirrorTest& test) -> Task<void> {
            EXPECT_TRUE((co_await test.flush()).has_value());
        }(t));
        co_await t.until_held_back(1);
        // Node 1 still has the region as unwritten: a head that starts from there reads zeroes.
        bool written = false;
        scope.spawn([](MirrorTest& test, bool& done) -> Task<void> {
            EXPECT_TRUE((co_await test.write(0, 8, 2, true)).has_value());
            done = true;
        }(t, written));
        co_await io::sleep_for(t.world.clock, 100ms);
        EXPECT_FALSE(written);
        t.release(1);
        co_await scope.join();
        EXPECT_TRUE(written);
    });
}

// Else a head that dies would leave nothing that says who lacks it.
TEST_F(MirrorTest, an_intent_stays_until_it_is_durable_who_lacks_what_was_changed) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        t.connect(1, false);
        EXPECT_TRUE((co_await t.write(128, 8, 1)).has_value());
        co_await t.until_state(1, NodeState::away);
        FakeNode& node = *t.nodes[0];
        const auto layout = *metadata::Layout::of(t.mirror->form().shape, kNodeSize);
        const SectorRange intents = layout.page({metadata::BitmapKind::intent, 0}, 0);
        const auto has_intent = [&] {
            std::vector<std::byte> page(metadata::kPageBytes);
            Request request{.op = Op::read, .range = intents, .data = page};
            reactor_done(node.disk.execute(request));
            metadata::Bitmap bitmap(layout.shape().regions());
            EXPECT_EQ(metadata::decode_page(std::span(page).first<metadata::kPageBytes>(),
                                            t.mirror->form().storage_id,
                                            {metadata::BitmapKind::intent, 0}, 0, bitmap),
                      0u);
            return bitmap.test(metadata::RegionIndex(0));
        };
        // Of this region the intent is still durable, and nobody lacked anything.
        EXPECT_TRUE(has_intent());
        node.unwritable = layout.page({metadata::BitmapKind::stale, 1}, 0);
        EXPECT_TRUE((co_await t.write(0, 8, 2)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        co_await io::sleep_for(t.world.clock, Flushes::kIntentLingers + 1500ms);
        EXPECT_TRUE(has_intent());
        node.unwritable.reset();
        const auto deadline = t.world.clock.now() + 5s;
        while (has_intent() && t.world.clock.now() < deadline)
            co_await io::sleep_for(t.world.clock, 50ms);
        EXPECT_FALSE(has_intent());
    });
}

TEST_F(MirrorTest, its_blocks_stay_as_they_are) {
    run([](MirrorTest& t) -> Task<void> {
        metadata::Form form = t.first_form(2);
        form.block_bytes = 4096;
        t.make(std::move(form));
        EXPECT_TRUE((co_await t.mirror->create(Init::zero)).has_value());
        EXPECT_EQ(t.mirror->geometry().block_bytes, 4096U);
        t.connect(1, false);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        co_await t.until_state(1, NodeState::away);
        EXPECT_EQ(t.mirror->geometry().block_bytes, 4096U);
    });
    run([](MirrorTest& t) -> Task<void> {
        t.nodes.clear();
        co_await t.create(2);
        EXPECT_EQ(t.mirror->geometry().block_bytes, 512U);
        t.nodes.push_back(std::make_unique<FakeNode>(9, kNodeSize));
        FakeNode& larger = *t.nodes.back();
        larger.block_bytes = 4096;
        const auto added = co_await t.mirror->roster().add(
            {.cookie = 9, .size = kNodeSize, .has_vote = true, .instance = 9, .type = "L: node9"},
            larger, true, {}, t.soon());
        EXPECT_FALSE(added.has_value());
        EXPECT_EQ(t.mirror->form().find(9), nullptr);
        EXPECT_EQ(t.mirror->geometry().block_bytes, 512U);
    });
}

TEST_F(MirrorTest, copies_are_equal_after_any_order_of_changes_and_cuts) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3);
        const auto seed = std::random_device{}();
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937 random(seed);
        std::vector<int> model(FakeNode::kDataSectors);
        for (unsigned round = 0; round < 400; ++round) {
            if (round % 20 == 19) {
                const std::size_t at = random() % 3;
                t.connect(at, !t.nodes[at]->connected);
            }
            if (std::ranges::none_of(t.nodes, &FakeNode::connected)) t.connect(random() % 3, true);
            const std::uint64_t count = 1 + random() % 200;
            const std::uint64_t at = random() % (FakeNode::kDataSectors - count);
            const int fill = static_cast<int>(1 + random() % 250);
            async::Scope scope;
            bool written = false;
            scope.spawn([](MirrorTest& test, std::uint64_t first, std::uint64_t length, int with,
                           bool& done) -> Task<void> {
                EXPECT_TRUE((co_await test.write(first, length, with)).has_value());
                done = true;
            }(t, at, count, fill, written));
            const auto deadline = t.world.clock.now() + 2s;
            while (!written && t.world.clock.now() < deadline)
                co_await io::sleep_for(t.world.clock, 10ms);
            if (!written)
                for (std::size_t node = 0; node < 3; ++node) t.connect(node, true);
            co_await scope.join();
            std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(at), count, fill);
            const std::uint64_t asked = random() % FakeNode::kDataSectors;
            EXPECT_EQ(co_await t.read(asked), model[asked]);
        }
        for (std::size_t at = 0; at < 3; ++at) t.connect(at, true);
        for (std::size_t at = 0; at < 3; ++at) co_await t.until_state(at, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[2]));
        const auto content = t.content(*t.nodes[0]);
        for (std::uint64_t at = 0; at < FakeNode::kDataSectors; ++at)
            EXPECT_EQ(static_cast<int>(content[at * kSectorBytes]), model[at]) << at;
    });
}

// Live changes.

TEST_F(MirrorTest, copies_that_differ_are_found_and_made_equal) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(3);
        for (std::uint64_t at = 0; at < 4096; at += 512)
            EXPECT_TRUE((co_await t.write(at, 512, 1)).has_value());
        auto found = co_await t.mirror->verify().run(false);
        EXPECT_TRUE(found.has_value());
        EXPECT_EQ(found->different.value(), 0u);
        EXPECT_EQ(found->done.value(), t.mirror->form().shape.data_size.value());
        t.spoil(1, 100);
        t.spoil(0, 3000);
        found = co_await t.mirror->verify().run(false);
        EXPECT_GT(found->different.value(), 0u);
        EXPECT_EQ(found->repaired.value(), 0u);
        EXPECT_NE(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        found = co_await t.mirror->verify().run(true);
        EXPECT_EQ(found->repaired, found->different);
        // What two of three have is right, whichever they are.
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[2]));
        EXPECT_EQ(co_await t.read(100), 1);
        EXPECT_EQ(co_await t.read(3000), 1);
        found = co_await t.mirror->verify().run(false);
        EXPECT_EQ(found->different.value(), 0u);
    });
}

TEST_F(MirrorTest, two_copies_that_differ_are_left_for_a_person_who_knows) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        t.spoil(0, 3);
        const auto spoiled = t.content(*t.nodes[0]);
        const auto found = co_await t.mirror->verify().run(true);
        EXPECT_TRUE(found.has_value());
        EXPECT_GT(found->different.value(), 0u);
        EXPECT_EQ(found->undecided, found->different);
        EXPECT_EQ(found->repaired.value(), 0u);
        EXPECT_EQ(t.content(*t.nodes[0]), spoiled);
        EXPECT_NE(t.content(*t.nodes[1]), spoiled);
    });
}

TEST_F(MirrorTest, a_copy_is_declared_to_be_right) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        t.connect(1, false);
        EXPECT_TRUE((co_await t.write(0, 8, 2)).has_value());
        const metadata::Form form = t.mirror->form();
        EXPECT_FALSE(form.find(2)->attached);
        co_await t.end();
        t.connect_quietly(0, false);
        t.connect_quietly(1, true);
        t.make(form);
        const auto assembled = co_await t.mirror->assemble(
            {.first = t.next_form(form, 77, 2), .source = 2, .is_declared = true});
        EXPECT_TRUE(assembled.has_value()) << assembled.error().text;
        EXPECT_EQ(co_await t.read(0), 1);
        EXPECT_TRUE((co_await t.write(64, 8, 5)).has_value());
        t.connect(0, true);
        co_await t.until_state(0, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        EXPECT_EQ(co_await t.read(0), 1);
    });
}

TEST_F(MirrorTest, who_has_lost_changes_is_not_read_and_gets_them_back) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE(co_await t.write(0, 8, 1));
        // Nobody has been told yet, and still nobody sees it.
        co_await t.nodes[0]->forget();
        for (int round = 0; round < 4; ++round) EXPECT_EQ(co_await t.read(0), 1);
        // It did not make durable what it had: so it leaves, and the other one has it.
        EXPECT_TRUE(co_await t.flush());
        EXPECT_EQ(co_await t.read(0), 1);
        co_await t.until_state(0, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));

        EXPECT_TRUE(co_await t.write(0, 8, 2));
        t.nodes[1]->loses_at_flush = true;
        EXPECT_TRUE(co_await t.flush());
        for (int round = 0; round < 4; ++round) EXPECT_EQ(co_await t.read(0), 2);
        co_await t.until_state(1, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
        EXPECT_EQ(t.losses, 0);
    });
}

TEST_F(MirrorTest, what_the_last_copy_has_lost_is_told) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(1);
        EXPECT_TRUE(co_await t.write(0, 8, 1));
        t.nodes[0]->loses_at_flush = true;
        EXPECT_FALSE(co_await t.flush());
        EXPECT_EQ(t.losses, 1);
        EXPECT_EQ(co_await t.read(0), 0);
        EXPECT_TRUE(co_await t.write(0, 8, 2));
        EXPECT_TRUE(co_await t.flush());
        EXPECT_EQ(t.losses, 1);
    });
}

TEST_F(MirrorTest, copies_that_have_lost_different_things_become_equal) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        for (const std::uint64_t at : {0u, 256u}) EXPECT_TRUE(co_await t.write(at, 8, 1));
        EXPECT_TRUE(co_await t.flush());
        for (const std::uint64_t at : {0u, 256u}) EXPECT_TRUE(co_await t.write(at, 8, 2));
        t.nodes[1]->forgets = {SectorIndex(256), SectorCount(8)};
        for (const auto& node : t.nodes) node->loses_at_flush = true;
        EXPECT_FALSE(co_await t.flush());
        EXPECT_EQ(t.losses, 2);
        // From one of them, and always from that one.
        const int first = co_await t.read(0);
        const int second = co_await t.read(256);
        EXPECT_EQ(first + second, 2);
        for (int round = 0; round < 4; ++round) {
            EXPECT_EQ(co_await t.read(0), first);
            EXPECT_EQ(co_await t.read(256), second);
        }
        co_await t.until([&] { return t.content(*t.nodes[0]) == t.content(*t.nodes[1]); });
        EXPECT_TRUE(co_await t.flush());
    });
}

TEST_F(MirrorTest, it_starts_from_another_copy_if_the_bitmaps_of_one_cant_be_read) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        const metadata::Form form = t.mirror->form();
        co_await t.end();
        t.make(form);
        // All of them: it is as if all of it had been changed.
        t.nodes[0]->unreadable = {SectorIndex(FakeNode::kDataSectors),
                                  t.superblocks().first - SectorIndex(FakeNode::kDataSectors)};
        const auto assembled = co_await t.mirror->assemble(
            {.first = t.next_form(form, 77, 1), .source = 1, .others = {2}});
        EXPECT_TRUE(assembled.has_value()) << assembled.error().text;
        EXPECT_EQ(co_await t.read(0), 1);
        co_await t.until_state(1, NodeState::attached);
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
    });
}

TEST_F(MirrorTest, whose_flush_fails_when_it_is_taken_over_is_named) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        const metadata::Form form = t.mirror->form();
        co_await t.end();
        t.make(form);
        t.nodes[0]->loses_at_flush = true;
        const auto assembled = co_await t.mirror->assemble(
            {.first = t.next_form(form, 77, 1), .source = 1, .others = {2}});
        EXPECT_FALSE(assembled.has_value());
        EXPECT_EQ(t.mirror->broken(), 1u);
    });
}

TEST_F(MirrorTest, who_takes_no_copy_is_left_out_as_too_slow) {
    slow = 200ms;
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        t.connect(1, false);
        EXPECT_TRUE((co_await t.write(0, 8, 2)).has_value());
        // It answers, and its disk hangs: nobody but the copy is waited for there.
        t.nodes[1]->holds_data_back = true;
        t.connect(1, true);
        co_await t.until_held_back(1);
        bool is_written = false;
        async::Scope scope;
        scope.spawn(t.write_some_time(0, 3, is_written));
        co_await t.until([&] { return is_written; });
        co_await t.until_reason(1, "slow: it has not answered a write for");
        t.release(1);
        co_await t.until_state(1, NodeState::attached);
        co_await scope.join();
        EXPECT_EQ(t.content(*t.nodes[0]), t.content(*t.nodes[1]));
    });
}

TEST_F(MirrorTest, the_lease_is_half_of_the_time_that_was_claimed) {
    run([](MirrorTest& t) -> Task<void> {
        metadata::Form form = t.first_form(2);
        form.takeover = 60s;  // of another head, which made it
        t.make(std::move(form));
        EXPECT_TRUE((co_await t.mirror->create(Init::zero)).has_value());
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        for (const auto& node : t.nodes) node->vouched = t.world.clock.now() - 6s;  // of ten
        t.mirror->backing_changed(1);
        int content = 0;
        async::Scope scope;
        scope.spawn(t.read_some_time(0, content));
        co_await io::sleep_for(t.world.clock, 50ms);
        EXPECT_EQ(content, 0);
        for (const auto& node : t.nodes) node->vouched = t.world.clock.now();
        t.mirror->backing_changed(1);
        co_await scope.join();
        EXPECT_EQ(content, 1);
    });
}

TEST_F(MirrorTest, what_begins_after_its_end_ends) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        t.mirror->end();
        EXPECT_FALSE((co_await t.add(7)).has_value());  // and `run` waits for all of it
    });
}

TEST_F(MirrorTest, a_flush_fails_where_no_bitmap_can_be_written) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(1);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        const SectorIndex bitmaps(FakeNode::kDataSectors);
        t.nodes[0]->unwritable = {bitmaps, MirrorTest::superblocks().first - bitmaps};
        EXPECT_FALSE((co_await t.flush()).has_value());
        t.nodes[0]->unwritable.reset();
        EXPECT_EQ(co_await t.read(0), 1);
    });
}

/// Holds reads back, and returns which node one went to.
Task<std::size_t> asked_node(MirrorTest& t) {
    const auto is_asked = [&](const auto& node) { return node->held_back > 0; };
    co_await t.until([&] { return std::ranges::any_of(t.nodes, is_asked); });
    const auto at = std::ranges::find_if(t.nodes, is_asked);
    co_return static_cast<std::size_t>(at - t.nodes.begin());
}

TEST_F(MirrorTest, a_reader_alone_waits_no_longer_for_a_silent_node_than_others) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        co_await io::sleep_for(t.world.clock, 4s);  // all is at rest: intents are cleared
        for (auto& node : t.nodes) node->holds_reads_back = true;
        async::Scope scope;
        int content = 0;
        scope.spawn(t.read_some_time(0, content));
        const std::size_t at = co_await asked_node(t);
        co_await io::sleep_for(t.world.clock, 50ms);  // whoever woke for it finds all well
        t.nodes[at]->silent = t.world.clock.now();
        t.nodes[1 - at]->holds_reads_back = false;
        const auto begun = t.world.clock.now();
        co_await scope.join();
        EXPECT_EQ(content, 1);
        EXPECT_LT(t.world.clock.now() - begun, 1s);
    });
}

TEST_F(MirrorTest, who_answers_no_read_is_left_out_as_too_slow) {
    run([](MirrorTest& t) -> Task<void> {
        t.slow = 100ms;
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_TRUE((co_await t.flush()).has_value());
        for (auto& node : t.nodes) node->holds_reads_back = true;
        async::Scope scope;
        int content = 0;
        scope.spawn(t.read_some_time(0, content));
        const std::size_t at = co_await asked_node(t);
        t.nodes[1 - at]->holds_reads_back = false;
        co_await scope.join();
        EXPECT_EQ(content, 1);
        EXPECT_NE(t.mirror->nodes()[at].reason.find("has answered no read"), std::string::npos)
            << t.mirror->nodes()[at].reason;
    });
}

}  // namespace
}  // namespace dst::mirror
