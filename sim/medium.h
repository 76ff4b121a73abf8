// Medium: what a disk holds, and what of it would be left after a power cut.
//
// The content that reads see is kept in sparse chunks. Beside it stands a log of what changes have
// replaced since it was last known to be durable; a power cut walks that log backwards and, block
// by block, lets any of the versions that were there since the last sync be the one that is left.
// A block (the unit of reads and writes, 512 bytes unless said otherwise) is never torn; a longer
// write may be. No work is done byte by byte, and none for what was never written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "base/units.h"
#include "sim/random.h"

namespace dst::sim {

class Medium {
  public:
    /// Numbers the times between syncs: a change belongs to the epoch in which it was made.
    using Epoch = std::uint32_t;

    /// `block_bytes`: 512 or 4096. `identity`: not 0, another one for another medium.
    Medium(Random& random, SectorCount size, std::uint32_t block_bytes, std::uint64_t identity);
    Medium(const Medium&) = delete;
    Medium& operator=(const Medium&) = delete;

    [[nodiscard]] SectorCount size() const { return size_; }
    [[nodiscard]] std::uint32_t block_bytes() const { return block_sectors_ * kSectorBytes32; }
    [[nodiscard]] std::uint64_t identity() const { return identity_; }
    void grow(SectorCount size);

    // Ranges lie within the medium; data is of the range's length.
    void read(SectorRange range, std::span<std::byte> into) const;
    /// Volatile until a sync, or `make_durable`.
    void write(SectorRange range, std::span<const std::byte> from);
    void zero(SectorRange range, bool unmap);
    /// Leaves zeroes, garbage or what was there: the content of what was trimmed is undefined.
    void discard(SectorRange range);
    /// What the range holds now survives a power cut.
    void make_durable(SectorRange range);

    /// All changes so far belong to the epoch returned; changes from now on to a later one.
    Epoch begin_sync() { return epoch_++; }
    /// Changes until then are durable.
    void end_sync(Epoch until);

    /// A power cut: of all versions of a block since it was last durable, any one is left.
    void lose_unsynced();
    /// The cache gave up changes until then that it could not write: some of them are undone, the
    /// others durable. (What was written over since counts as written.)
    void give_up(Epoch until);

    /// The stretch from `at` on, at most `most`, that was written, or that was not.
    struct Extent {
        SectorCount count;
        bool is_data = false;
    };
    [[nodiscard]] Extent extent(SectorIndex at, SectorCount most) const;
    /// Every sector of the range has been written, so writing it again takes no more space.
    [[nodiscard]] bool is_allocated(SectorRange range) const;
    /// How many changes a power cut could undo.
    [[nodiscard]] std::size_t unsynced() const { return log_.size(); }

    /// Told what has just changed of what reads see. One at a time.
    void watch(std::function<void(SectorRange)> watcher) { watcher_ = std::move(watcher); }

    /// Bit rot: turns one bit of the sector over, for good. False: nothing is written there.
    bool rot(SectorIndex sector);

  private:
    static constexpr std::uint32_t kSectorBytes32 = static_cast<std::uint32_t>(kSectorBytes);
    static constexpr std::uint32_t kChunkSectors = 32;
    static constexpr std::uint32_t kRecordSectors = 8;
    /// Beyond this the oldest changes are taken to have been written in the meantime.
    static constexpr std::size_t kRecordsMax = 32768;

    struct Chunk {
        std::uint32_t data = 0;                    // a bit for each sector that was written
        std::array<Epoch, kChunkSectors> saved{};  // epoch for which the log has its content
        std::array<std::byte, kChunkSectors * kSectorBytes> bytes;
    };
    /// What a run of sectors, within one group of eight, held before a change; or, as a barrier,
    /// that older records don't matter for a range.
    struct Record {
        enum class Kind : std::uint8_t { data, hole, barrier };
        std::uint64_t first = 0;
        std::uint64_t count = 0;
        Epoch epoch = 0;
        Kind kind = Kind::data;
        std::unique_ptr<std::byte[]> bytes;
    };
    /// A part of a range that lies in one chunk.
    struct Piece {
        std::uint64_t chunk;
        std::uint32_t first;
        std::uint32_t count;
        std::uint64_t passed;  // sectors of the range before it
    };
    template <typename Visit>
    static void for_each_piece(SectorRange range, Visit visit);

    Chunk& chunk_at(std::uint64_t index);
    [[nodiscard]] Chunk* find_chunk(std::uint64_t index) const {
        return index < chunks_.size() ? chunks_[index].get() : nullptr;
    }
    [[nodiscard]] bool has_data(std::uint64_t sector) const;
    void tell(SectorRange range) const {
        if (watcher_) watcher_(range);
    }
    void save(Chunk& chunk, const Piece& piece);
    void roll_back(Epoch until, Rate kept);
    void restore(const Record& record, std::uint64_t first, std::uint64_t count);

    Random& random_;
    SectorCount size_;
    std::uint32_t block_sectors_;
    std::uint64_t identity_;
    std::vector<std::unique_ptr<Chunk>> chunks_;
    std::deque<Record> log_;  // in order of time, so epochs grow
    Epoch epoch_ = 1;
    std::function<void(SectorRange)> watcher_;
};

}  // namespace dst::sim
