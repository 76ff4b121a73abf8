#include "node/local.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "base/check.h"

namespace dst::node {
namespace {

using block::Op;

/// Zeroes to write where the medium can't make them by itself. Never written to, so its pages cost
/// no memory.
alignas(4096) constinit std::byte zeroes[block::kPayloadMaxBytes]{};

/// Another one than any that was drawn at random, as good as certainly; never 0.
std::uint64_t instance_after(std::uint64_t instance) {
    instance = (instance ^ (instance >> 31)) * 0x9e3779b97f4a7c15 + 1;
    return instance == 0 ? 1 : instance;
}

}  // namespace

FileDevice::FileDevice(std::unique_ptr<io::File> file, LocalSettings settings,
                       std::uint64_t instance)
    : file_(std::move(file)), settings_(std::move(settings)), instance_(instance) {
    CHECK(instance != 0);
}

block::Geometry FileDevice::geometry() const {
    const io::FileInfo& info = file_->info();
    return {.size = sectors_floor(info.size),
            .block_bytes = info.block_bytes,
            .preferred_bytes = std::max<std::uint32_t>(info.block_bytes, 4096),
            .read_only = settings_.read_only,
            .can_trim = info.can_discard,
            .can_zero_fast = info.can_zero_fast};
}

async::Task<Result<>> FileDevice::execute(block::Request& request) {
    const ByteOffset at = to_bytes(request.range.first);
    switch (request.op) {
        case Op::read:
            return file_->read(at, request.data);
        case Op::write:
            return file_->write(at, request.data, request.fua);
        case Op::flush:
            return flush();
        case Op::trim:
        case Op::write_zeroes:
            return write_zeroes(request);
        case Op::block_status:
            return block_status(request);
    }
    check_failed("a known operation", __FILE__, __LINE__);
}

async::Task<Result<>> FileDevice::refresh_size() {
    CO_TRY_VOID(co_await file_->refresh_size());
    co_return Result<>{};
}

async::Task<Result<>> FileDevice::flush() {
    const Result<> done = co_await file_->sync();
    if (!done) {
        instance_ = instance_after(instance_);
        file_->accept_losses();
        if (settings_.on_loss) settings_.on_loss();
    }
    co_return done;
}

async::Task<Result<>> FileDevice::write_zeroes(const block::Request& request) {
    const ByteOffset at = to_bytes(request.range.first);
    const ByteCount count = to_bytes(request.range.count);
    Result<> done;
    if (request.op == Op::trim) {
        done = co_await file_->discard(at, count);
        // Advisory: a medium that can't do it keeps the space.
        if (!done && done.error().code == ErrorCode::unsupported) done = {};
    } else {
        done = co_await file_->zero(at, count, !request.no_hole);
        if (!done && done.error().code == ErrorCode::unsupported && !request.fast_zero) {
            done = {};
            for (ByteCount passed; done && passed < count;) {
                const auto piece = std::min<std::uint64_t>((count - passed).value(), sizeof zeroes);
                done = co_await file_->write(at + passed, std::span(zeroes).first(piece), false);
                passed = passed + ByteCount(piece);
            }
        }
    }
    if (done && request.fua) done = co_await flush();
    co_return done;
}

async::Task<Result<>> FileDevice::block_status(const block::Request& request) {
    const ByteOffset end = to_bytes(request.range.end());
    ByteOffset at = to_bytes(request.range.first);
    while (at < end && !request.extents->full()) {
        CO_TRY(const auto extent, co_await file_->extent(at, end - at));
        // An edge within a sector: the whole sector counts as data.
        SectorCount count = sectors_floor(extent.count);
        bool is_data = !extent.hole && !extent.zero;
        if (count.value() == 0 || (is_data && !sectors_exact(extent.count))) {
            count = sectors_ceil(extent.count);
            is_data = true;
        }
        count = std::min(count, sectors_floor(end - at));
        const bool added = request.extents->add(
            {.count = count, .hole = !is_data && extent.hole, .zero = !is_data && extent.zero});
        if (!added) break;
        at = at + to_bytes(count);
    }
    co_return Result<>{};
}

namespace {

constexpr std::uint64_t kChunkSectors = 128;  // 64 KiB: small enough to stay sparse

}  // namespace

MemoryDevice::MemoryDevice(SectorCount size, std::uint64_t instance)
    : size_(size),
      instance_(instance),
      chunks_((size.value() + kChunkSectors - 1) / kChunkSectors) {
    CHECK(instance != 0);
}

MemoryDevice::~MemoryDevice() = default;

block::Geometry MemoryDevice::geometry() const { return {.size = size_, .can_zero_fast = true}; }

namespace {

/// Calls `visit(chunk index, sectors of it, sectors passed so far)` for each chunk of a range.
template <typename Visit>
void for_each_chunk(SectorRange range, Visit visit) {
    std::uint64_t at = range.first.value();
    const std::uint64_t end = range.end().value();
    while (at < end) {
        const std::uint64_t chunk = at / kChunkSectors;
        const std::uint64_t until = std::min(end, (chunk + 1) * kChunkSectors);
        const SectorRange within{SectorIndex(at % kChunkSectors), SectorCount(until - at)};
        if (!visit(chunk, within, SectorCount(at - range.first.value()))) return;
        at = until;
    }
}

}  // namespace

async::Task<Result<>> MemoryDevice::execute(block::Request& request) {
    switch (request.op) {
        case Op::read:
            read(request);
            break;
        case Op::write:
            co_return write(request);
        case Op::flush:
            break;
        case Op::trim:
        case Op::write_zeroes:
            co_return zero(request);
        case Op::block_status:
            block_status(request);
            break;
    }
    co_return Result<>{};
}

void MemoryDevice::read(const block::Request& request) const {
    for_each_chunk(request.range, [&](std::uint64_t at, SectorRange within, SectorCount passed) {
        const auto into =
            request.data.subspan(to_bytes(passed).value(), to_bytes(within.count).value());
        if (const Chunk& chunk = chunks_[at]; chunk != nullptr)
            std::memcpy(into.data(), chunk.get() + to_bytes(within.first).value(), into.size());
        else
            std::memset(into.data(), 0, into.size());
        return true;
    });
}

/// The memory of a chunk, zeroed if it is new; null if there is none left.
std::byte* MemoryDevice::chunk_at(std::uint64_t at) {
    Chunk& chunk = chunks_[at];
    if (chunk == nullptr) chunk.reset(new (std::nothrow) std::byte[kChunkSectors * kSectorBytes]());
    return chunk.get();
}

Result<> MemoryDevice::write(const block::Request& request) {
    Result<> done;
    for_each_chunk(request.range, [&](std::uint64_t at, SectorRange within, SectorCount passed) {
        std::byte* const chunk = chunk_at(at);
        if (chunk == nullptr) {
            done = fail(ErrorCode::no_space, "memory device: out of memory");
            return false;
        }
        const auto from =
            request.data.subspan(to_bytes(passed).value(), to_bytes(within.count).value());
        std::memcpy(chunk + to_bytes(within.first).value(), from.data(), from.size());
        return true;
    });
    return done;
}

Result<> MemoryDevice::zero(const block::Request& request) {
    Result<> done;
    for_each_chunk(request.range, [&](std::uint64_t at, SectorRange within, SectorCount) {
        if (chunks_[at] == nullptr && !request.no_hole) return true;
        if (within.count.value() == kChunkSectors && !request.no_hole) {
            chunks_[at].reset();
            return true;
        }
        std::byte* const chunk = chunk_at(at);
        if (chunk == nullptr) {
            done = fail(ErrorCode::no_space, "memory device: out of memory");
            return false;
        }
        std::memset(chunk + to_bytes(within.first).value(), 0, to_bytes(within.count).value());
        return true;
    });
    return done;
}

void MemoryDevice::block_status(const block::Request& request) const {
    for_each_chunk(request.range, [&](std::uint64_t at, SectorRange within, SectorCount) {
        const bool hole = chunks_[at] == nullptr;
        return request.extents->add({.count = within.count, .hole = hole, .zero = hole});
    });
}

namespace {

std::uint64_t draw_instance(io::World& world) {
    std::uint64_t instance = 0;
    while (instance == 0) instance = world.random.next();
    return instance;
}

}  // namespace

async::Task<Outcome<std::unique_ptr<block::Device>>> open_file(io::World& world, std::string path,
                                                               LocalSettings settings) {
    CO_TRY(auto file, co_await world.files.open(
                          path, {.read_only = settings.read_only, .cache = settings.cache}));
    if (sectors_floor(file->info().size).value() == 0)
        co_return refuse(
            fmt::format("{} has no sectors ({} bytes): give it a size first, for "
                        "example with 'truncate -s 10G {}'",
                        path, file->info().size.value(), path));
    co_return std::make_unique<FileDevice>(std::move(file), std::move(settings),
                                           draw_instance(world));
}

Outcome<std::unique_ptr<block::Device>> open_memory(io::World& world, ByteCount size) {
    const SectorCount sectors = sectors_floor(size);
    if (sectors.value() == 0)
        return refuse(
            fmt::format("memory:{} has no sectors: give it at least 512 bytes", size.value()));
    return std::make_unique<MemoryDevice>(sectors, draw_instance(world));
}

}  // namespace dst::node
