#include "algorithm/mirror/superblock_reader.h"

#include <algorithm>
#include <optional>

#include "base/check.h"

namespace dst::mirror {

async::Task<Result<ReadCopies>> read_superblock(block::Device& device, SectorCount size,
                                                block::Account& account) {
    const block::Buffer buffer = co_await account.allocate(metadata::kSuperblockBytes);
    if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
    block::Request request{.op = block::Op::read, .if_connected = true, .buffer = &buffer};
    const auto read = [&](SectorRange range, std::span<std::byte> bytes) {
        request.range = range;
        request.data = bytes;
        return device.execute(request);
    };
    co_return co_await read_copies(size, buffer.bytes().first(metadata::kSuperblockBytes), read);
}

async::Task<Result<FoundSuperblock>> find_superblock(block::Device& device,
                                                     std::vector<SectorCount> ends,
                                                     block::Account& account) {
    CHECK(!ends.empty());
    const SectorCount size = ends.front();
    std::optional<FoundSuperblock> found;
    for (std::size_t at = 0; at < ends.size(); ++at) {
        const SectorCount end = ends[at];
        const auto before = std::span(ends).first(at);
        const bool was_looked_at = std::ranges::find(before, end) != before.end();
        const bool has_room = metadata::superblock_place(end, 0).has_value();
        if (at > 0 && (end > size || was_looked_at || !has_room)) continue;
        CO_TRY(auto copies, co_await read_superblock(device, end, account));
        metadata::Reading& reading = copies.reading;
        const std::uint64_t sequence = reading ? reading->sequence : 0;
        if (reading) ends.push_back(reading->self().size);
        if (!found) {
            found.emplace(std::move(reading), end, copies.spare, sequence);
            continue;
        }
        found->sequence = std::max(found->sequence, sequence);
        const bool is_better =
            reading && (!found->reading || reading->sequence > found->reading->sequence);
        found->reading = metadata::choose(std::move(found->reading), std::move(reading));
        if (!is_better) continue;
        found->end = end;
        found->spare = copies.spare;
    }
    co_return *std::move(found);
}

}  // namespace dst::mirror
