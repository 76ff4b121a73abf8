// Reservations: the rule as a table, the file, and heads that fight over one export through real
// connections.
#include "export/reservation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "export/exporter.h"
#include "io/uring/test_reactor.h"
#include "node/remote.h"

namespace dst::exporter {
namespace {

using namespace std::chrono_literals;
using async::Task;
using block::Op;
using block::Request;
using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr nbd::SessionId kClaimant{.head = 5, .node = 9, .incarnation = 3, .number = 77};

nbd::Reservation held_by(std::uint64_t head, std::uint64_t incarnation, bool is_open,
                         milliseconds gone = 0ms) {
    return {.number = 7,
            .holder = nbd::Holder{.head = head, .incarnation = incarnation, .takeover = 1000ms},
            .is_open = is_open,
            .gone = gone};
}

TEST(Judge, each_case_of_the_rule) {
    struct Case {
        const char* what;
        nbd::Reservation now;
        std::uint64_t expected;
        bool force;
        std::uint64_t number;  // after it; 0: refused
        const char* text = "";
    };
    const Case cases[] = {
        {"nobody holds", {.number = 7}, 7, false, 8},
        {"nobody ever did", {.number = 0}, 0, false, 1},
        {"another number", {.number = 7}, 6, false, 0, "its number is 7, not 6"},
        {"another number, by force", {.number = 7}, 8, true, 0, "its number is 7, not 8"},
        {"itself, connected", held_by(5, 3, true), 7, false, 7},
        {"itself, gone", held_by(5, 3, false, 9999ms), 7, false, 7},
        {"itself, by force", held_by(5, 3, true), 7, true, 7},
        {"its earlier life, connected", held_by(5, 2, true), 7, false, 8},
        {"its earlier life, just gone", held_by(5, 2, false), 7, false, 8},
        {"its later life, connected", held_by(5, 4, true), 7, false, 0, "is connected"},
        {"its later life, just gone", held_by(5, 4, false, 999ms), 7, false, 0, "999 ms"},
        {"its later life, gone for long", held_by(5, 4, false, 1000ms), 7, false, 8},
        {"another head, connected", held_by(6, 1, true), 7, false, 0,
         "head 0000000000000006 (start 1) has it and is connected"},
        {"another head, by force", held_by(6, 1, true), 7, true, 8},
        {"another head, just gone", held_by(6, 1, false, 999ms), 7, false, 0, "after 1000 ms"},
        {"another head, just gone, by force", held_by(6, 1, false, 999ms), 7, true, 8},
        {"another head, gone for its takeover", held_by(6, 1, false, 1000ms), 7, false, 8},
    };
    for (const Case& each : cases) {
        SCOPED_TRACE(each.what);
        const auto judged =
            judge(each.now, kClaimant,
                  {.expected = each.expected, .takeover = 2000ms, .force = each.force});
        ASSERT_EQ(judged.has_value(), each.number != 0);
        if (!judged) {
            EXPECT_THAT(judged.error(), HasSubstr(each.text));
            continue;
        }
        EXPECT_EQ(judged->number, each.number);
        EXPECT_EQ(judged->holder, (nbd::Holder{.head = 5, .incarnation = 3, .takeover = 2000ms}));
    }
}

const Holding kHeld{.number = 12,
                    .holder = nbd::Holder{.head = 0xfeed, .incarnation = 4, .takeover = 10'000ms},
                    .sizes = {SectorCount(2048), SectorCount(4096)}};

TEST(HoldingText, survives_writing_and_reading) {
    const Holding released{.number = 3, .sizes = std::vector(8, SectorCount(~0ULL))};
    for (const Holding& each : {kHeld, released, Holding{}, Holding{.number = ~0ULL}})
        EXPECT_EQ(parse_holding(to_text(each)), each);
    EXPECT_THAT(to_text(kHeld), testing::StartsWith("dst reservation 1\nnumber 12\n"
                                                    "holder 000000000000feed 4 10000\n"
                                                    "size 2048\nsize 4096\ncrc32c "));
}

TEST(HoldingText, each_damage_is_noticed) {
    const std::string good = to_text(kHeld);
    for (std::size_t at = 0; at < good.size(); ++at) {
        EXPECT_FALSE(parse_holding(good.substr(0, at))) << at;
        for (const char wrong : {'0', '7', 'f', ' ', '\n', '\0'}) {
            std::string damaged = good;
            if (damaged[at] == wrong) continue;
            damaged[at] = wrong;
            EXPECT_FALSE(parse_holding(damaged)) << at << ": " << damaged;
        }
    }
    EXPECT_FALSE(parse_holding(good + "\n"));
    EXPECT_FALSE(parse_holding(good + good));
}

/// Files in memory, which can be told to fail.
class Files final : public io::FileSystem {
  public:
    Task<Outcome<std::unique_ptr<io::File>>> open(std::string, io::FileOptions) override {
        co_return refuse("no");
    }
    Outcome<std::string> load(const std::string& path) override {
        if (!files.contains(path)) return refuse(ErrorCode::not_found, "no such file");
        return files[path];
    }
    Outcome<> store(const std::string& path, const std::string& content) override {
        if (fails) return refuse(ErrorCode::no_space, "cannot write " + path);
        files[path] = content;
        return {};
    }
    std::map<std::string, std::string> files;
    bool fails = false;
};

/// A disk that remembers what was written and can hold writes.
class Disk final : public block::Device {
  public:
    block::Geometry geometry() const override { return {.size = SectorCount(8192)}; }
    std::uint64_t instance() const override { return 1; }
    std::uint64_t identity() const override { return id; }
    Task<Result<>> execute(Request& request) override {
        if (request.op == Op::write) ++arrived;
        while (held && request.op == Op::write) co_await gate.wait();
        if (request.op == Op::write) written += static_cast<char>(request.data[0]);
        co_return Result<>{};
    }
    void release() {
        held = false;
        gate.wake_all();
    }
    std::uint64_t id = 0xd15c;
    std::string written;
    std::size_t arrived = 0;  // writes
    bool held = false;
    async::WaitQueue gate;
};

class ReservationTest : public testing::Test {
  public:
    void run_test(Task<void> (*body)(ReservationTest&)) {
        reactor->block_on(
            [](ReservationTest& t, Task<void> (*test)(ReservationTest&)) -> Task<void> {
                co_await t.start();
                co_await test(t);
                t.disk.release();
                for (auto& head : t.heads) co_await head->stop(t.world.clock.now() + 200ms);
                co_await t.scope.join();
                co_await t.end();
            }(*this, body));
    }
    Task<void> start() {
        exporter = std::make_unique<Exporter>(world, connections, "/s/reservations");
        for (const char* name : {"disk0", "again"}) {
            Settings settings{.name = name, .description = {}, .access = {}};
            settings.access.push_back({*io::parse_subnet("127.0.0.0/8"), Access::read_write});
            const Outcome<> added = exporter->add(std::make_unique<Export>(
                settings,
                Target{.device = &disk, .obstacle = {}, .changes = {}, .is_lasting = is_lasting},
                account));
            EXPECT_TRUE(added.has_value()) << added.error().text;
        }
        EXPECT_TRUE(
            (co_await exporter->listen({.host = "127.0.0.1", .port = port, .unix_path = {}}))
                .has_value());
        port = exporter->listening().front().port;
    }
    Task<void> end() {
        co_await exporter->close();
        exporter.reset();
    }
    Task<void> restart() {
        co_await end();
        co_await start();
    }
    /// A head's node, connected.
    Task<node::Remote*> head(std::uint64_t id, std::uint64_t incarnation = 1,
                             const char* name = "disk0") {
        node::RemoteSettings settings;
        settings.endpoint = {.host = "127.0.0.1", .port = port, .unix_path = {}};
        settings.export_name = name;
        heads.push_back(std::make_unique<node::Remote>(
            world, pool, connections, node::HeadIdentity{.id = id, .incarnation = incarnation}, 9,
            settings));
        heads.back()->start(nullptr);
        co_await ready(*heads.back());
        co_return heads.back().get();
    }
    Task<void> ready(node::Remote& remote, std::uint64_t reconnects = 1) {
        co_await until(
            [&] { return remote.is_ready() && remote.status().reconnects >= reconnects; });
    }
    template <typename Condition>
    Task<void> until(Condition holds) {
        const io::TimePoint deadline = world.clock.now() + 5s;
        while (!holds() && world.clock.now() < deadline) co_await io::sleep_for(world.clock, 1ms);
        EXPECT_TRUE(holds()) << "not in time";
    }
    Task<Result<>> write(node::Remote& remote, char fill) {
        block::Buffer buffer = co_await payloads.allocate(kSectorBytes);
        buffer.bytes()[0] = static_cast<std::byte>(fill);
        Request request{.op = Op::write,
                        .range = {SectorIndex(0), SectorCount(1)},
                        .data = buffer.bytes().first(kSectorBytes),
                        .buffer = &buffer};
        co_return co_await remote.execute(request);
    }
    static Task<nbd::Ruling> claim(node::Remote& remote, std::uint64_t expected, bool force = false,
                                   milliseconds takeover = 10'000ms) {
        co_return co_await remote.claim(
            {.expected = expected, .takeover = takeover, .force = force});
    }
    static Task<void> note(Task<nbd::Ruling> task, std::optional<nbd::Ruling>& to) {
        to = co_await std::move(task);
    }
    static Task<void> note_write(Task<Result<>> task, std::optional<Result<>>& to) {
        to = co_await std::move(task);
    }

    io::uring::TestReactor reactor;
    Files files;
    io::World around = reactor->world();
    io::World world{around.clock, around.random, files, around.network, around.queue};
    block::BufferPool pool{64 << 20};
    block::Account connections{pool, 2};
    block::Account payloads{pool, 2};
    block::Account account{pool, 4};
    Disk disk;
    bool is_lasting = true;
    std::uint16_t port = 0;
    std::unique_ptr<Exporter> exporter;
    std::vector<std::unique_ptr<node::Remote>> heads;
    async::Scope scope;
};

TEST_F(ReservationTest, is_claimed_by_one_and_keeps_the_changes_of_others_out) {
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& one = *co_await t.head(1);
        node::Remote& two = *co_await t.head(2);
        EXPECT_EQ(*co_await one.read_reservation(), nbd::Reservation{});
        EXPECT_TRUE((co_await t.write(two, 'a')).has_value()) << "nobody has reserved it";
        const nbd::Ruling granted = co_await t.claim(one, 0);
        EXPECT_TRUE(granted.done.has_value()) << granted.text;
        EXPECT_EQ(granted.now,
                  (nbd::Reservation{
                      .number = 1,
                      .holder = nbd::Holder{.head = 1, .incarnation = 1, .takeover = 10'000ms},
                      .is_open = true,
                      .sizes = {SectorCount(8192)}}));
        EXPECT_EQ(*co_await two.read_reservation(), granted.now);
        EXPECT_TRUE((co_await t.write(one, 'b')).has_value());
        const Result<> kept_out = co_await t.write(two, 'c');
        EXPECT_EQ(kept_out.error().code, ErrorCode::not_permitted);
        // Another export of the same device does not lead around it.
        node::Remote& around = *co_await t.head(2, 1, "again");
        EXPECT_EQ((co_await t.write(around, 'd')).error().code, ErrorCode::not_permitted);
        Request flush{.op = Op::flush};
        EXPECT_TRUE((co_await two.execute(flush)).has_value());
        EXPECT_EQ(t.disk.written, "ab");
        const nbd::Ruling refused = co_await t.claim(two, 1);
        EXPECT_EQ(refused.done.error().code, ErrorCode::not_permitted);
        EXPECT_THAT(refused.text, HasSubstr("head 0000000000000001 (start 1) has it"));
        EXPECT_EQ(refused.now, granted.now);
    });
}

TEST_F(ReservationTest, is_given_up_by_its_holder_alone_and_its_number_stays) {
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& one = *co_await t.head(1);
        node::Remote& two = *co_await t.head(2);
        EXPECT_THAT((co_await one.release(0)).text, HasSubstr("nobody has it"));
        EXPECT_TRUE((co_await t.claim(one, 0)).done.has_value());
        EXPECT_THAT((co_await two.release(1)).text, HasSubstr("head 0000000000000001"));
        EXPECT_THAT((co_await one.release(0)).text, HasSubstr("its number is 1, not 0"));
        const nbd::Ruling released = co_await one.release(1);
        EXPECT_TRUE(released.done.has_value()) << released.text;
        EXPECT_EQ(released.now, (nbd::Reservation{.number = 1, .sizes = {SectorCount(8192)}}));
        EXPECT_TRUE((co_await t.write(two, 'a')).has_value());
        EXPECT_EQ((co_await t.claim(two, 1)).now.number, 2U);
    });
}

TEST_F(ReservationTest, of_who_is_displaced_the_sessions_are_closed_and_it_is_told) {
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& one = *co_await t.head(1);
        node::Remote& two = *co_await t.head(2);
        EXPECT_TRUE((co_await t.claim(one, 0)).done.has_value());
        const nbd::Ruling forced = co_await t.claim(two, 1, true);
        EXPECT_TRUE(forced.done.has_value()) << forced.text;
        EXPECT_EQ(forced.now.number, 2U);
        EXPECT_FALSE(one.is_ready()) << "its session was closed before the answer";
        co_await t.ready(one, 2);
        EXPECT_EQ((co_await one.read_reservation())->holder->head, 2U);
        EXPECT_EQ((co_await t.write(one, 'a')).error().code, ErrorCode::not_permitted);
        EXPECT_TRUE((co_await t.write(two, 'b')).has_value());
    });
}

TEST_F(ReservationTest, goes_to_the_next_life_of_its_head_at_once) {
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& old = *co_await t.head(1, 1, "again");
        EXPECT_TRUE((co_await t.claim(old, 0)).done.has_value());
        node::Remote& next = *co_await t.head(1, 2);
        const nbd::Ruling granted = co_await t.claim(next, 1);
        EXPECT_TRUE(granted.done.has_value()) << granted.text;
        EXPECT_EQ(granted.now.number, 2U);
        EXPECT_FALSE(old.is_ready()) << "it used another export, but the same device";
        // Once more, by the same life: nothing changes.
        EXPECT_EQ((co_await t.claim(next, 2)).now.number, 2U);
    });
}

TEST_F(ReservationTest, is_granted_only_when_nobody_elses_change_is_in_flight) {
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& stray = *co_await t.head(1);
        node::Remote& two = *co_await t.head(2);
        t.disk.held = true;
        std::optional<Result<>> late;
        t.scope.spawn(t.note_write(t.write(stray, 'a'), late));
        co_await t.until([&] { return t.disk.arrived == 1; });
        std::optional<nbd::Ruling> ruling;
        t.scope.spawn(t.note(t.claim(two, 0), ruling));
        co_await t.until([&] { return !t.files.files.empty(); });
        co_await io::sleep_for(t.world.clock, 20ms);
        EXPECT_FALSE(ruling.has_value()) << "an earlier write may still come after the grant";
        EXPECT_EQ((co_await t.write(stray, 'b')).error().code, ErrorCode::not_permitted);
        t.disk.release();
        co_await t.until([&] { return ruling && late; });
        EXPECT_TRUE(ruling->done.has_value());
        EXPECT_TRUE(late->has_value()) << "it was let in before";
        EXPECT_EQ(t.disk.written, "a");
    });
}

TEST_F(ReservationTest, that_was_claimed_while_another_claim_waits_goes_to_the_later) {
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& stray = *co_await t.head(1);
        node::Remote& two = *co_await t.head(2);
        node::Remote& three = *co_await t.head(3);
        t.disk.held = true;
        std::optional<Result<>> late;
        t.scope.spawn(t.note_write(t.write(stray, 'a'), late));
        co_await t.until([&] { return t.disk.arrived == 1; });
        std::optional<nbd::Ruling> second;
        std::optional<nbd::Ruling> third;
        t.scope.spawn(t.note(t.claim(two, 0), second));
        co_await t.until([&] { return !t.files.files.empty(); });
        EXPECT_THAT((co_await t.claim(three, 0)).text, HasSubstr("its number is 1"));
        t.scope.spawn(t.note(t.claim(three, 1, true), third));
        co_await t.until([&] { return second.has_value(); });
        EXPECT_EQ(second->done.error().code, ErrorCode::node_lost) << "its session was closed";
        EXPECT_FALSE(third.has_value());
        t.disk.release();
        co_await t.until([&] { return third.has_value(); });
        EXPECT_TRUE(third->done.has_value()) << third->text;
        EXPECT_EQ(third->now.number, 2U);
    });
}

TEST_F(ReservationTest, of_who_is_gone_for_its_takeover_is_free) {
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& one = *co_await t.head(1);
        node::Remote& two = *co_await t.head(2);
        EXPECT_TRUE((co_await t.claim(one, 0, false, 300ms)).done.has_value());
        co_await one.stop(t.world.clock.now());
        const nbd::Ruling early = co_await t.claim(two, 1);
        EXPECT_THAT(early.text, HasSubstr("has been gone for"));
        EXPECT_FALSE(early.now.is_open);
        co_await t.until(
            [&] { return t.exporter->find("disk0")->reservation()->state().gone >= 300ms; });
        const nbd::Ruling granted = co_await t.claim(two, 1);
        EXPECT_TRUE(granted.done.has_value()) << granted.text;
        EXPECT_EQ(granted.now.number, 2U);
    });
}

TEST_F(ReservationTest, of_who_is_silent_for_its_takeover_is_free_though_its_link_looks_open) {
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& one = *co_await t.head(1);
        node::Remote& two = *co_await t.head(2);
        // It says nothing for a second, then pings.
        EXPECT_TRUE((co_await t.claim(one, 0, false, 200ms)).done.has_value());
        EXPECT_FALSE((co_await t.claim(two, 1)).done.has_value());
        co_await t.until(
            [&] { return !t.exporter->find("disk0")->reservation()->state().is_open; });
        const nbd::Ruling granted = co_await t.claim(two, 1);
        EXPECT_TRUE(granted.done.has_value()) << granted.text;
        EXPECT_FALSE(one.is_ready()) << "its session was closed all the same";
    });
}

TEST_F(ReservationTest, survives_a_restart_of_the_exporter) {
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& one = *co_await t.head(1);
        EXPECT_TRUE((co_await t.claim(one, 0)).done.has_value());
        EXPECT_TRUE((co_await one.release(1)).done.has_value());
        EXPECT_EQ((co_await t.claim(one, 1)).now.number, 2U);
        EXPECT_TRUE(t.files.files.contains("/s/reservations/device-000000000000d15c"));
        co_await one.stop(t.world.clock.now());
        co_await t.restart();
        node::Remote& two = *co_await t.head(2);
        const auto told = co_await two.read_reservation();
        EXPECT_EQ(told->number, 2U);
        EXPECT_TRUE(told->holder && told->holder->head == 1);
        EXPECT_FALSE(told->is_open);
        EXPECT_LT(told->gone, 5000ms) << "it counts from the exporter's start";
        EXPECT_EQ((co_await t.write(two, 'a')).error().code, ErrorCode::not_permitted);
        EXPECT_FALSE((co_await t.claim(two, 2)).done.has_value());
        EXPECT_EQ((co_await t.claim(two, 2, true)).now.number, 3U);
    });
}

TEST_F(ReservationTest, of_memory_ends_with_its_exporter) {
    is_lasting = false;
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& one = *co_await t.head(1);
        EXPECT_EQ((co_await t.claim(one, 0)).now.number, 1U);
        EXPECT_TRUE(t.files.files.empty());
        co_await one.stop(t.world.clock.now());
        co_await t.restart();
        EXPECT_EQ(*co_await (*co_await t.head(2)).read_reservation(), nbd::Reservation{});
    });
}

TEST_F(ReservationTest, that_can_not_be_kept_is_not_granted_nor_given_up) {
    run_test([](ReservationTest& t) -> Task<void> {
        node::Remote& one = *co_await t.head(1);
        t.files.fails = true;
        const nbd::Ruling failed = co_await t.claim(one, 0);
        EXPECT_EQ(failed.done.error().code, ErrorCode::io_error);
        EXPECT_THAT(failed.text, HasSubstr("cannot write"));
        EXPECT_EQ(*co_await one.read_reservation(), nbd::Reservation{});
        t.files.fails = false;
        EXPECT_TRUE((co_await t.claim(one, 0)).done.has_value());
        t.files.fails = true;
        EXPECT_EQ((co_await one.release(1)).done.error().code, ErrorCode::io_error);
        EXPECT_TRUE((co_await one.read_reservation())->holder.has_value());
        t.files.fails = false;
    });
}

TEST_F(ReservationTest, that_is_damaged_is_refused_with_a_way_back_and_left_alone) {
    const std::string path = "/s/reservations/device-000000000000d15c";
    for (const char* text : {"", "dst reservation 1\nnumber 7\ncrc32c 00000000\n", "rubbish"}) {
        files.files[path] = text;
        Reservations all(world, "/s/reservations");
        const auto found = all.of("device-000000000000d15c", true);
        ASSERT_FALSE(found.has_value());
        EXPECT_THAT(found.error().text, testing::AllOf(HasSubstr(path), HasSubstr("remove it")));
        EXPECT_EQ(files.files[path], text);
        EXPECT_TRUE(all.of("device-000000000000d15c", false).has_value());
    }
}

}  // namespace
}  // namespace dst::exporter
