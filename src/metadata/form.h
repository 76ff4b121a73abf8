// Form: all that an age fixes of a storage, the same on every node that holds that age. And
// Superblock: a form as one node holds it. superblock.h has them as bytes.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "metadata/age.h"
#include "metadata/layout.h"

namespace dst::metadata {

/// A node's unique id; given once, never 0.
using Cookie = std::uint64_t;

/// Drawn when a storage is made: tells it from every other, whatever it is called. Never 0.
struct StorageId {
    std::array<std::byte, 16> bytes{};

    friend bool operator==(const StorageId&, const StorageId&) = default;
    friend auto operator<=>(const StorageId&, const StorageId&) = default;
};
/// 32 lower-case hex digits.
[[nodiscard]] std::string to_string(const StorageId& id);

/// The head that sent an age.
struct Head {
    std::uint64_t id = 0;           // kept in its state_dir; never 0
    std::uint64_t incarnation = 0;  // one more at each of its starts; from 1 on

    friend bool operator==(const Head&, const Head&) = default;
};

enum class Quorum : std::uint8_t { none = 0, majority = 1 };

/// A node, as the table has it.
struct NodeRecord {
    static constexpr std::uint8_t kNoSlot = 0xff;
    static constexpr std::size_t kTypeBytesMax = 60;

    Cookie cookie = 0;
    /// Which stale bitmap speaks of it; kNoSlot for a witness.
    std::uint8_t slot = kNoSlot;
    /// Where it ends, so where its metadata is; whole pages.
    SectorCount size{};
    bool attached = false;
    bool is_witness = false;
    /// It can be reserved (it is of our kind, or local) and counts for a majority. Any witness
    /// does.
    bool has_vote = false;
    /// Of the exporter that was seen last (block::Device::instance); 0 if it tells none.
    std::uint64_t instance = 0;
    /// As the tree shows it, "R: host:10809/disk0", cut to size: for people, nothing hangs on it.
    std::string type{};

    friend bool operator==(const NodeRecord&, const NodeRecord&) = default;
};

/// `type` cut to what a record holds, without half a character at its end and without control
/// characters.
[[nodiscard]] std::string cut_type(std::string_view type);

struct Form {
    static constexpr std::size_t kNameBytesMax = 64;
    static constexpr std::size_t kSettingsBytesMax = 512;
    static constexpr std::size_t kWitnessesMax = 8;

    StorageId storage_id{};
    std::string name{};
    std::string algorithm{};
    /// Settings of the algorithm that every head has to use alike; a text of its own, often empty.
    std::string settings{};
    History history{};
    Quorum quorum = Quorum::none;
    /// When votes or policy changed last: the first age with those of now. Forms that diverged are
    /// decided by counting only if they agree on it. It also changes where a person has overruled
    /// the counting (assembly.h, first_form).
    Age votes_since{};
    std::chrono::milliseconds takeover{10'000};
    Shape shape{};
    /// The data has grown, and from here to the end of this region, which was its last one, nodes
    /// hold what was no data before: it is made zero before anybody is served. 0: all is done.
    SectorIndex zero_from{};
    /// What requests are aligned to, as long as the storage lives: nodes that come later have
    /// blocks of this size or smaller ones. A power of two, kSectorBytes to kPageBytes.
    std::uint32_t block_bytes = static_cast<std::uint32_t>(kSectorBytes);
    /// In the order in which the algorithm got them.
    std::vector<NodeRecord> nodes{};
    Head head{};
    /// The head's last age: every node was flushed and equal before it was sent, and nothing came
    /// after it.
    bool stopped_cleanly = false;
    /// The storage's first age: the nodes are being prepared, and nobody is served before the next
    /// one is in force. So a storage whose making was interrupted may be made again.
    bool is_forming = false;

    [[nodiscard]] const NodeRecord* find(Cookie cookie) const;
    /// How many nodes count for a majority, and how many of them make one.
    [[nodiscard]] std::size_t votes() const;
    [[nodiscard]] std::size_t majority() const { return votes() / 2 + 1; }

    friend bool operator==(const Form&, const Form&) = default;
};

struct Superblock {
    Form form{};
    /// Which node of the table this is.
    Cookie cookie = 0;
    /// Grows with each writing on this node; of two copies the greater counts.
    std::uint64_t sequence = 0;

    [[nodiscard]] const NodeRecord& self() const { return *form.find(cookie); }

    friend bool operator==(const Superblock&, const Superblock&) = default;
};

/// As kGenerationMax.
inline constexpr std::uint64_t kSequenceMax = std::uint64_t{1} << 62;

/// The rule that a form (a superblock) breaks, in a few words; null if it is a valid one. Encoding
/// asks for a valid one, decoding yields no other.
[[nodiscard]] const char* broken_rule(const Form& form);
[[nodiscard]] const char* broken_rule(const Superblock& superblock);

}  // namespace dst::metadata
