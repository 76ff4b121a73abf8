// LossyFile: a file under a disk cache that a power cut empties.
//
// What is written stays in this process until a flush, or a durable write, puts it into the file
// below. So a SIGKILL of the process is a power cut: it loses exactly what was not flushed, and the
// file below then holds what a real disk would. How much that was stands in a `Tally`, which
// survives the process.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "async/wait.h"
#include "base/check.h"
#include "io/clock.h"
#include "io/file.h"
#include "io/world.h"

namespace dst::tools {

/// What a test wants to know of a process that it has killed: numbers in a file that is mapped into
/// memory, so that they are true up to the last instruction. Layout: 64-bit words, native order.
struct Tally {
    std::uint64_t unflushed_bytes;
    std::uint64_t requests_in_flight;
    std::uint64_t changes_in_flight;
    std::uint64_t changes;
    std::uint64_t flushes;

    /// Maps `path`, made anew with zeroes; stays mapped for the life of the process.
    static Tally& open(const char* path) {
        const int fd = ::open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && ::ftruncate(fd, sizeof(Tally)) == 0);
        void* const at = ::mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(at != MAP_FAILED);
        ::close(fd);
        return *static_cast<Tally*>(at);
    }
};

class LossyFile final : public io::File {
  public:
    /// Each request takes a random time of up to twice `latency`, so that answers come in another
    /// order than requests. `tally` outlives it.
    LossyFile(io::World world, std::unique_ptr<io::File> below, Tally& tally, io::Duration latency)
        : world_(world), below_(std::move(below)), tally_(tally), latency_(latency) {}

    const io::FileInfo& info() const override { return below_->info(); }

    async::Task<Result<>> read(ByteOffset at, std::span<std::byte> into) override {
        const InFlight mark(tally_, false);
        co_await pass_time();
        // Taken before the file is read: a flush may move sectors down meanwhile, never up.
        std::vector<std::pair<std::size_t, SectorData>> newer;
        for (std::size_t passed = 0; passed < into.size(); passed += kSectorBytes)
            if (const auto found = cache_.find(sector_at(at, passed)); found != cache_.end())
                newer.emplace_back(passed, found->second);
        const Result<> done = co_await below_->read(at, into);
        for (const auto& [passed, data] : newer)
            std::ranges::copy(*data, into.subspan(passed).begin());
        co_return done;
    }

    async::Task<Result<>> write(ByteOffset at, std::span<const std::byte> from,
                                bool durable) override {
        const InFlight mark(tally_, true);
        co_await pass_time();
        for (std::size_t passed = 0; passed < from.size(); passed += kSectorBytes) {
            auto data = std::make_shared<Sector>();
            std::ranges::copy(from.subspan(passed, kSectorBytes), data->begin());
            cache_[sector_at(at, passed)] = std::move(data);
        }
        recount();
        if (!durable) co_return Result<>{};
        co_return co_await write_back(sector_at(at, 0), sector_at(at, from.size()));
    }

    async::Task<Result<>> sync() override {
        const InFlight mark(tally_, false);
        ++tally_.flushes;
        co_await pass_time();
        co_return co_await write_back(0, ~std::uint64_t{0});
    }

    void accept_losses() override { below_->accept_losses(); }

    async::Task<Result<>> discard(ByteOffset at, ByteCount count) override {
        return zero(at, count, true);
    }
    async::Task<Result<>> zero(ByteOffset at, ByteCount count, bool) override {
        const InFlight mark(tally_, true);
        co_await pass_time();
        static const SectorData zeroes = std::make_shared<Sector>();
        for (std::uint64_t passed = 0; passed < count.value(); passed += kSectorBytes)
            cache_[sector_at(at, passed)] = zeroes;
        recount();
        co_return Result<>{};
    }
    /// Everything counts as data: what the file below knows is out of date.
    async::Task<Result<io::FileExtent>> extent(ByteOffset, ByteCount count) override {
        co_return io::FileExtent{.count = count};
    }
    async::Task<Result<ByteCount>> refresh_size() override { return below_->refresh_size(); }

  private:
    using Sector = std::array<std::byte, kSectorBytes>;
    using SectorData = std::shared_ptr<const Sector>;

    /// Counts a request from its first to its last instruction.
    class InFlight {
      public:
        InFlight(Tally& tally, bool is_change) : tally_(tally), is_change_(is_change) {
            ++tally_.requests_in_flight;
            if (is_change_) {
                ++tally_.changes_in_flight;
                ++tally_.changes;
            }
        }
        ~InFlight() {
            --tally_.requests_in_flight;
            if (is_change_) --tally_.changes_in_flight;
        }
        InFlight(const InFlight&) = delete;
        InFlight& operator=(const InFlight&) = delete;

      private:
        Tally& tally_;
        bool is_change_;
    };

    static std::uint64_t sector_at(ByteOffset at, std::size_t passed) {
        return (at.value() + passed) / kSectorBytes;
    }

    async::Task<void> pass_time() {
        if (latency_.count() == 0) co_return;
        const auto twice = static_cast<std::uint64_t>(2 * latency_.count());
        co_await io::sleep_for(world_.clock, io::Duration(world_.random.below(twice)));
    }

    /// Puts the cached sectors in [first, end) into the file. One at a time, or an older content
    /// might arrive there after a newer one.
    async::Task<Result<>> write_back(std::uint64_t first, std::uint64_t end) {
        co_await writing_back_.acquire();
        std::vector<std::pair<std::uint64_t, SectorData>> dirty;
        for (const auto& [sector, data] : cache_)
            if (first <= sector && sector < end) dirty.emplace_back(sector, data);
        std::ranges::sort(dirty);

        Result<> done;
        std::vector<std::byte> run;
        for (std::size_t at = 0; done && at < dirty.size();) {
            run.clear();
            const std::size_t begin = at;
            while (at < dirty.size() && dirty[at].first == dirty[begin].first + (at - begin) &&
                   run.size() < kRunBytesMax) {
                run.insert(run.end(), dirty[at].second->begin(), dirty[at].second->end());
                ++at;
            }
            done =
                co_await below_->write(ByteOffset(dirty[begin].first * kSectorBytes), run, false);
        }
        // What was written anew meanwhile stays in the cache.
        if (done)
            for (const auto& [sector, data] : dirty)
                if (const auto found = cache_.find(sector);
                    found != cache_.end() && found->second == data)
                    cache_.erase(found);
        recount();
        writing_back_.release();
        co_return done;
    }

    void recount() { tally_.unflushed_bytes = cache_.size() * kSectorBytes; }

    static constexpr std::size_t kRunBytesMax = 1 << 20;

    io::World world_;
    std::unique_ptr<io::File> below_;
    Tally& tally_;
    io::Duration latency_;
    std::unordered_map<std::uint64_t, SectorData> cache_;
    async::Semaphore writing_back_{1};
};

}  // namespace dst::tools
