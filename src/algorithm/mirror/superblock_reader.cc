#include "algorithm/mirror/superblock_reader.h"

#include <optional>

namespace dst::mirror {

async::Task<Result<metadata::Reading>> read_superblock(block::Device& device, SectorCount size,
                                                       block::Account& account) {
    std::optional<metadata::Reading> both;
    for (unsigned copy = 0; copy < metadata::kSuperblockCopies; ++copy) {
        const auto place = metadata::superblock_place(size, copy);
        if (!place) co_return fail(ErrorCode::out_of_range, "the node is too small");
        const block::Buffer buffer = co_await account.allocate(metadata::kSuperblockBytes);
        if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
        const auto bytes = buffer.bytes().first(metadata::kSuperblockBytes);
        block::Request request{.op = block::Op::read,
                               .if_connected = true,
                               .range = *place,
                               .data = bytes,
                               .buffer = &buffer};
        CO_TRY_VOID(co_await device.execute(request));
        metadata::Reading reading = metadata::decode_superblock(bytes);
        both = both ? metadata::choose(*std::move(both), std::move(reading)) : std::move(reading);
    }
    co_return *std::move(both);
}

}  // namespace dst::mirror
