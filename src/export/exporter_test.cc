// Exports and remote nodes against each other, over loopback: everything between a request on one
// host and the medium on another, with the peer killed, its unflushed writes lost, and replaced.
#include "export/exporter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>

#include "async/range_lock.h"
#include "io/uring/reactor.h"
#include "node/local.h"
#include "node/remote.h"

namespace dst::exporter {
namespace {

using namespace std::chrono_literals;
using async::Task;
using block::Op;
using block::Request;

constexpr SectorCount kSize{8192};  // 4 MiB

/// A disk with a volatile cache: what was not flushed is gone after `lose_power`.
class LossyDisk {
  public:
    LossyDisk() : durable(to_bytes(kSize).value()), current(durable) {}
    void lose_power() { current = durable; }

    std::vector<std::byte> durable;
    std::vector<std::byte> current;
    bool fail_flush = false;
    bool fail_write = false;
    std::uint64_t writes = 0;
};

/// The disk while a process has it open.
class OpenDisk final : public block::Device {
  public:
    OpenDisk(LossyDisk& disk, std::uint64_t instance, std::uint64_t identity,
             SectorCount size = kSize)
        : disk_(disk), instance_(instance), identity_(identity), size_(size) {}
    block::Geometry geometry() const override { return {.size = size_, .can_zero_fast = true}; }
    std::uint64_t instance() const override { return instance_; }
    std::uint64_t identity() const override { return identity_; }
    Task<Result<>> execute(Request& request) override {
        // Answers come in another order than requests.
        for (int turns = static_cast<int>(random_() % 4); turns > 0; --turns)
            co_await async::yield();
        const std::size_t at = to_bytes(request.range.first).value();
        const std::size_t length = to_bytes(request.range.count).value();
        switch (request.op) {
            case Op::read:
                std::copy_n(disk_.current.begin() + static_cast<std::ptrdiff_t>(at), length,
                            request.data.begin());
                break;
            case Op::write:
                if (disk_.fail_write) co_return fail(ErrorCode::no_space, "test");
                ++disk_.writes;
                std::ranges::copy(request.data,
                                  disk_.current.begin() + static_cast<std::ptrdiff_t>(at));
                break;
            case Op::trim:
            case Op::write_zeroes:
                std::fill_n(disk_.current.begin() + static_cast<std::ptrdiff_t>(at), length,
                            std::byte{0});
                break;
            case Op::flush:
                if (disk_.fail_flush) co_return fail(ErrorCode::io_error, "test");
                disk_.durable = disk_.current;
                break;
            case Op::block_status:
                request.extents->add({.count = request.range.count});
                break;
        }
        if (request.fua) disk_.durable = disk_.current;
        co_return Result<>{};
    }

  private:
    LossyDisk& disk_;
    std::uint64_t instance_;
    std::uint64_t identity_;
    SectorCount size_;
    std::minstd_rand random_;
};

/// A process that exports one disk; may be killed and started again on the same port.
class Peer {
  public:
    Peer(io::World world, block::BufferPool& pool, LossyDisk& disk)
        : world_(world), account_(pool, 8), connections_(pool, 2), disk_(&disk) {}

    Task<void> start(std::uint64_t identity = 77, SectorCount size = kSize) {
        device_ = std::make_unique<OpenDisk>(*disk_, ++instance_, identity, size);
        exporter_ = std::make_unique<Exporter>(world_, connections_);
        Settings settings{.name = "disk0", .description = {}, .access = {}};
        settings.access.push_back({*io::parse_subnet("127.0.0.0/8"), Access::read_write});
        EXPECT_TRUE(exporter_->add(std::make_unique<Export>(
            settings, Target{.device = device_.get(), .obstacle = {}}, account_)));
        const auto listening =
            co_await exporter_->listen({.host = "127.0.0.1", .port = port, .unix_path = {}});
        EXPECT_TRUE(listening.has_value()) << listening.error().text;
        port = exporter_->listening().front().port;
    }
    Task<void> kill() {
        co_await exporter_->close();
        exporter_.reset();
        device_.reset();
    }
    Exporter& exporter() { return *exporter_; }
    void exchange(LossyDisk& other) { disk_ = &other; }

    std::uint16_t port = 0;

  private:
    io::World world_;
    block::Account account_;
    block::Account connections_;
    LossyDisk* disk_;
    std::uint64_t instance_ = 0;
    std::unique_ptr<OpenDisk> device_;
    std::unique_ptr<Exporter> exporter_;
};

node::RemoteSettings hold_of(io::Duration hold) {
    node::RemoteSettings settings;
    settings.hold = hold;
    return settings;
}
node::RemoteSettings window_of(ByteCount window) {
    node::RemoteSettings settings;
    settings.replay_window = window;
    return settings;
}

class ExporterTest : public testing::Test {
  public:
    ExporterTest()
        : reactor(std::move(*io::uring::Reactor::create())),
          world(reactor->world()),
          peer(world, pool, disk) {}

    void run(Task<void> task) { reactor->block_on(std::move(task)); }

    std::unique_ptr<node::Remote> make_remote(node::RemoteSettings settings = {}) {
        settings.endpoint = {.host = "127.0.0.1", .port = peer.port, .unix_path = {}};
        settings.export_name = "disk0";
        return std::make_unique<node::Remote>(
            world, pool, connections, node::HeadIdentity{.id = 5, .incarnation = 1}, 9, settings);
    }
    Task<void> wait_ready(node::Remote& remote) {
        for (int tries = 0; !remote.is_ready() && tries < 5000; ++tries)
            co_await io::sleep_for(world.clock, 1ms);
        EXPECT_TRUE(remote.is_ready()) << remote.status().reason;
    }
    Task<Result<>> write(block::Device& device, std::uint64_t at, std::uint64_t count, char fill,
                         bool fua = false) {
        block::Buffer buffer = co_await payloads.allocate(count * kSectorBytes);
        std::ranges::fill(buffer.bytes(), static_cast<std::byte>(fill));
        Request request{.op = Op::write,
                        .fua = fua,
                        .range = {SectorIndex(at), SectorCount(count)},
                        .data = buffer.bytes().first(count * kSectorBytes),
                        .buffer = &buffer};
        co_return co_await device.execute(request);
    }
    Task<char> read(block::Device& device, std::uint64_t at) {
        block::Buffer buffer = co_await payloads.allocate(kSectorBytes);
        Request request{.op = Op::read,
                        .range = {SectorIndex(at), SectorCount(1)},
                        .data = buffer.bytes().first(kSectorBytes)};
        const auto done = co_await device.execute(request);
        EXPECT_TRUE(done.has_value());
        co_return done ? static_cast<char>(request.data[0]) : '!';
    }
    Task<Result<>> flush(block::Device& device) {
        Request request{.op = Op::flush};
        co_return co_await device.execute(request);
    }

    std::unique_ptr<io::uring::Reactor> reactor;
    io::World world;
    block::BufferPool pool{64 << 20};
    block::Account connections{pool, 2};
    block::Account payloads{pool, 4};
    LossyDisk disk;
    Peer peer;
};

TEST_F(ExporterTest, what_is_written_is_read_back) {
    run([](ExporterTest& t) -> Task<void> {
        co_await t.peer.start();
        auto remote = t.make_remote();
        remote->start(nullptr);
        co_await t.wait_ready(*remote);
        EXPECT_EQ(remote->geometry().size, kSize);
        EXPECT_TRUE(remote->status().checksums);
        EXPECT_TRUE(remote->status().is_ours);
        EXPECT_TRUE((co_await t.write(*remote, 8, 8, 'a')).has_value());
        EXPECT_EQ(co_await t.read(*remote, 8), 'a');
        EXPECT_EQ(co_await t.read(*remote, 15), 'a');
        EXPECT_EQ(co_await t.read(*remote, 16), '\0');
        EXPECT_TRUE((co_await t.flush(*remote)).has_value());
        EXPECT_EQ(remote->status().window_bytes, 0u);
        co_await remote->stop(t.world.clock.now() + 1s);
        co_await t.peer.kill();
    }(*this));
}

TEST_F(ExporterTest, an_unflushed_write_that_the_peer_lost_is_replayed) {
    run([](ExporterTest& t) -> Task<void> {
        co_await t.peer.start();
        auto remote = t.make_remote();
        remote->start(nullptr);
        co_await t.wait_ready(*remote);
        EXPECT_TRUE((co_await t.write(*remote, 0, 16, 'x')).has_value());
        EXPECT_TRUE((co_await t.write(*remote, 8, 16, 'y')).has_value());
        co_await t.peer.kill();
        t.disk.lose_power();
        co_await t.peer.start();
        EXPECT_EQ(co_await t.read(*remote, 0), 'x');
        EXPECT_EQ(co_await t.read(*remote, 8), 'y');
        EXPECT_EQ(co_await t.read(*remote, 23), 'y');
        EXPECT_EQ(remote->status().replayed, 2u);
        co_await remote->stop(t.world.clock.now() + 1s);
        co_await t.peer.kill();
    }(*this));
}

TEST_F(ExporterTest, an_exchanged_or_shrunk_disk_is_refused_and_requests_wait) {
    run([](ExporterTest& t) -> Task<void> {
        co_await t.peer.start(1);
        auto remote = t.make_remote();
        remote->start(nullptr);
        co_await t.wait_ready(*remote);
        for (const auto& [identity, size, text] :
             {std::tuple{2, kSize, "another disk"}, std::tuple{1, SectorCount(8000), "shrank"}}) {
            co_await t.peer.kill();
            co_await t.peer.start(static_cast<std::uint64_t>(identity), size);
            for (int tries = 0;
                 tries < 3000 && remote->status().reason.find(text) == std::string::npos; ++tries)
                co_await io::sleep_for(t.world.clock, 1ms);
            EXPECT_NE(remote->status().reason.find(text), std::string::npos)
                << remote->status().reason;
            EXPECT_FALSE(remote->is_ready());
        }
        co_await t.peer.kill();
        co_await t.peer.start(1);
        co_await t.wait_ready(*remote);
        co_await remote->stop(t.world.clock.now() + 1s);
        co_await t.peer.kill();
    }(*this));
}

TEST_F(ExporterTest, errors_of_the_far_disk_arrive_as_they_are_and_a_failed_flush_is_made_good) {
    run([](ExporterTest& t) -> Task<void> {
        co_await t.peer.start();
        auto remote = t.make_remote();
        remote->start(nullptr);
        co_await t.wait_ready(*remote);
        t.disk.fail_write = true;
        const auto failed = co_await t.write(*remote, 0, 8, 'n');
        EXPECT_EQ(failed.error().code, ErrorCode::no_space);
        EXPECT_EQ(remote->status().window_bytes, 0u);
        t.disk.fail_write = false;
        EXPECT_TRUE((co_await t.write(*remote, 0, 8, 'k')).has_value());
        t.disk.fail_flush = true;
        const auto flushed = co_await t.flush(*remote);
        EXPECT_EQ(flushed.error().code, ErrorCode::io_error);
        t.disk.fail_flush = false;
        t.disk.lose_power();  // what a failed flush may do to a page cache
        EXPECT_TRUE((co_await t.flush(*remote)).has_value());
        EXPECT_EQ(static_cast<char>(t.disk.durable[0]), 'k');
        co_await remote->stop(t.world.clock.now() + 1s);
        co_await t.peer.kill();
    }(*this));
}

TEST_F(ExporterTest, requests_fail_when_they_were_held_for_longer_than_hold) {
    run([](ExporterTest& t) -> Task<void> {
        co_await t.peer.start();
        auto remote = t.make_remote(hold_of(200ms));
        remote->start(nullptr);
        co_await t.wait_ready(*remote);
        co_await t.peer.kill();
        const auto before = t.world.clock.now();
        const auto failed = co_await t.write(*remote, 0, 8, 'h');
        EXPECT_EQ(failed.error().code, ErrorCode::io_error);
        EXPECT_GE(t.world.clock.now() - before, 190ms);
        co_await t.peer.start();
        co_await t.wait_ready(*remote);
        EXPECT_EQ(co_await t.read(*remote, 0), '\0') << "a failed write must not come back";
        co_await remote->stop(t.world.clock.now() + 1s);
        co_await t.peer.kill();
    }(*this));
}

TEST_F(ExporterTest,
       random_requests_agree_with_a_model_while_the_peer_loses_power_again_and_again) {
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    run([](ExporterTest& t, unsigned seeded) -> Task<void> {
        std::mt19937 random(seeded);
        co_await t.peer.start();
        auto remote = t.make_remote(window_of(ByteCount(256 << 10)));
        remote->start(nullptr);
        co_await t.wait_ready(*remote);
        std::vector<char> model(kSize.value());
        async::Scope scope;
        async::RangeLock locks;
        const auto one = [](ExporterTest& in, node::Remote& device, async::RangeLock& order,
                            std::vector<char>& expected, std::uint64_t at, std::uint64_t count,
                            unsigned kind, char fill) -> Task<void> {
            using Mode = async::RangeLock::Mode;
            async::RangeLock::Hold hold(order, {SectorIndex(at), SectorCount(count)},
                                        kind < 6 ? Mode::exclusive : Mode::shared);
            co_await hold.granted();
            if (kind < 5) {
                EXPECT_TRUE((co_await in.write(device, at, count, fill, kind == 0)).has_value());
                std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(at), count, fill);
            } else if (kind == 5) {
                Request zero{.op = Op::write_zeroes, .range = hold.range()};
                EXPECT_TRUE((co_await device.execute(zero)).has_value());
                std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(at), count, '\0');
            } else if (kind < 9) {
                EXPECT_EQ(co_await in.read(device, at), expected[at]);
            } else {
                EXPECT_TRUE((co_await in.flush(device)).has_value());
            }
        };
        for (int round = 0; round < 30; ++round) {
            for (int i = 0; i < 100; ++i) {
                const std::uint64_t count = 1 + random() % 40;
                const std::uint64_t at = random() % (kSize.value() - count);
                scope.spawn(one(t, *remote, locks, model, at, count, random() % 10,
                                static_cast<char>('a' + random() % 26)));
            }
            // At each second round the kill meets a link that is up, with requests in flight.
            if (round % 2 == 0) co_await t.wait_ready(*remote);
            co_await io::sleep_for(t.world.clock, std::chrono::microseconds(random() % 2000));
            co_await t.peer.kill();
            t.disk.lose_power();
            co_await t.peer.start();
        }
        co_await scope.join();
        EXPECT_TRUE((co_await t.flush(*remote)).has_value());
        for (std::size_t sector = 0; sector < model.size(); ++sector)
            EXPECT_EQ(static_cast<char>(t.disk.durable[sector * kSectorBytes]), model[sector])
                << "sector " << sector;
        EXPECT_GT(remote->status().replayed, 0u);
        co_await remote->stop(t.world.clock.now() + 1s);
        co_await t.peer.kill();
    }(*this, seed));
}

}  // namespace
}  // namespace dst::exporter
