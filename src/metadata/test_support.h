// For the tests of this folder: forms to start from.
#pragma once

#include <string>

#include "metadata/form.h"

namespace dst::metadata::test {

inline StorageId storage_id(std::uint8_t last) {
    StorageId id;
    for (std::size_t i = 0; i < id.bytes.size(); ++i) id.bytes[i] = static_cast<std::byte>(i);
    id.bytes.back() = static_cast<std::byte>(last);
    return id;
}

constexpr std::uint64_t kMebi = (1 << 20) / kSectorBytes;  // in sectors

/// A mirror of two attached nodes of 64 MiB and a witness, in its third age.
inline Form two_nodes_and_witness() {
    Form form;
    form.storage_id = storage_id(0xff);
    form.name = "vol0";
    form.algorithm = "mirror";
    form.history = {.age = {.id = 0xb, .generation = 3},
                    .path = {{.id = 0xa, .generation = 7}},
                    .is_cut_short = false};
    form.quorum = Quorum::majority;
    form.votes_since = {.id = 0xa, .generation = 2};
    form.shape = {.data_size = SectorCount(60 * kMebi), .region_shift = 16, .slots = 8};
    form.nodes = {{.cookie = 0xc0,
                   .slot = 0,
                   .size = SectorCount(64 * kMebi),
                   .attached = true,
                   .is_witness = false,
                   .has_vote = true,
                   .instance = 0x1111,
                   .type = "L: /dev/sdc"},
                  {.cookie = 0xc1,
                   .slot = 1,
                   .size = SectorCount(65 * kMebi),
                   .attached = true,
                   .is_witness = false,
                   .has_vote = true,
                   .instance = 0x2222,
                   .type = "R: far:10809/disk0"},
                  {.cookie = 0xc2,
                   .slot = NodeRecord::kNoSlot,
                   .size = SectorCount(kMebi / 16),
                   .attached = false,
                   .is_witness = true,
                   .has_vote = true,
                   .instance = 0x3333,
                   .type = "R: third:10809/witness"}};
    form.head = {.id = 0x4ead, .incarnation = 5};
    return form;
}

/// As large as a superblock can be.
inline Form full_form() {
    Form form = two_nodes_and_witness();
    form.name = std::string(Form::kNameBytesMax, 'n');
    form.algorithm = std::string(Form::kNameBytesMax, 'a');
    form.settings = std::string(Form::kSettingsBytesMax, 's');
    form.block_bytes = 4096;
    form.history.path.clear();
    for (std::uint64_t i = 0; i < kPathMax; ++i)
        form.history.path.push_back({.id = 0x1000 + i, .generation = i + 1});
    form.history.is_cut_short = true;
    form.votes_since = {.id = 0xa, .generation = 2};  // forgotten
    form.shape.slots = kSlotsMax;
    form.zero_from = SectorIndex(8);
    form.nodes.clear();
    for (unsigned i = 0; i < kNodesMax + Form::kWitnessesMax; ++i) {
        const bool is_witness = i >= kNodesMax;
        form.nodes.push_back({.cookie = 0xc000 + i,
                              .slot = is_witness ? NodeRecord::kNoSlot
                                                 : static_cast<std::uint8_t>(kNodesMax - 1 - i),
                              .size = SectorCount(64 * kMebi),
                              .attached = !is_witness,
                              .is_witness = is_witness,
                              .has_vote = true,
                              .instance = i,
                              .type = std::string(NodeRecord::kTypeBytesMax, 't')});
    }
    return form;
}

}  // namespace dst::metadata::test
