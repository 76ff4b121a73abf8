// What the tests of a mirror need: nodes in memory whose links can be cut, and a mirror over them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "algorithm/mirror/mirror.h"
#include "io/uring/test_reactor.h"
#include "node/local.h"

namespace dst::mirror {

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
    [[nodiscard]] bool is_taken() const override { return taken; }
    void begin_anew() override { taken = false; }
    [[nodiscard]] bool has_lost_changes() const override { return has_lost; }
    void accept_losses() override { has_lost = false; }
    Task<Outcome<>> claim() override { co_return Outcome<>{}; }
    Task<bool> has_grown() override {
        if (!grown_to) co_return false;
        end = *std::exchange(grown_to, std::nullopt);
        co_return true;
    }
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
        if (request.op == Op::read && unreadable && unreadable->overlaps(request.range))
            co_return fail(ErrorCode::io_error, "broken");
        if (request.op == Op::read && request.range.first == bad_sector)
            co_return fail(ErrorCode::io_error, "broken");
        co_return co_await disk.execute(request);
    }

    /// Bitmaps are between the data and the superblocks.
    [[nodiscard]] bool is_held_back(const Request& request) const {
        if (request.op == Op::read)
            return holds_reads_back && request.range.first < SectorIndex(kDataSectors);
        const SectorIndex superblocks = metadata::superblock_place(end, 0)->first;
        if (request.op != Op::write) return false;
        if (request.range.first < SectorIndex(kDataSectors)) return holds_data_back;
        return request.range.first < superblocks ? holds_bits_back : holds_superblocks_back;
    }
    /// As a kernel does that could not write its cache: old data is back.
    Task<void> forget() {
        has_lost = true;
        Request zeroes{.op = Op::write_zeroes, .range = forgets};
        EXPECT_TRUE(co_await disk.execute(zeroes));
    }

    static constexpr std::uint64_t kDataSectors = 8192;
    const Cookie id;
    node::MemoryDevice disk;  // as large as it may grow
    SectorCount end;
    std::optional<SectorCount> grown_to;
    bool connected = true;
    std::optional<io::TimePoint> silent;   // although connected
    std::optional<io::TimePoint> vouched;  // none: nobody else can have it
    bool fail_changes = false;
    bool fail_reads = false;
    // Writes there are not answered.
    bool holds_bits_back = false;
    bool holds_superblocks_back = false;
    bool holds_reads_back = false;
    bool holds_data_back = false;
    std::size_t held_back = 0;
    std::uint32_t block_bytes = 512;
    std::optional<SectorIndex> bad_sector;
    std::optional<SectorIndex> fail_write_at;  // once
    std::optional<SectorRange> unwritable;
    std::optional<SectorRange> unreadable;
    bool taken = false;  // by another head
    std::vector<SectorIndex> superblock_writes;
    bool loses_at_flush = false;
    bool has_lost = false;
    SectorRange forgets{SectorIndex(0), SectorCount(64)};
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
                                          Settings{.name = "vol0", .grace = 200ms, .slow = slow},
                                          std::move(form), *this);
        for (auto& node : nodes) mirror->found(node->id, *node, true);
    }
    Task<void> create(std::size_t count, metadata::Quorum quorum = metadata::Quorum::none) {
        metadata::Form form = first_form(count);
        form.quorum = quorum;
        make(std::move(form));
        const auto created = co_await mirror->create(Init::zero);
        EXPECT_TRUE(created.has_value()) << created.error().text;
    }
    /// Its superblocks.
    static SectorRange superblocks() {
        const SectorIndex first = metadata::superblock_place(kNodeSize, 0)->first;
        return {first, SectorIndex(0) + kNodeSize - first};
    }
    void release(std::size_t at) {
        nodes[at]->holds_bits_back = nodes[at]->holds_superblocks_back = false;
        nodes[at]->holds_reads_back = nodes[at]->holds_data_back = false;
        nodes[at]->link.wake_all();
    }
    /// Whatever it takes to notice that: looks again and again.
    template <typename IsSo>
    Task<void> until(IsSo is_so) {
        const auto deadline = soon();
        while (!is_so() && world.clock.now() < deadline) co_await io::sleep_for(world.clock, 1ms);
        EXPECT_TRUE(is_so());
    }
    Task<void> until_obstacle(std::string_view part) {
        co_await until([&] { return mirror->obstacle().contains(part); });
        EXPECT_NE(mirror->obstacle().find(part), std::string::npos) << mirror->obstacle();
    }
    Task<void> until_reason(std::size_t at, std::string_view part) {
        co_await until([&] { return mirror->nodes()[at].reason.contains(part); });
        EXPECT_NE(mirror->nodes()[at].reason.find(part), std::string::npos)
            << mirror->nodes()[at].reason;
    }
    Task<void> read_some_time(std::uint64_t at, int& content) { content = co_await read(at); }
    Task<void> write_some_time(std::uint64_t at, int fill, bool& done) {
        EXPECT_TRUE((co_await write(at, 8, fill)).has_value());
        done = true;
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
        const auto deadline = world.clock.now() + 8s;
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
        co_await until([&] { return nodes[at]->held_back > 0; });
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
    io::Duration slow = 30s;
    std::vector<std::unique_ptr<FakeNode>> nodes;
    std::unique_ptr<Mirror> mirror;
    async::WaitQueue changes;
    int losses = 0;  // that the mirror told of
};

}  // namespace dst::mirror
