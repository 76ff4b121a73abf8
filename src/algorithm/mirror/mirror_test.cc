// A mirror over nodes in memory whose links can be cut: making it, losing nodes, taking them back,
// taking it over, errors. (Crashes, power cuts and whole clusters are simulated: sim/.)
#include "algorithm/mirror/mirror.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <utility>

#include "io/uring/test_reactor.h"
#include "node/local.h"

namespace dst::mirror {
namespace {

using namespace std::chrono_literals;
using async::Task;
using block::Op;
using block::Request;
using metadata::Cookie;

/// A disk in memory behind a link that can be cut.
class FakeNode final : public Backing, public block::Device {
  public:
    FakeNode(Cookie cookie, SectorCount size) : id(cookie), disk(size + size, cookie), end(size) {}

    [[nodiscard]] block::Device& device() const override { return const_cast<FakeNode&>(*this); }
    [[nodiscard]] SectorCount size() const override { return end; }
    [[nodiscard]] bool is_connected() const override { return connected; }
    [[nodiscard]] std::optional<io::TimePoint> silent_since() const override { return silent; }
    [[nodiscard]] std::string reason() const override { return connected ? "connected" : "cut"; }
    [[nodiscard]] std::optional<io::TimePoint> vouched_at() const override { return vouched; }
    [[nodiscard]] bool is_taken() const override { return false; }
    [[nodiscard]] bool has_lost_changes() const override { return has_lost; }
    void accept_losses() override { has_lost = false; }
    Task<Outcome<>> claim() override { co_return Outcome<>{}; }
    void drop() override {
        ++drops;
        link.wake_all();
    }

    [[nodiscard]] block::Geometry geometry() const override {
        block::Geometry geometry = disk.geometry();
        geometry.size = end;
        geometry.block_bytes = block_bytes;
        return geometry;
    }
    [[nodiscard]] std::uint64_t instance() const override { return id; }
    Task<Result<>> execute(Request& request) override {
        const std::uint64_t dropped = drops;
        while (!connected) {
            if (request.if_connected || dropped != drops)
                co_return fail(ErrorCode::node_lost, "cut");
            co_await link.wait();
            if (dropped != drops) co_return fail(ErrorCode::node_lost, "dropped");
        }
        ++requests;
        while (is_held_back(request)) {
            ++held_back;
            co_await link.wait();
            --held_back;
            if (dropped != drops) co_return fail(ErrorCode::node_lost, "dropped");
        }
        if (request.op == Op::flush && std::exchange(loses_at_flush, false)) {
            co_await forget();
            co_return fail(ErrorCode::io_error, "broken");
        }
        if (fail_changes && block::is_change(request.op) &&
            request.range.end() <= SectorIndex(kDataSectors))
            co_return fail(ErrorCode::io_error, "broken");
        const SectorIndex superblocks = metadata::superblock_place(end, 0)->first;
        if (request.op == Op::write && request.range.first >= superblocks) {
            superblock_writes.push_back(request.range.first);
            if (fail_write_at == request.range.first) {
                fail_write_at.reset();
                co_return fail(ErrorCode::io_error, "broken");
            }
        }
        if (request.op == Op::write && unwritable && unwritable->overlaps(request.range))
            co_return fail(ErrorCode::io_error, "broken");
        if (fail_reads && request.op == Op::read &&
            request.range.end() <= SectorIndex(kDataSectors))
            co_return fail(ErrorCode::io_error, "broken");
        if (request.op == Op::read && request.range.first == bad_sector)
            co_return fail(ErrorCode::io_error, "broken");
        co_return co_await disk.execute(request);
    }

    /// Bitmaps are between the data and the superblocks.
    [[nodiscard]] bool is_held_back(const Request& request) const {
        const SectorIndex superblocks = metadata::superblock_place(end, 0)->first;
        if (request.op != Op::write || request.range.first < SectorIndex(kDataSectors))
            return false;
        return request.range.first < superblocks ? holds_bits_back : holds_superblocks_back;
    }
    /// As a kernel does that could not write its cache: old data is back.
    Task<void> forget() {
        has_lost = true;
        Request zeroes{.op = Op::write_zeroes, .range = {SectorIndex(0), SectorCount(64)}};
        EXPECT_TRUE(co_await disk.execute(zeroes));
    }

    static constexpr std::uint64_t kDataSectors = 8192;
    const Cookie id;
    node::MemoryDevice disk;  // as large as it may grow
    SectorCount end;
    bool connected = true;
    std::optional<io::TimePoint> silent;   // although connected
    std::optional<io::TimePoint> vouched;  // none: nobody else can have it
    bool fail_changes = false;
    bool fail_reads = false;
    // Writes there are not answered.
    bool holds_bits_back = false;
    bool holds_superblocks_back = false;
    std::size_t held_back = 0;
    std::uint32_t block_bytes = 512;
    std::optional<SectorIndex> bad_sector;
    std::optional<SectorIndex> fail_write_at;  // once
    std::optional<SectorRange> unwritable;
    std::vector<SectorIndex> superblock_writes;
    bool loses_at_flush = false;
    bool has_lost = false;
    std::uint64_t drops = 0;
    std::uint64_t requests = 0;
    async::WaitQueue link;
};

class MirrorTest : public testing::Test, public Owner {
  public:
    static constexpr SectorCount kNodeSize{16384};  // 8 MiB

    void mirror_changed() override { changes.wake_all(); }
    void mirror_lost_changes() override { ++losses; }

    void run(Task<void> (*body)(MirrorTest&)) {
        reactor->block_on([](MirrorTest& t, Task<void> (*test)(MirrorTest&)) -> Task<void> {
            co_await test(t);
            co_await t.end();
        }(*this, body));
    }
    Task<void> end() {
        if (mirror == nullptr) co_return;
        mirror->end();
        for (auto& node : nodes) node->drop();
        co_await mirror->join();
        mirror.reset();
    }
    metadata::Form first_form(std::size_t count) {
        metadata::Form form;
        form.storage_id.bytes[0] = std::byte{7};
        form.name = "vol0";
        form.algorithm = "mirror";
        form.history = metadata::first_history(42);
        form.votes_since = form.history.age;
        std::vector<SectorCount> sizes(count, kNodeSize);
        form.shape = *metadata::plan_shape(sizes);
        form.head = {.id = 1, .incarnation = 1};
        form.is_forming = true;
        for (std::size_t at = 0; at < count; ++at) {
            if (nodes.size() <= at) nodes.push_back(std::make_unique<FakeNode>(at + 1, kNodeSize));
            form.nodes.push_back({.cookie = at + 1,
                                  .slot = static_cast<std::uint8_t>(at),
                                  .size = kNodeSize,
                                  .attached = true,
                                  .is_witness = false,
                                  .has_vote = true,
                                  .instance = at + 1,
                                  .type = "L: node" + std::to_string(at)});
        }
        return form;
    }
    static metadata::Form next_form(metadata::Form form, std::uint64_t id, Cookie source) {
        form.history = metadata::fork(form.history, id);
        form.stopped_cleanly = form.is_forming = false;
        for (metadata::NodeRecord& record : form.nodes) record.attached = record.cookie == source;
        return form;
    }
    void make(metadata::Form form) {
        mirror = std::make_unique<Mirror>(world, Memory{metadata_account, copies_account},
                                          metadata::Head{.id = 1, .incarnation = ++incarnation},
                                          Settings{.name = "vol0", .grace = 200ms}, std::move(form),
                                          *this);
        for (auto& node : nodes) mirror->found(node->id, *node, true);
    }
    Task<void> create(std::size_t count) {
        make(first_form(count));
        const auto created = co_await mirror->create(Init::zero);
        EXPECT_TRUE(created.has_value()) << created.error().text;
    }
    Task<Result<>> write(std::uint64_t at, std::uint64_t count, int fill, bool fua = false) {
        block::Buffer buffer = co_await payloads.allocate(count * kSectorBytes);
        std::memset(buffer.bytes().data(), fill, count * kSectorBytes);
        Request request{.op = Op::write,
                        .fua = fua,
                        .range = {SectorIndex(at), SectorCount(count)},
                        .data = buffer.bytes().first(count * kSectorBytes),
                        .buffer = &buffer};
        co_return co_await mirror->execute(request);
    }
    Task<int> read(std::uint64_t at) {
        block::Buffer buffer = co_await payloads.allocate(kSectorBytes);
        Request request{.op = Op::read,
                        .range = {SectorIndex(at), SectorCount(1)},
                        .data = buffer.bytes().first(kSectorBytes)};
        const auto done = co_await mirror->execute(request);
        EXPECT_TRUE(done.has_value()) << to_string(done.error().code);
        for (const std::byte byte : request.data) EXPECT_EQ(byte, request.data[0]);
        co_return static_cast<int>(request.data[0]);
    }
    Task<Result<>> flush() {
        Request request{.op = Op::flush};
        co_return co_await mirror->execute(request);
    }
    std::vector<std::byte> content(FakeNode& node, std::uint64_t from = 0) {
        std::vector<std::byte> all(FakeNode::kDataSectors * kSectorBytes);
        Request request{.op = Op::read,
                        .range = {SectorIndex(from), SectorCount(FakeNode::kDataSectors)},
                        .data = all};
        reactor_done(node.disk.execute(request));
        return all;
    }
    /// Devices in memory answer at once.
    static void reactor_done(Task<Result<>> task) {
        async::Scope scope;
        scope.spawn(
            [](Task<Result<>> inner) -> Task<void> { co_await std::move(inner); }(std::move(task)));
        EXPECT_TRUE(scope.empty());
    }
    NodeState state_of(std::size_t at) const { return mirror->nodes()[at].state; }
    Task<void> until_state(std::size_t at, NodeState state, Cookie cookie = 0) {
        if (cookie == 0) cookie = nodes[at]->id;
        const auto deadline = world.clock.now() + 5s;
        // Attached is who is named in an age that was sent; here it shall be in force, too.
        const auto is_there = [&] {
            return state_of(at) == state &&
                   (state != NodeState::attached || mirror->form().find(cookie)->attached);
        };
        while (!is_there() && world.clock.now() < deadline)
            co_await io::wait_until(world.clock, changes, deadline);
        EXPECT_EQ(to_string(state_of(at)), to_string(state)) << mirror->nodes()[at].reason;
    }
    /// Until the latest age that was sent is in force, or until one is not.
    Task<void> until_settled(bool settled) {
        const auto is_settled = [&] {
            return mirror->newest_form().history == mirror->form().history;
        };
        const auto deadline = soon();
        while (is_settled() != settled && world.clock.now() < deadline)
            co_await io::wait_until(world.clock, changes, world.clock.now() + 20ms);
        EXPECT_EQ(is_settled(), settled);
    }
    Task<void> grow(Outcome<>& done) { done = co_await mirror->growing().grow(soon()); }
    /// Until the node has a write of its metadata that it does not answer.
    Task<void> until_held_back(std::size_t at) {
        const auto deadline = soon();
        while (nodes[at]->held_back == 0 && world.clock.now() < deadline)
            co_await io::sleep_for(world.clock, 1ms);
        EXPECT_NE(nodes[at]->held_back, 0u);
    }
    void connect(std::size_t at, bool connected) {
        nodes[at]->connected = connected;
        nodes[at]->link.wake_all();
        mirror->backing_changed(nodes[at]->id);
    }

    io::TimePoint soon() { return world.clock.now() + 3s; }
    Task<Outcome<>> add(Cookie cookie, SectorCount size = kNodeSize,
                        bool holds_superblocks_back = false) {
        nodes.push_back(std::make_unique<FakeNode>(cookie, size));
        FakeNode& node = *nodes.back();
        node.holds_superblocks_back = holds_superblocks_back;
        const auto added =
            co_await mirror->roster().add({.cookie = cookie,
                                           .size = size,
                                           .has_vote = true,
                                           .instance = cookie,
                                           .type = "L: node" + std::to_string(cookie)},
                                          node, true, {}, soon());
        co_return added;
    }
    /// Another byte than the mirror wrote.
    void spoil(std::size_t at, std::uint64_t sector) {
        std::vector<std::byte> bytes(kSectorBytes, std::byte{0xee});
        Request request{
            .op = Op::write, .range = {SectorIndex(sector), SectorCount(1)}, .data = bytes};
        reactor_done(nodes[at]->disk.execute(request));
    }
    Task<void> until_state_of(Cookie cookie, NodeState state) {
        const auto views = mirror->nodes();
        const auto at = std::ranges::find(views, cookie, &Mirror::NodeView::cookie);
        EXPECT_NE(at, views.end());
        co_await until_state(static_cast<std::size_t>(at - views.begin()), state, cookie);
    }
    void connect_quietly(std::size_t at, bool connected) {
        nodes[at]->connected = connected;
        nodes[at]->link.wake_all();
    }

    std::unique_ptr<io::uring::Reactor> reactor = *io::uring::Reactor::create();
    io::World world = reactor->world();
    block::BufferPool pool{64 << 20};
    block::Account payloads{pool, 4};
    block::Account metadata_account{pool, 4};
    block::Account copies_account{pool, 2};
    std::uint64_t incarnation = 0;
    std::vector<std::unique_ptr<FakeNode>> nodes;
    std::unique_ptr<Mirror> mirror;
    async::WaitQueue changes;
    int losses = 0;  // that the mirror told of
};

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
        metadata::Form form = t.first_form(3);
        form.quorum = metadata::Quorum::majority;
        t.make(std::move(form));
        EXPECT_TRUE((co_await t.mirror->create(Init::zero)).has_value());
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        t.connect(1, false);
        t.connect(2, false);
        // An age with one node alone is sent to it, and one vote is no majority.
        async::Scope scope;
        bool done = false;
        scope.spawn([](MirrorTest& test, bool& written) -> Task<void> {
            EXPECT_TRUE((co_await test.write(0, 8, 2)).has_value());
            written = true;
        }(t, done));
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
        metadata::Form form = t.first_form(3);
        form.quorum = metadata::Quorum::majority;
        t.make(std::move(form));
        EXPECT_TRUE((co_await t.mirror->create(Init::zero)).has_value());
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

TEST_F(MirrorTest, the_last_node_is_waited_for) {
    run([](MirrorTest& t) -> Task<void> {
        co_await t.create(2);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        t.connect(0, false);
        t.connect(1, false);
        async::Scope scope;
        bool done = false;
        scope.spawn([](MirrorTest& test, bool& written) -> Task<void> {
            EXPECT_TRUE((co_await test.write(0, 8, 2)).has_value());
            written = true;
        }(t, done));
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
        t.nodes[1]->holds_bits_back = false;
        t.nodes[1]->link.wake_all();
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
        t.nodes[1]->holds_bits_back = false;
        t.nodes[1]->link.wake_all();
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
        metadata::Form form = t.first_form(3);
        form.quorum = metadata::Quorum::majority;
        t.make(form);
        EXPECT_TRUE((co_await t.mirror->create(Init::zero)).has_value());
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
        t.nodes[0]->holds_bits_back = false;
        t.nodes[0]->link.wake_all();
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
        t.nodes[2]->holds_superblocks_back = false;
        t.nodes[2]->link.wake_all();
        co_await t.until_state(2, NodeState::attached);
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

TEST_F(MirrorTest, an_age_gets_the_votes_of_those_that_it_leaves_out) {
    run([](MirrorTest& t) -> Task<void> {
        metadata::Form form = t.first_form(3);
        form.quorum = metadata::Quorum::majority;
        t.make(std::move(form));
        const auto created = co_await t.mirror->create(Init::zero);
        EXPECT_TRUE(created.has_value()) << created.error().text;
        t.connect(2, false);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        // One of two votes is no majority, but whoever fails a write of data can have an age yet.
        t.nodes[1]->fail_changes = true;
        async::Scope scope;
        bool done = false;
        scope.spawn([](MirrorTest& test, bool& written) -> Task<void> {
            EXPECT_TRUE((co_await test.write(16, 8, 2)).has_value());
            written = true;
        }(t, done));
        const auto deadline = t.soon();
        while (!done && t.world.clock.now() < deadline) co_await io::sleep_for(t.world.clock, 20ms);
        EXPECT_TRUE(done);
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
        metadata::Form form = t.first_form(3);
        form.quorum = metadata::Quorum::majority;
        t.make(std::move(form));
        const auto created = co_await t.mirror->create(Init::zero);
        EXPECT_TRUE(created.has_value()) << created.error().text;
        t.connect(2, false);
        EXPECT_TRUE((co_await t.write(0, 8, 1)).has_value());
        EXPECT_EQ(t.mirror->obstacle(), "");
        const SectorIndex superblocks = metadata::superblock_place(kNodeSize, 0)->first;
        t.nodes[1]->fail_changes = true;
        t.nodes[1]->unwritable = {superblocks, SectorIndex(0) + kNodeSize - superblocks};
        async::Scope scope;
        scope.spawn([](MirrorTest& test) -> Task<void> {
            EXPECT_TRUE((co_await test.write(16, 8, 2)).has_value());
        }(t));
        const auto deadline = t.soon();
        while (t.mirror->obstacle().empty() && t.world.clock.now() < deadline)
            co_await io::sleep_for(t.world.clock, 20ms);
        const std::string why = t.mirror->obstacle();
        for (const char* part : {"node1: its superblock can't be written: I/O error",
                                 "node2: ", "1 of 3 votes are there"})
            EXPECT_NE(why.find(part), std::string::npos) << why;
        t.nodes[1]->unwritable.reset();
        co_await scope.join();
        EXPECT_EQ(t.mirror->obstacle(), "");
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
        t.nodes[1]->holds_bits_back = false;
        t.nodes[1]->link.wake_all();
        co_await scope.join();
        EXPECT_TRUE(grown.has_value()) << grown.error().text;
        EXPECT_GT(t.mirror->geometry().size, before);
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

}  // namespace
}  // namespace dst::mirror
