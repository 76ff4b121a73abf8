#include "algorithm/mirror/superblock_reader.h"

#include <optional>

namespace dst::mirror {

async::Task<Result<metadata::Reading>> read_superblock(block::Device& device, SectorCount size,
                                                       block::Account& account) {
    std::optional<metadata::Reading> both;
    unsigned unreadable = 0;
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
        const Result<> done = co_await device.execute(request);
        // A bad sector costs one copy; of two, one is enough.
        const bool is_bad = !done && done.error().code == ErrorCode::io_error;
        if (!done && (!is_bad || ++unreadable == metadata::kSuperblockCopies))
            co_return std::unexpected(done.error());
        metadata::Reading reading = is_bad ? metadata::Reading(std::unexpected(metadata::Unreadable{
                                                 .kind = metadata::Unreadable::Kind::damaged,
                                                 .what = "a copy of its superblock can't be read"}))
                                           : metadata::decode_superblock(bytes);
        both = both ? metadata::choose(*std::move(both), std::move(reading)) : std::move(reading);
    }
    co_return *std::move(both);
}

}  // namespace dst::mirror
