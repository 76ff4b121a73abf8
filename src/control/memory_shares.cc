#include "control/memory_shares.h"

#include <fmt/format.h>

#include <algorithm>

#include "block/buffer.h"
#include "control/config_codecs.h"
#include "storage/storage.h"

namespace dst::control {
namespace {

constexpr ByteCount kStep(1 << 20);  // in which a sufficient `memory` is looked for

std::size_t promisable(ByteCount memory) {
    return block::BufferPool::promisable(arena_of(memory).value() / block::kSlabBytes);
}

std::size_t slabs_needed(const Config& config) {
    std::size_t sum = kNodeConnectionSlabs + kConnectionSlabs;
    sum += config.exports.size() * kExportSlabsMin;
    for (const StorageSpec& storage : config.storages)
        if (!storage.stopped && storage.algorithm == kMirror)
            sum += storage::slabs_of_mirror(storage.nodes.size());
    return sum;
}

}  // namespace

ByteCount arena_of(ByteCount memory) {
    const std::uint64_t reserve = std::clamp<std::uint64_t>(memory.value() / 4, 20 << 20, 64 << 20);
    return ByteCount(memory.value() > reserve ? memory.value() - reserve : memory.value() / 2);
}

ByteCount enough_memory(const Config& config) {
    const std::size_t needed = slabs_needed(config);
    ByteCount enough = codec::MemoryLimit::kMemoryMin;
    while (promisable(enough) < needed) enough = enough + kStep;
    return enough;
}

Outcome<> check_memory(const Config& config) {
    if (slabs_needed(config) <= promisable(config.memory)) return {};
    return refuse(ErrorCode::no_memory,
                  fmt::format("daemon: memory {} is too little for the buffers of so many exports "
                              "and mirrors; set it to at least {}",
                              to_string(config.memory), to_string(enough_memory(config))));
}

}  // namespace dst::control
