// A mirror over exporters of which another head has some: it takes those that it may have, and
// leaves the others to whom they belong (design §7, rules 8 and 9).
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "algorithm/registry.h"
#include "export/exporter.h"
#include "io/uring/test_reactor.h"
#include "node/local.h"
#include "node/remote.h"
#include "storage/mirrored.h"

namespace dst::exporter {
namespace {

using namespace std::chrono_literals;
using async::Task;

constexpr std::uint64_t kOther = 9;  // the id of the other head

/// A disk that takes as long as one wants for one change.
class HeldDisk final : public block::Device {
  public:
    explicit HeldDisk(std::uint64_t id) : disk_(SectorCount(8192), id) {}
    [[nodiscard]] block::Geometry geometry() const override { return disk_.geometry(); }
    [[nodiscard]] std::uint64_t instance() const override { return disk_.instance(); }
    [[nodiscard]] std::uint64_t identity() const override { return disk_.identity(); }
    Task<Result<>> execute(block::Request& request) override {
        if (block::is_change(request.op) && std::exchange(holds_next, false)) {
            holds = true;
            while (holds) co_await calmed.wait();
        }
        co_return co_await disk_.execute(request);
    }
    void let_go() {
        holds = false;
        calmed.wake_all();
    }

    bool holds_next = false;
    bool holds = false;

  private:
    node::MemoryDevice disk_;
    async::WaitQueue calmed;
};

class TakeoverTest : public testing::Test {
  public:
    void run_test(Task<void> (*body)(TakeoverTest&)) {
        reactor->block_on([](TakeoverTest& t, Task<void> (*test)(TakeoverTest&)) -> Task<void> {
            co_await t.start();
            co_await test(t);
            if (t.storage != nullptr && t.storage->is_started())
                co_await t.storage->stop(t.world.clock.now() + 2s);
            for (auto& head : t.heads) co_await head->stop(t.world.clock.now() + 200ms);
            co_await t.exporter->close();
            t.exporter.reset();
        }(*this, body));
        storage.reset();
    }
    Task<void> start() {
        exporter = std::make_unique<Exporter>(world, connections);
        for (auto& disk : disks) {
            Settings settings{.name = "disk" + std::to_string(&disk - disks.data()),
                              .description = {},
                              .access = {}};
            settings.access.push_back({*io::parse_subnet("127.0.0.0/8"), Access::read_write});
            const Outcome<> added = exporter->add(std::make_unique<Export>(
                settings,
                Target{.device = disk.get(), .obstacle = {}, .changes = {}, .is_lasting = false},
                account));
            EXPECT_TRUE(added.has_value()) << added.error().text;
        }
        EXPECT_TRUE((co_await exporter->listen({.host = "127.0.0.1", .port = 0, .unix_path = {}}))
                        .has_value());
        endpoint = {
            .host = "127.0.0.1", .port = exporter->listening().front().port, .unix_path = {}};
    }
    void make_storage(std::optional<metadata::Quorum> quorum = {}) {
        storage::Settings settings{
            .name = "vol", .algorithm = "mirror", .options = {}, .members = {}, .hold = {}};
        for (std::size_t at = 0; at < disks.size(); ++at) {
            const std::string name = "disk" + std::to_string(at);
            settings.members.push_back(
                {.place = storage::RemotePlace{.endpoint = endpoint, .export_name = name},
                 .size_max = {},
                 .type = "R: " + name});
        }
        settings.mirror.quorum = quorum;
        storage = std::make_unique<storage::MirroredStorage>(around, std::move(settings));
    }
    /// Another head's node, which has claimed its disk.
    Task<void> other_takes(std::size_t at, io::Duration takeover = 10s) {
        node::RemoteSettings settings;
        settings.endpoint = endpoint;
        settings.export_name = "disk" + std::to_string(at);
        heads.push_back(std::make_unique<node::Remote>(
            world, pool, connections, node::HeadIdentity{.id = kOther, .incarnation = 1}, 1,
            settings));
        node::Remote& remote = *heads.back();
        remote.start(nullptr);
        const io::TimePoint deadline = world.clock.now() + 5s;
        while (!remote.is_ready() && world.clock.now() < deadline)
            co_await io::sleep_for(world.clock, 1ms);
        const auto now = co_await remote.read_reservation();
        EXPECT_TRUE(now.has_value());
        if (!now) co_return;
        const nbd::Ruling ruling = co_await remote.claim(
            {.expected = now->number,
             .takeover = std::chrono::duration_cast<std::chrono::milliseconds>(takeover),
             .force = false});
        EXPECT_TRUE(ruling.done.has_value()) << ruling.text;
    }
    std::uint64_t holder(std::size_t at) const {
        const auto state =
            exporter->find("disk" + std::to_string(at))->reservation()->state().holder;
        return state ? state->head : 0;
    }

    io::uring::TestReactor reactor;
    io::World world = reactor->world();
    block::BufferPool pool{128 << 20};
    block::Account connections{pool, 2};
    block::Account account{pool, 4};
    algorithm::Registry registry;
    storage::Surroundings around{
        world, pool, connections, registry, {.id = 3, .incarnation = 1}, {world, ""}};
    std::vector<std::unique_ptr<HeldDisk>> disks = [] {
        std::vector<std::unique_ptr<HeldDisk>> made;
        for (std::uint64_t id = 1; id <= 3; ++id) made.push_back(std::make_unique<HeldDisk>(id));
        return made;
    }();
    std::unique_ptr<Exporter> exporter;
    io::Endpoint endpoint;
    std::unique_ptr<storage::MirroredStorage> storage;
    std::vector<std::unique_ptr<node::Remote>> heads;
};

TEST_F(TakeoverTest, a_majority_is_enough_though_another_head_holds_the_rest) {
    run_test([](TakeoverTest& t) -> Task<void> {
        t.make_storage();
        EXPECT_TRUE(t.storage->start({}).has_value());
        auto formed = co_await t.storage->formed(t.world.clock.now() + 5s);
        EXPECT_TRUE(formed.has_value()) << formed.error().text;
        EXPECT_TRUE((co_await t.storage->stop(t.world.clock.now() + 5s)).has_value());
        for (std::size_t at = 0; at < 3; ++at) EXPECT_EQ(t.holder(at), 0U);
        co_await t.other_takes(0);

        EXPECT_TRUE(t.storage->start({}).has_value());
        formed = co_await t.storage->formed(t.world.clock.now() + 5s);
        EXPECT_TRUE(formed.has_value()) << formed.error().text;
        EXPECT_EQ(t.holder(0), kOther) << "it is connected: displaced only by force";
        EXPECT_EQ(t.holder(1), 3U);
        EXPECT_EQ(t.holder(2), 3U);
    });
}

TEST_F(TakeoverTest, who_can_not_start_claims_nothing) {
    run_test([](TakeoverTest& t) -> Task<void> {
        t.make_storage();
        EXPECT_TRUE(t.storage->start({}).has_value());
        auto formed = co_await t.storage->formed(t.world.clock.now() + 5s);
        EXPECT_TRUE(formed.has_value()) << formed.error().text;
        EXPECT_TRUE((co_await t.storage->stop(t.world.clock.now() + 5s)).has_value());
        co_await t.other_takes(0);
        co_await t.other_takes(2);

        EXPECT_TRUE(t.storage->start({}).has_value());
        formed = co_await t.storage->formed(t.world.clock.now() + 2s);
        EXPECT_FALSE(formed.has_value());
        EXPECT_EQ(t.holder(0), kOther);
        EXPECT_EQ(t.holder(1), 0U);
        EXPECT_EQ(t.holder(2), kOther);
    });
}

/// The exporter answers a claim when nothing of others is in flight. If the connection breaks
/// before, the new head finds itself the holder, and still has to wait.
TEST_F(TakeoverTest, a_claim_that_was_not_answered_grants_nothing) {
    run_test([](TakeoverTest& t) -> Task<void> {
        t.make_storage(metadata::Quorum::none);  // it can't do without the first disk
        EXPECT_TRUE(t.storage->start({}).has_value());
        EXPECT_TRUE((co_await t.storage->formed(t.world.clock.now() + 5s)).has_value());
        EXPECT_TRUE((co_await t.storage->stop(t.world.clock.now() + 5s)).has_value());

        // A change of another head is on its way to the first disk.
        const io::TimePoint deadline = t.world.clock.now() + 5s;
        co_await t.other_takes(0, 1ms);
        HeldDisk& disk = *t.disks[0];
        disk.holds_next = true;
        async::Scope scope;
        scope.spawn([](node::Remote& remote) -> Task<void> {
            block::Request request{.op = block::Op::write_zeroes,
                                   .range = {SectorIndex(0), SectorCount(8)}};
            static_cast<void>(co_await remote.execute(request));
        }(*t.heads.back()));
        while (!disk.holds && t.world.clock.now() < deadline)
            co_await io::sleep_for(t.world.clock, 1ms);
        EXPECT_TRUE(disk.holds);
        t.heads.back()->abandon();
        co_await scope.join();

        EXPECT_TRUE(t.storage->start({}).has_value());
        const auto is_recorded = [&t] {
            const auto holder = t.exporter->find("disk0")->reservation()->state().holder;
            return holder && holder->is(3, 1);
        };
        while (!is_recorded() && t.world.clock.now() < deadline)
            co_await io::sleep_for(t.world.clock, 1ms);
        EXPECT_TRUE(is_recorded());
        for (const auto& guest : t.exporter->find("disk0")->guests())
            if (guest.id && guest.id->head == 3) guest.session->close("test");
        EXPECT_FALSE((co_await t.storage->formed(t.world.clock.now() + 3s)).has_value());
        disk.let_go();
        const auto formed = co_await t.storage->formed(t.world.clock.now() + 5s);
        EXPECT_TRUE(formed.has_value()) << formed.error().text;
    });
}

}  // namespace
}  // namespace dst::exporter
