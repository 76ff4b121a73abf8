// Fuzzes the superblock's codec: whatever decodes keeps every rule and encodes to the same bytes,
// and what two copies say together is what one of them says, or why neither counts.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "metadata/superblock.h"

namespace {

using namespace dst;
using namespace dst::metadata;
using Bytes = std::vector<std::byte>;

/// A valid one, to begin with: without it no input would ever get past the rules.
Superblock example(FuzzedDataProvider& input) {
    Form form;
    form.storage_id.bytes.fill(std::byte{7});
    form.name = "vol0";
    form.algorithm = "mirror";
    form.settings = input.ConsumeBool() ? "chunk=64K\n" : "";
    form.history = {.age = {.id = 11, .generation = 3}, .path = {}};
    const auto entries = input.ConsumeIntegralInRange<std::size_t>(0, kPathMax);
    for (std::size_t i = 0; i < entries; ++i)
        form.history.path.push_back({.id = 100 + i, .generation = i + 1});
    form.votes_since = {.id = 11, .generation = 1};
    form.quorum = input.ConsumeBool() ? Quorum::majority : Quorum::none;
    form.shape = {.data_size = SectorCount(8192), .region_shift = 16, .slots = 255};
    const auto nodes = input.ConsumeIntegralInRange<unsigned>(1, kNodesMax);
    const auto witnesses = input.ConsumeIntegralInRange<unsigned>(0, Form::kWitnessesMax);
    for (unsigned i = 0; i < nodes + witnesses; ++i) {
        const bool is_witness = i >= nodes;
        form.nodes.push_back(
            {.cookie = i + 1,
             .slot = is_witness ? NodeRecord::kNoSlot : static_cast<std::uint8_t>(i),
             .size = SectorCount(32768),
             .attached = !is_witness,
             .is_witness = is_witness,
             .has_vote = true,
             .instance = i,
             .type = "R: host:10809/disk"});
    }
    form.head = {.id = 1, .incarnation = 1};
    return {
        .form = form, .cookie = 1, .sequence = input.ConsumeIntegralInRange<std::uint64_t>(1, 9)};
}

/// An example with some bytes changed; most of the time with a checksum that is right again.
Bytes make_copy(FuzzedDataProvider& input) {
    Bytes bytes(kSuperblockBytes);
    encode_superblock(std::span<std::byte, kSuperblockBytes>(bytes), example(input));
    const auto changes = input.ConsumeIntegralInRange<unsigned>(0, 8);
    for (unsigned i = 0; i < changes; ++i) {
        const std::size_t begin = input.PickValueInArray<std::size_t>(
            {0x0, 0x38, 0x40, 0x70, 0x80, 0x400, 0x2400, 0x2458, 0x7e68, 0x7ff0});
        const auto at = begin + input.ConsumeIntegralInRange<std::size_t>(0, 0x7f);
        bytes[std::min(at, bytes.size() - 5)] = std::byte{input.ConsumeIntegral<std::uint8_t>()};
    }
    if (input.ConsumeIntegral<std::uint8_t>() >= 8)
        store_be(&bytes[kSuperblockBytes - 4],
                 crc32c(std::span(bytes).first(kSuperblockBytes - 4)));
    return bytes;
}

Reading read(const Bytes& bytes) {
    Reading reading = decode_superblock(bytes);
    if (!reading) {
        CHECK(!to_string(reading.error()).empty());
        return reading;
    }
    CHECK(broken_rule(*reading) == nullptr);
    CHECK(reading->form.find(reading->cookie) != nullptr);
    for (const NodeRecord& node : reading->form.nodes)
        CHECK(node.is_witness || Layout::of(reading->form.shape, node.size).has_value());
    Bytes again(kSuperblockBytes);
    encode_superblock(std::span<std::byte, kSuperblockBytes>(again), *reading);
    CHECK(again == bytes);
    return reading;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider input(data, size);
    if (input.ConsumeIntegral<std::uint8_t>() < 16) {
        Bytes raw = input.ConsumeRemainingBytes<std::byte>();
        if (!raw.empty() && (raw[0] & std::byte{1}) != std::byte{0}) raw.resize(kSuperblockBytes);
        read(raw);
        return 0;
    }
    const Reading a = read(make_copy(input));
    const Reading b = read(make_copy(input));
    const Reading chosen = choose(a, b);
    if (chosen) CHECK(chosen == a || chosen == b);
    return 0;
}
