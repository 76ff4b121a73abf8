// Storages made of files, memory, other storages and remote nodes: forming, growing, stopping,
// waiting for what is missing, what they say of themselves, and that overlapping requests are
// ordered.
#include "storage/storage.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <list>
#include <random>

#include "algorithm/linear.h"
#include "io/uring/test_reactor.h"
#include "nbd/server_session.h"
#include "storage/plain.h"

namespace dst::storage {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using async::Task;
using block::Op;
using block::Request;

std::string some_folder() {
    std::string name = (fs::temp_directory_path() / "dst_storage_XXXXXX").string();
    return ::mkdtemp(name.data());
}

class StorageTest : public testing::Test {
  public:
    StorageTest() {
        EXPECT_TRUE(registry.register_algorithm("linear", "", algorithm::make_linear).has_value());
    }
    ~StorageTest() override { fs::remove_all(folder); }

    void run_test(Task<void> (*body)(StorageTest&)) {
        reactor->block_on([](StorageTest& t, Task<void> (*test)(StorageTest&)) -> Task<void> {
            co_await test(t);
            for (auto storage = t.storages.rbegin(); storage != t.storages.rend(); ++storage)
                if ((*storage)->is_started()) co_await (*storage)->stop(t.now() + 1s);
            co_await t.scope.join();
        }(*this, body));
        storages.clear();
    }
    io::TimePoint now() const { return around.world.clock.now(); }

    std::string path(const std::string& name) const { return folder + "/" + name; }
    MemberSpec file(const std::string& name, std::optional<std::uint64_t> sectors = {}) const {
        if (sectors) {
            std::ofstream(path(name)).close();
            fs::resize_file(path(name), *sectors * kSectorBytes);
        }
        return {.place = FilePlace{.path = path(name)}, .size_max = {}, .type = "L: " + path(name)};
    }
    static MemberSpec memory(std::uint64_t sectors, std::optional<std::uint64_t> most = {}) {
        MemberSpec spec{.place = MemoryPlace{ByteCount(sectors * kSectorBytes)},
                        .size_max = {},
                        .type = "L: memory"};
        if (most) spec.size_max = SectorCount(*most);
        return spec;
    }
    static MemberSpec on(Storage& below) {
        return {
            .place = StoragePlace{&below}, .size_max = {}, .type = "L: storage:" + below.name()};
    }
    Storage& make(const std::string& name, std::vector<MemberSpec> members) {
        storages.push_back(make_storage(around, Settings{.name = name,
                                                         .algorithm = "linear",
                                                         .options = {},
                                                         .members = std::move(members),
                                                         .hold = {}}));
        return *storages.back();
    }
    Task<void> form(Storage& storage) {
        EXPECT_TRUE(storage.start().has_value());
        const auto formed = co_await storage.formed(now() + 3s);
        EXPECT_TRUE(formed.has_value()) << formed.error().text;
    }
    template <typename Condition>
    Task<bool> until(Storage& storage, Condition holds, io::Duration limit = 5s) {
        const io::TimePoint deadline = now() + limit;
        while (!holds() && now() < deadline)
            co_await io::wait_for(around.world.clock, storage.changes(), 5ms);
        EXPECT_TRUE(holds()) << storage.status().reason;
        co_return holds();
    }
    Task<Result<>> write(block::Device& device, std::uint64_t at, std::uint64_t count, char fill) {
        block::Buffer buffer = co_await payloads.allocate(count * kSectorBytes);
        std::ranges::fill(buffer.bytes(), static_cast<std::byte>(fill));
        Request request{.op = Op::write,
                        .range = {SectorIndex(at), SectorCount(count)},
                        .data = buffer.bytes().first(count * kSectorBytes),
                        .buffer = &buffer};
        co_return co_await device.execute(request);
    }
    Task<std::string> read(block::Device& device, std::uint64_t at, std::uint64_t count) {
        block::Buffer buffer = co_await payloads.allocate(count * kSectorBytes);
        Request request{.op = Op::read,
                        .range = {SectorIndex(at), SectorCount(count)},
                        .data = buffer.bytes().first(count * kSectorBytes)};
        const auto done = co_await device.execute(request);
        EXPECT_TRUE(done.has_value());
        std::string letters;
        for (std::uint64_t i = 0; i < count; ++i)
            letters += static_cast<char>(request.data[i * kSectorBytes]);
        co_return letters;
    }

    const std::string folder = some_folder();
    io::uring::TestReactor reactor;
    block::BufferPool pool{32 << 20};
    block::Account connections{pool, 2};
    block::Account payloads{pool, 4};
    algorithm::Registry registry;
    Surroundings around{
        reactor->world(),      pool, connections, registry, {.id = 3, .incarnation = 1},
        {reactor->world(), ""}};
    std::vector<std::unique_ptr<Storage>> storages;
    async::Scope scope;
};

TEST_F(StorageTest, files_and_memory_stand_end_to_end) {
    run_test([](StorageTest& t) -> Task<void> {
        Storage& storage = t.make("v", {t.file("a", 64), t.memory(100, 32), t.file("b", 64)});
        co_await t.form(storage);
        EXPECT_EQ(storage.geometry().size, SectorCount(64 + 32 + 64));
        EXPECT_TRUE((co_await t.write(storage, 56, 48, 'x')).has_value());
        EXPECT_EQ(co_await t.read(storage, 48, 64),
                  std::string(8, '\0') + std::string(48, 'x') + std::string(8, '\0'));
        const StorageStatus status = storage.status();
        EXPECT_EQ(status.nodes.size(), 3U);
        EXPECT_EQ(status.nodes[1].start, SectorIndex(64));
        EXPECT_EQ(status.nodes[2].start, SectorIndex(96));
        EXPECT_NE(status.nodes[0].cookie, status.nodes[2].cookie);
        const std::uint64_t cookie = status.nodes[2].cookie;
        co_await storage.stop(t.now() + 1s);
        std::ifstream file(t.path("b"));
        EXPECT_EQ(file.get(), 'x') << "the last file begins with the end of what was written";
        co_await t.form(storage);
        EXPECT_EQ(storage.status().nodes[2].cookie, cookie);
        EXPECT_EQ(co_await t.read(storage, 56, 8), "xxxxxxxx") << "files keep what they have";
        EXPECT_EQ(co_await t.read(storage, 64, 1), std::string(1, '\0')) << "memory does not";
    });
}

TEST_F(StorageTest, storages_stack_two_deep) {
    run_test([](StorageTest& t) -> Task<void> {
        Storage& first = t.make("first", {t.memory(40), t.file("a", 24)});
        Storage& second = t.make("second", {t.memory(64)});
        Storage& middle = t.make("middle", {t.on(first), t.memory(16)});
        Storage& top = t.make("top", {t.on(middle), t.on(second)});
        EXPECT_TRUE(top.start().has_value());
        EXPECT_TRUE(middle.start().has_value());
        EXPECT_EQ(top.status().state, State::waiting);
        EXPECT_NE(top.obstacle().find("middle"), std::string::npos) << top.obstacle();
        co_await t.form(second);
        co_await t.form(first);
        const auto formed = co_await top.formed(t.now() + 3s);
        EXPECT_TRUE(formed.has_value()) << formed.error().text;
        EXPECT_EQ(top.geometry().size, SectorCount(64 + 16 + 64));
        EXPECT_TRUE((co_await t.write(top, 30, 100, 'd')).has_value());
        EXPECT_EQ(co_await t.read(first, 39, 2), "dd");
        EXPECT_EQ(co_await t.read(second, 48, 4), std::string("dd\0\0", 4));
        Request flush{.op = Op::flush};
        EXPECT_TRUE((co_await top.execute(flush)).has_value());
    });
}

Task<void> write_for_ever(StorageTest& t, Storage& storage, const bool& stop, std::size_t& count) {
    while (!stop) {
        EXPECT_TRUE((co_await t.write(storage, count % 56, 8, 'w')).has_value());
        ++count;
        co_await async::yield();
    }
}

TEST_F(StorageTest, a_node_is_added_while_requests_run) {
    run_test([](StorageTest& t) -> Task<void> {
        Storage& storage = t.make("v", {t.file("a", 64)});
        co_await t.form(storage);
        bool stop = false;
        std::size_t count = 0;
        t.scope.spawn(write_for_ever(t, storage, stop, count));
        for (int i = 0; i < 5; ++i) {
            const std::size_t before = count;
            const MemberSpec spec = i % 2 == 0 ? t.file("n" + std::to_string(i), 32) : t.memory(32);
            const auto added = co_await storage.add_node(spec, {}, t.now() + 2s);
            EXPECT_TRUE(added.has_value()) << added.error().text;
            const auto end = static_cast<std::uint64_t>(64 + i * 32);
            EXPECT_EQ(storage.geometry().size, SectorCount(end + 32));
            EXPECT_TRUE((co_await t.write(storage, end - 8, 16, 'n')).has_value());
            co_await t.until(storage, [&] { return count > before; });
        }
        stop = true;
        co_await t.scope.join();
        EXPECT_EQ(storage.settings().members.size(), 6U);
        co_await storage.stop(t.now() + 1s);
        co_await t.form(storage);
        EXPECT_EQ(storage.geometry().size, SectorCount(64 + 5 * 32)) << "what was added stays";
    });
}

TEST_F(StorageTest, a_node_that_can_not_be_had_is_not_added_and_nothing_has_changed) {
    run_test([](StorageTest& t) -> Task<void> {
        Storage& storage = t.make("v", {t.memory(64)});
        const auto early = co_await storage.add_node(t.memory(8), {}, t.now() + 1s);
        EXPECT_FALSE(early.has_value());
        co_await t.form(storage);
        const io::TimePoint before = t.now();
        const auto added = co_await storage.add_node(t.file("missing"), {}, t.now() + 5s);
        EXPECT_FALSE(added.has_value());
        EXPECT_NE(added.error().text.find(t.path("missing")), std::string::npos);
        EXPECT_LT(t.now() - before, 1s) << "waiting won't help whoever asks";
        const auto empty = co_await storage.add_node(t.memory(0), {}, t.now() + 1s);
        EXPECT_FALSE(empty.has_value());
        MemberSpec remote{
            .place = RemotePlace{.endpoint = {.host = "127.0.0.1", .port = 1, .unix_path = {}},
                                 .export_name = "x"},
            .size_max = {},
            .type = "R: x"};
        EXPECT_FALSE((co_await storage.add_node(remote, {}, t.now() + 300ms)).has_value());
        EXPECT_EQ(storage.geometry().size, SectorCount(64));
        EXPECT_EQ(storage.status().nodes.size(), 1U);
        EXPECT_EQ(storage.settings().members.size(), 1U);
        EXPECT_TRUE((co_await t.write(storage, 0, 64, 'x')).has_value());
    });
}

TEST_F(StorageTest, a_missing_file_is_named_and_waited_for) {
    run_test([](StorageTest& t) -> Task<void> {
        Storage& storage = t.make("v", {t.memory(64), t.file("late")});
        EXPECT_TRUE(storage.start().has_value());
        const auto formed = co_await storage.formed(t.now() + 5s);
        EXPECT_FALSE(formed.has_value());
        EXPECT_NE(formed.error().text.find(t.path("late")), std::string::npos)
            << formed.error().text;
        EXPECT_EQ(storage.status().state, State::waiting);
        EXPECT_NE(storage.status().reason.find(t.path("late")), std::string::npos);
        EXPECT_NE(storage.obstacle().find(t.path("late")), std::string::npos);
        Request read{.op = Op::flush};
        EXPECT_EQ((co_await storage.execute(read)).error().code, ErrorCode::shutting_down);
        (void)t.file("late", 64);
        co_await t.until(storage, [&] { return storage.is_formed(); });
        EXPECT_EQ(storage.geometry().size, SectorCount(128));
        EXPECT_EQ(storage.status().state, State::running);
        EXPECT_EQ(storage.obstacle(), "");
    });
}

TEST_F(StorageTest, a_storage_that_waits_is_stopped_in_time_and_can_start_again) {
    run_test([](StorageTest& t) -> Task<void> {
        Storage& below = t.make("below", {t.memory(8)});
        Storage& storage = t.make("v", {t.memory(64), t.file("late"), t.on(below)});
        for (int i = 0; i < 2; ++i) {
            EXPECT_TRUE(storage.start().has_value());
            co_await io::sleep_for(t.around.world.clock, 20ms);
            const io::TimePoint before = t.now();
            co_await storage.stop(t.now() + 1s);
            EXPECT_LT(t.now() - before, 1s);
            EXPECT_EQ(storage.status().state, State::stopped);
            EXPECT_FALSE(storage.is_started());
            const auto waited = co_await storage.formed(t.now() + 1s);
            EXPECT_EQ(waited.error().code, ErrorCode::busy) << "it is nobody's end";
            EXPECT_NE(waited.error().text.find("dst storage start v"), std::string::npos);
        }
        co_await t.form(below);
        (void)t.file("late", 8);
        co_await t.form(storage);
        EXPECT_EQ(storage.geometry().size, SectorCount(80));
    });
}

TEST_F(StorageTest, each_start_is_another_instance_of_the_same_disk) {
    run_test([](StorageTest& t) -> Task<void> {
        Storage& storage = t.make("v", {t.file("a", 64)});
        co_await t.form(storage);
        const std::uint64_t instance = storage.instance();
        const std::uint64_t identity = storage.identity();
        EXPECT_NE(instance, 0U);
        EXPECT_NE(identity, 0U);
        co_await storage.stop(t.now() + 1s);
        EXPECT_EQ(storage.geometry().size, SectorCount(0));
        co_await t.form(storage);
        EXPECT_NE(storage.instance(), instance);
        EXPECT_EQ(storage.identity(), identity);
    });
}

TEST_F(StorageTest, an_unknown_algorithm_or_a_bad_option_is_refused_and_nothing_has_begun) {
    PlainStorage unknown(
        around,
        {.name = "v", .algorithm = "striped", .options = {}, .members = {memory(8)}, .hold = {}});
    const auto started = unknown.start({});
    ASSERT_FALSE(started.has_value());
    EXPECT_NE(started.error().text.find("striped"), std::string::npos);
    EXPECT_FALSE(unknown.is_started());
    PlainStorage bad(around, {.name = "v",
                              .algorithm = "linear",
                              .options = {{"no", "such"}},
                              .members = {memory(8)},
                              .hold = {}});
    EXPECT_FALSE(bad.start({}).has_value());
    EXPECT_EQ(bad.status().state, State::stopped);
}

/// A server of our kind with one disk, for a remote node.
class Peer final : public nbd::ExportSource {
  public:
    explicit Peer(StorageTest& t) : t_(t), payloads_(t.pool, 4), receiving_(t.pool, 1) {}
    Task<void> start() {
        auto listening = co_await t_.around.world.network.listen(endpoint);
        EXPECT_TRUE(listening.has_value()) << listening.error().text;
        listener_ = std::move(*listening);
        endpoint = listener_->endpoint();
        scope_.spawn(accept_all());
    }
    Task<void> stop() {
        if (listener_) listener_->close();
        for (nbd::ServerSession* session : std::vector(sessions_)) session->close("stopped");
        co_await scope_.join();
        listener_.reset();
    }
    io::Endpoint endpoint{.host = "127.0.0.1", .port = 0, .unix_path = {}};

  private:
    struct Shown final : nbd::Served {
        explicit Shown(Peer& peer) : of(peer) {}
        block::Device& device() override { return of.disk_; }
        block::Account& account() override { return of.payloads_; }
        nbd::ExportInfo info() const override {
            return {.name = "d",
                    .size = to_bytes(of.disk_.geometry().size),
                    .flags = nbd::kFlagHasFlags | nbd::kFlagSendFlush | nbd::kFlagSendFua};
        }
        Peer& of;
    };
    std::vector<nbd::ExportListing> list(const io::Address&) override { return {}; }
    Task<std::expected<std::unique_ptr<nbd::Served>, nbd::Refusal>> select(
        std::string, nbd::ServerSession&) override {
        co_return std::make_unique<Shown>(*this);
    }
    Task<std::expected<nbd::HelloAnswer, nbd::Refusal>> hello(nbd::Hello,
                                                              nbd::ServerSession&) override {
        co_return nbd::HelloAnswer{.checksums = true, .instance = 11, .requests_max = 256};
    }
    Task<void> accept_all() {
        while (auto stream = co_await listener_->accept()) scope_.spawn(serve(std::move(*stream)));
    }
    Task<void> serve(std::unique_ptr<io::Stream> stream) {
        nbd::ServerSession session(t_.around.world, std::move(stream), *this, receiving_);
        sessions_.push_back(&session);
        co_await session.run();
        std::erase(sessions_, &session);
    }

    StorageTest& t_;
    block::Account payloads_;
    block::Account receiving_;
    node::MemoryDevice disk_{SectorCount(64), 11};
    std::unique_ptr<io::Listener> listener_;
    std::vector<nbd::ServerSession*> sessions_;
    async::Scope scope_;
};

Task<void> write_once(StorageTest& t, Storage& storage, std::optional<Result<>>& answer) {
    answer = co_await t.write(storage, 70, 8, 'r');
}

TEST_F(StorageTest, status_says_in_each_state_what_is_the_matter) {
    run_test([](StorageTest& t) -> Task<void> {
        Peer peer(t);
        co_await peer.start();
        MemberSpec remote{.place = RemotePlace{.endpoint = peer.endpoint, .export_name = "d"},
                          .size_max = {},
                          .type = "R: there/d"};
        Storage& storage = t.make("v", {t.memory(64), remote});
        StorageStatus status = storage.status();
        EXPECT_EQ(status.state, State::stopped);
        EXPECT_NE(status.reason.find("dst storage start v"), std::string::npos);
        co_await peer.stop();

        EXPECT_TRUE(storage.start().has_value());
        co_await t.until(
            storage, [&] { return storage.status().reason.find("refused") != std::string::npos; });
        status = storage.status();
        EXPECT_EQ(status.state, State::waiting);
        EXPECT_NE(status.reason.find("R: there/d"), std::string::npos) << status.reason;
        EXPECT_EQ(status.nodes.size(), 2U);
        EXPECT_TRUE(status.nodes[0].connected);
        EXPECT_FALSE(status.nodes[1].connected);

        co_await peer.start();
        co_await t.until(storage, [&] { return storage.is_formed(); });
        status = storage.status();
        EXPECT_EQ(status.state, State::running);
        EXPECT_EQ(status.nodes[1].flags, (std::vector<std::string>{"connected", "checksum"}));
        EXPECT_EQ(status.size, SectorCount(128));

        co_await peer.stop();
        co_await t.until(storage, [&] { return storage.status().state == State::degraded; });
        EXPECT_NE(storage.status().reason.find("R: there/d"), std::string::npos);
        EXPECT_TRUE((co_await t.write(storage, 0, 64, 'm')).has_value()) << "the rest goes on";

        std::optional<Result<>> answer;
        t.scope.spawn(write_once(t, storage, answer));
        co_await t.until(storage, [&] { return storage.status().state == State::holding; });
        EXPECT_NE(storage.status().reason.find("1 request waits for R: there/d"), std::string::npos)
            << storage.status().reason;
        EXPECT_FALSE(answer.has_value());

        co_await peer.start();
        co_await t.until(storage, [&] { return answer.has_value(); });
        EXPECT_TRUE(answer->has_value());
        EXPECT_EQ(storage.status().state, State::running);

        co_await peer.stop();
        answer.reset();
        t.scope.spawn(write_once(t, storage, answer));
        co_await t.until(storage, [&] { return storage.status().state == State::holding; });
        const io::TimePoint before = t.now();
        co_await storage.stop(t.now() + 200ms);
        EXPECT_LT(t.now() - before, 1500ms);
        co_await t.scope.join();
        EXPECT_EQ(answer->error().code, ErrorCode::cancelled) << "what waited was told";
        EXPECT_EQ(storage.status().state, State::stopped);
        co_await peer.stop();
    });
}

/// Linear on memory whose answers come late and in another order; looks out for overlaps.
class LateLinear final : public algorithm::Algorithm {
  public:
    explicit LateLinear(std::uint64_t seed) : random_(seed) {}
    Outcome<> add_node(node::Node& node) override { return linear_.add_node(node); }
    void del_node(node::Node& node) override { linear_.del_node(node); }
    block::Geometry geometry() const override { return linear_.geometry(); }
    Task<algorithm::Recovery> error(node::Node& node, Error error) override {
        return linear_.error(node, error);
    }
    Task<Result<>> remap(Request& request) override {
        if (request.op == Op::flush) co_return co_await linear_.remap(request);
        for (const auto& [range, changes] : in_flight_)
            EXPECT_FALSE(range.overlaps(request.range) && (changes || block::is_change(request.op)))
                << "two overlapping requests of which one is a change";
        const auto mine =
            in_flight_.insert(in_flight_.end(), {request.range, block::is_change(request.op)});
        for (auto turns = random_() % 6; turns > 0; --turns) co_await async::yield();
        const Result<> done = co_await linear_.remap(request);
        for (auto turns = random_() % 6; turns > 0; --turns) co_await async::yield();
        in_flight_.erase(mine);
        co_return done;
    }

  private:
    struct InFlight {
        SectorRange range;
        bool changes;
    };
    std::mt19937_64 random_;
    algorithm::Linear linear_;
    std::list<InFlight> in_flight_;
};

/// One request; what it must find is what the requests submitted before it have left.
Task<void> one_request(StorageTest& t, Storage& storage, Op op, std::uint64_t at,
                       std::uint64_t count, char fill, std::string expected, std::size_t& running) {
    ++running;
    if (op == Op::write) {
        EXPECT_TRUE((co_await t.write(storage, at, count, fill)).has_value());
    } else if (op == Op::read) {
        EXPECT_EQ(co_await t.read(storage, at, count), expected);
    } else {
        Request request{.op = op, .range = {SectorIndex(at), SectorCount(count)}};
        EXPECT_TRUE((co_await storage.execute(request)).has_value());
    }
    --running;
}

TEST_F(StorageTest, overlapping_requests_take_effect_in_the_order_of_their_coming) {
    run_test([](StorageTest& t) -> Task<void> {
        const std::uint64_t seed = std::random_device{}();
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 random(seed);
        EXPECT_TRUE(t.registry
                        .register_algorithm("late", "",
                                            [seed](const algorithm::Options&)
                                                -> Outcome<std::unique_ptr<algorithm::Algorithm>> {
                                                return std::make_unique<LateLinear>(seed);
                                            })
                        .has_value());
        t.storages.push_back(std::make_unique<PlainStorage>(
            t.around, Settings{.name = "v",
                               .algorithm = "late",
                               .options = {},
                               .members = {t.memory(100), t.file("a", 104), t.memory(400)},
                               .hold = {}}));
        Storage& storage = *t.storages.back();
        co_await t.form(storage);
        const std::uint64_t size = storage.geometry().size.value();
        std::string model(size, '\0');
        std::size_t running = 0;
        for (int i = 0; i < 10'000; ++i) {
            const std::uint64_t count = 8 * (1 + random() % (random() % 20 == 0 ? 40 : 4));
            const std::uint64_t at = random() % ((size - count) / 8 + 1) * 8;
            const unsigned kind = random() % 10;
            const Op op = kind < 4    ? Op::write
                          : kind < 8  ? Op::read
                          : kind == 8 ? Op::write_zeroes
                                      : Op::flush;
            const char fill = static_cast<char>('a' + random() % 26);
            const std::string expected = op == Op::read ? model.substr(at, count) : "";
            if (op == Op::write) model.replace(at, count, count, fill);
            if (op == Op::write_zeroes) model.replace(at, count, count, '\0');
            t.scope.spawn(one_request(t, storage, op, at, count, fill, expected, running));
            while (running > 60) co_await async::yield();
        }
        co_await t.scope.join();
        EXPECT_EQ(co_await t.read(storage, 0, size), model);
    });
}

}  // namespace
}  // namespace dst::storage
