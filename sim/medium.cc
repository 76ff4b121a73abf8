#include "sim/medium.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace dst::sim {
namespace {

/// One write in so many ends an epoch, so that a power cut can find an older version of a block
/// that was written twice.
constexpr std::uint64_t kWritesPerEpoch = 8;

constexpr std::uint32_t mask_of(std::uint32_t first, std::uint32_t count) {
    const std::uint32_t bits = count >= 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << count) - 1;
    return bits << first;
}

}  // namespace

Medium::Medium(Random& random, SectorCount size, std::uint32_t block_bytes, std::uint64_t identity)
    : random_(random),
      size_(size),
      block_sectors_(block_bytes / kSectorBytes32),
      identity_(identity) {
    CHECK(block_bytes == 512 || block_bytes == 4096);
    CHECK(identity != 0);
}

void Medium::grow(SectorCount size) {
    CHECK(size >= size_);
    size_ = size;
}

template <typename Visit>
void Medium::for_each_piece(SectorRange range, Visit visit) {
    std::uint64_t at = range.first.value();
    const std::uint64_t end = range.end().value();
    while (at < end) {
        const std::uint64_t until = std::min(end, (at / kChunkSectors + 1) * kChunkSectors);
        visit(Piece{.chunk = at / kChunkSectors,
                    .first = static_cast<std::uint32_t>(at % kChunkSectors),
                    .count = static_cast<std::uint32_t>(until - at),
                    .passed = at - range.first.value()});
        at = until;
    }
}

Medium::Chunk& Medium::chunk_at(std::uint64_t index) {
    if (index >= chunks_.size()) chunks_.resize(index + 1);
    // Without the zeroes that make_unique would fill it with: `data` tells what was written.
    if (chunks_[index] == nullptr) chunks_[index].reset(new Chunk);
    return *chunks_[index];
}

bool Medium::has_data(std::uint64_t sector) const {
    const Chunk* const chunk = find_chunk(sector / kChunkSectors);
    return chunk != nullptr && (chunk->data >> (sector % kChunkSectors) & 1) != 0;
}

void Medium::read(SectorRange range, std::span<std::byte> into) const {
    CHECK(range.fits(size_) && into.size() == to_bytes(range.count).value());
    for_each_piece(range, [&](const Piece& piece) {
        std::byte* to = into.data() + piece.passed * kSectorBytes;
        const Chunk* const chunk = find_chunk(piece.chunk);
        const std::uint32_t mask = mask_of(piece.first, piece.count);
        if (chunk == nullptr || (chunk->data & mask) == 0) {
            std::memset(to, 0, piece.count * kSectorBytes);
            return;
        }
        std::memcpy(to, chunk->bytes.data() + piece.first * kSectorBytes,
                    piece.count * kSectorBytes);
        if ((chunk->data & mask) == mask) return;
        for (std::uint32_t at = piece.first; at < piece.first + piece.count;
             ++at, to += kSectorBytes)
            if ((chunk->data >> at & 1) == 0) std::memset(to, 0, kSectorBytes);
    });
}

void Medium::write(SectorRange range, std::span<const std::byte> from) {
    CHECK(range.fits(size_) && from.size() == to_bytes(range.count).value());
    if (random_.one_in(kWritesPerEpoch)) ++epoch_;
    for_each_piece(range, [&](const Piece& piece) {
        Chunk& chunk = chunk_at(piece.chunk);
        save(chunk, piece);
        std::memcpy(chunk.bytes.data() + piece.first * kSectorBytes,
                    from.data() + piece.passed * kSectorBytes, piece.count * kSectorBytes);
        chunk.data |= mask_of(piece.first, piece.count);
    });
    tell(range);
}

void Medium::zero(SectorRange range, bool unmap) {
    CHECK(range.fits(size_));
    for_each_piece(range, [&](const Piece& piece) {
        Chunk* const chunk = find_chunk(piece.chunk);
        if (chunk == nullptr && unmap) return;
        Chunk& zeroed = chunk == nullptr ? chunk_at(piece.chunk) : *chunk;
        save(zeroed, piece);
        if (unmap) {
            zeroed.data &= ~mask_of(piece.first, piece.count);
            return;
        }
        std::memset(zeroed.bytes.data() + piece.first * kSectorBytes, 0,
                    piece.count * kSectorBytes);
        zeroed.data |= mask_of(piece.first, piece.count);
    });
    tell(range);
}

void Medium::discard(SectorRange range) {
    switch (random_.below(3)) {
        case 0:
            zero(range, true);
            break;
        case 1:
            break;
        default:
            for_each_piece(range, [&](const Piece& piece) {
                Chunk* const chunk = find_chunk(piece.chunk);
                if (chunk == nullptr) return;
                save(*chunk, piece);
                std::memset(chunk->bytes.data() + piece.first * kSectorBytes, 0xdb,
                            piece.count * kSectorBytes);
                chunk->data |= mask_of(piece.first, piece.count);
            });
            tell(range);
    }
}

/// Notes what the piece holds, where that was not noted in this epoch.
void Medium::save(Chunk& chunk, const Piece& piece) {
    const std::uint32_t end = piece.first + piece.count;
    for (std::uint32_t at = piece.first; at < end;) {
        if (chunk.saved[at] == epoch_) {
            ++at;
            continue;
        }
        const std::uint32_t first = at;
        const std::uint32_t limit = std::min(end, (at / kRecordSectors + 1) * kRecordSectors);
        const bool is_data = (chunk.data >> at & 1) != 0;
        while (at < limit && chunk.saved[at] != epoch_ && ((chunk.data >> at & 1) != 0) == is_data)
            chunk.saved[at++] = epoch_;
        Record record{.first = piece.chunk * kChunkSectors + first,
                      .count = at - first,
                      .epoch = epoch_,
                      .kind = is_data ? Record::Kind::data : Record::Kind::hole,
                      .bytes = {}};
        if (is_data) {
            record.bytes = std::make_unique_for_overwrite<std::byte[]>(record.count * kSectorBytes);
            std::memcpy(record.bytes.get(), chunk.bytes.data() + first * kSectorBytes,
                        record.count * kSectorBytes);
        }
        log_.push_back(std::move(record));
    }
    if (log_.size() > kRecordsMax) end_sync(log_[kRecordsMax / 2].epoch);
}

void Medium::make_durable(SectorRange range) {
    CHECK(range.fits(size_));
    log_.push_back({.first = range.first.value(),
                    .count = range.count.value(),
                    .epoch = epoch_,
                    .kind = Record::Kind::barrier,
                    .bytes = {}});
    for_each_piece(range, [&](const Piece& piece) {
        Chunk* const chunk = find_chunk(piece.chunk);
        if (chunk == nullptr) return;
        std::fill_n(chunk->saved.begin() + piece.first, piece.count, Epoch{0});
    });
}

void Medium::end_sync(Epoch until) {
    // What is changed from now on was not covered: it must be noted again.
    if (until == epoch_) ++epoch_;
    while (!log_.empty() && log_.front().epoch <= until) log_.pop_front();
}

void Medium::lose_unsynced() {
    constexpr std::uint32_t kAlways = 1'000'000;
    // Often it is all or nothing; the rest of the time anything may happen to any block.
    const std::array<std::uint32_t, 6> choices{0, 0, kAlways, 125'000, 500'000, 875'000};
    const Rate kept{choices[random_.below(choices.size())]};
    roll_back(epoch_, kept);
    log_.clear();
    ++epoch_;
}

void Medium::give_up(Epoch until) {
    roll_back(until, percent(50));
    end_sync(until);
}

/// Walks the log backwards: each block stays at the version where it is `kept`, or goes on to the
/// one before. Blocks with a record later than `until` stay as they are.
void Medium::roll_back(Epoch until, Rate kept) {
    std::set<std::uint64_t> settled;  // blocks, by their first sectors
    for (auto record = log_.rbegin(); record != log_.rend(); ++record) {
        const std::uint64_t end = record->first + record->count;
        for (std::uint64_t at = record->first; at < end; at += block_sectors_) {
            if (record->kind == Record::Kind::barrier || record->epoch > until) {
                settled.insert(at);
            } else if (!settled.contains(at)) {
                if (random_.happens(kept))
                    settled.insert(at);
                else
                    restore(*record, at, std::min<std::uint64_t>(block_sectors_, end - at));
            }
        }
    }
}

void Medium::restore(const Record& record, std::uint64_t first, std::uint64_t count) {
    tell({SectorIndex(first), SectorCount(count)});
    Chunk& chunk = chunk_at(first / kChunkSectors);
    const auto place = static_cast<std::uint32_t>(first % kChunkSectors);
    const std::uint32_t mask = mask_of(place, static_cast<std::uint32_t>(count));
    if (record.kind == Record::Kind::hole) {
        chunk.data &= ~mask;
        return;
    }
    chunk.data |= mask;
    std::memcpy(chunk.bytes.data() + place * kSectorBytes,
                record.bytes.get() + (first - record.first) * kSectorBytes, count * kSectorBytes);
}

Medium::Extent Medium::extent(SectorIndex at, SectorCount most) const {
    CHECK(most.value() > 0);
    const bool is_data = has_data(at.value());
    std::uint64_t end = at.value() + 1;
    const std::uint64_t limit = at.value() + most.value();
    while (end < limit) {
        if (find_chunk(end / kChunkSectors) == nullptr && end % kChunkSectors == 0) {
            if (is_data) break;
            end = std::min(limit, end + kChunkSectors);
            continue;
        }
        if (has_data(end) != is_data) break;
        ++end;
    }
    return {SectorCount(end - at.value()), is_data};
}

bool Medium::is_allocated(SectorRange range) const {
    bool all = true;
    for_each_piece(range, [&](const Piece& piece) {
        const Chunk* const chunk = find_chunk(piece.chunk);
        const std::uint32_t mask = mask_of(piece.first, piece.count);
        if (chunk == nullptr || (chunk->data & mask) != mask) all = false;
    });
    return all;
}

bool Medium::rot(SectorIndex sector) {
    if (!has_data(sector.value())) return false;
    Chunk& chunk = chunk_at(sector.value() / kChunkSectors);
    const std::uint64_t bit = random_.below(kSectorBytes * 8);
    const std::uint64_t at = sector.value() % kChunkSectors * kSectorBytes + bit / 8;
    chunk.bytes[at] ^= static_cast<std::byte>(1U << (bit % 8));
    tell({sector, SectorCount(1)});
    return true;
}

}  // namespace dst::sim
