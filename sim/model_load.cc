#include "sim/model_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

namespace dst::sim {
namespace {

using namespace std::chrono_literals;
using block::Op;
using block::Request;

constexpr std::size_t kDepth = 8;
constexpr io::Duration kBurstPause = 60ms;

void put_stamp(std::span<std::byte> data, std::uint64_t stamp) {
    for (std::size_t at = 0; at < data.size(); at += kSectorBytes) {
        std::memcpy(data.data() + at, &stamp, sizeof stamp);
        std::memcpy(data.data() + at + kSectorBytes - sizeof stamp, &stamp, sizeof stamp);
    }
}

/// Of a sector; nothing if its ends differ.
std::optional<std::uint64_t> stamp_of(std::span<const std::byte> sector) {
    std::uint64_t front = 0;
    std::uint64_t back = 0;
    std::memcpy(&front, sector.data(), sizeof front);
    std::memcpy(&back, sector.data() + sector.size() - sizeof back, sizeof back);
    if (front != back) return std::nullopt;
    return front;
}

}  // namespace

async::Task<void> ModelLoad::run(Site site) {
    async::Scope workers;
    for (std::size_t count = 0; count < kDepth; ++count) workers.spawn(work(site));
    co_await workers.join();
}

async::Task<void> ModelLoad::work(Site site) {
    io::Random& random = site.world.random;
    while (model_.left > 0 && model_.failure.empty()) {
        --model_.left;
        // In bursts, so that the faults meet every state, and the end of the load.
        if (random.below(8) == 0)
            co_await io::sleep_for(
                site.world.clock,
                io::Duration(static_cast<std::int64_t>(random.below(2 * kBurstPause.count()))));
        const std::uint64_t block = model_.block.value();
        const std::uint64_t blocks = 1 + random.below(model_.longest.value() / block);
        const std::uint64_t at = block * random.below(model_.size.value() / block - blocks + 1);
        const std::uint64_t count = blocks * block;
        const std::uint64_t kind = random.below(20);
        const SectorRange range{SectorIndex(at), SectorCount(count)};
        using Mode = async::RangeLock::Mode;
        async::RangeLock::Hold hold(order_, range, kind < 10 ? Mode::exclusive : Mode::shared);
        co_await hold.granted();
        Result<> done;
        if (kind < 9)
            done = co_await write(site, range, kind == 0);
        else if (kind < 10)
            done = co_await zero(site, range);
        else if (kind < 19)
            done = co_await read(site, range);
        else
            done = co_await flush(site);
        ++model_.answered;
        if (done) continue;
        ++model_.failed;
        if (kind < 10) note(range, Model::kUnknown);
        if (!model_.may_fail)
            complain(fmt::format("request {} of sectors {}+{} failed: {}", kind, at, count,
                                 to_string(done.error().code)));
    }
}

async::Task<Result<>> ModelLoad::write(Site site, SectorRange range, bool fua) {
    const std::size_t bytes = to_bytes(range.count).value();
    block::Buffer buffer = co_await site.payloads.allocate(bytes);
    const std::uint64_t stamp = ++model_.last_stamp;
    put_stamp(buffer.bytes().first(bytes), stamp);
    Request request{.op = Op::write,
                    .fua = fua,
                    .range = range,
                    .data = buffer.bytes().first(bytes),
                    .buffer = &buffer};
    const Result<> done = co_await site.device.execute(request);
    if (done) note(range, stamp);
    co_return done;
}

async::Task<Result<>> ModelLoad::zero(Site site, SectorRange range) {
    Request request{.op = Op::write_zeroes, .range = range};
    const Result<> done = co_await site.device.execute(request);
    if (done) note(range, 0);
    co_return done;
}

async::Task<Result<>> ModelLoad::flush(Site site) {
    Request request{.op = Op::flush};
    co_return co_await site.device.execute(request);
}

async::Task<Result<>> ModelLoad::read(Site site, SectorRange range) {
    const std::size_t bytes = to_bytes(range.count).value();
    block::Buffer buffer = co_await site.payloads.allocate(bytes);
    Request request{.op = Op::read, .range = range, .data = buffer.bytes().first(bytes)};
    const Result<> done = co_await site.device.execute(request);
    for (std::uint64_t at = 0; done && at < range.count.value(); ++at) {
        const auto found = stamp_of(request.data.subspan(at * kSectorBytes, kSectorBytes));
        const std::uint64_t expected = model_.stamps[range.first.value() + at];
        if (found != expected && expected != Model::kUnknown)
            complain(fmt::format("sector {} has {}, not write {}", range.first.value() + at,
                                 found ? fmt::format("write {}", *found) : "half a write",
                                 expected));
    }
    co_return done;
}

void ModelLoad::note(SectorRange range, std::uint64_t stamp) {
    std::fill_n(model_.stamps.begin() + static_cast<std::ptrdiff_t>(range.first.value()),
                range.count.value(), stamp);
}

void ModelLoad::complain(std::string what) {
    if (model_.failure.empty()) model_.failure = std::move(what);
}

}  // namespace dst::sim
