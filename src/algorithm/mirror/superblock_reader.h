// Reads the superblock of a node that nobody is in yet.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "async/task.h"
#include "block/buffer.h"
#include "block/device.h"
#include "metadata/superblock.h"

namespace dst::mirror {

struct ReadCopies {
    metadata::Reading reading;  // of both
    unsigned spare = 0;         // the copy that it does not rest on: to be written first
};

/// What both copies say, of a node that ends at `size` (whole pages). Fails rather than waiting for
/// a link. Suspends.
async::Task<Result<ReadCopies>> read_superblock(block::Device& device, SectorCount size,
                                                block::Account& account);

/// The same of a node that only `read(range, bytes)` can read, which gives a `Task<Result<>>`.
/// `bytes`: room for a copy. A copy that it fails to read with `io_error` counts as damaged; if it
/// does so with both, or in another way, that is the error. Suspends.
template <typename Read>
async::Task<Result<ReadCopies>> read_copies(SectorCount size, std::span<std::byte> bytes,
                                            Read read) {
    std::array<metadata::Reading, metadata::kSuperblockCopies> readings;
    unsigned unreadable = 0;
    for (unsigned copy = 0; copy < metadata::kSuperblockCopies; ++copy) {
        const auto place = metadata::superblock_place(size, copy);
        if (!place) co_return fail(ErrorCode::out_of_range, "the node is too small");
        const Result<> done = co_await read(*place, bytes);
        // A bad sector costs one copy; of two, one is enough.
        const bool is_bad = !done && done.error().code == ErrorCode::io_error;
        if (!done && (!is_bad || ++unreadable == metadata::kSuperblockCopies))
            co_return std::unexpected(done.error());
        readings[copy] = is_bad ? metadata::Reading(std::unexpected(metadata::Unreadable{
                                      .kind = metadata::Unreadable::Kind::damaged,
                                      .what = "a copy of its superblock can't be read"}))
                                : metadata::decode_superblock(bytes);
    }
    const auto& [first, second] = readings;
    const bool rests_on_first = first && (!second || first->sequence > second->sequence);
    co_return ReadCopies{.reading = metadata::choose(first, second),
                         .spare = rests_on_first ? 1U : 0U};
}

struct FoundSuperblock {
    metadata::Reading reading = std::unexpected(metadata::Unreadable{});
    SectorCount end{};           // where it was
    unsigned spare = 0;          // as above, there
    std::uint64_t sequence = 0;  // the greatest that was seen, wherever
};

/// A node whose end has moved has superblocks at several ends: looks at each of `ends`, the
/// device's own first, that is not beyond that one; and where what it finds says that the node
/// ends. The greatest sequence counts. Fails as the one above. Suspends.
async::Task<Result<FoundSuperblock>> find_superblock(block::Device& device,
                                                     std::vector<SectorCount> ends,
                                                     block::Account& account);

}  // namespace dst::mirror
