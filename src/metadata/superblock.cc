#include "metadata/superblock.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace dst::metadata {

namespace {

constexpr std::uint64_t kMagic = 0x445354206d657461;  // "DST meta"

// The four parts, one after another; what they leave free is zero.
constexpr std::size_t kHeaderBytes = 1024;
constexpr std::size_t kPathEntryBytes = 16;
constexpr std::size_t kPathBytes = kPathMax * kPathEntryBytes;
constexpr std::size_t kRecordBytes = 88;
constexpr std::size_t kRecordsMax = kNodesMax + Form::kWitnessesMax;
constexpr std::size_t kTableBytes = kRecordsMax * kRecordBytes;
constexpr std::size_t kTailBytes = 16;

constexpr std::size_t kZeroFromAt = 0x300;
constexpr std::size_t kPathAt = kHeaderBytes;
constexpr std::size_t kTableAt = kPathAt + kPathBytes;
constexpr std::size_t kTailAt = kSuperblockBytes - kTailBytes;
constexpr std::size_t kChecksumAt = kSuperblockBytes - 4;
static_assert(kPathAt == 0x400 && kTableAt == 0x2400 && kTableAt + kTableBytes == 0x7e68);
static_assert(kTableAt + kTableBytes <= kTailAt);

/// Of blocks in sectors, as a power of two: a page.
constexpr std::uint8_t kBlockShiftMax = 3;
static_assert(kSectorBytes << kBlockShiftMax == kPageBytes);

constexpr std::uint32_t kStoppedCleanly = 1 << 0;
constexpr std::uint32_t kForming = 1 << 1;
constexpr std::uint32_t kCutShort = 1 << 2;

constexpr std::uint8_t kAttached = 1 << 0;
constexpr std::uint8_t kWitness = 1 << 1;
constexpr std::uint8_t kVote = 1 << 2;

std::unexpected<Unreadable> damaged(const char* what) {
    return std::unexpected(Unreadable{.kind = Unreadable::Kind::damaged, .what = what});
}

void put_padded(ByteWriter& writer, std::string_view text, std::size_t width) {
    static constexpr std::byte kZeroes[Form::kSettingsBytesMax]{};
    writer.put_bytes(as_bytes(text)).put_bytes(std::span(kZeroes).first(width - text.size()));
}

std::uint32_t flags_of(const Form& form) {
    return (form.stopped_cleanly ? kStoppedCleanly : 0) | (form.is_forming ? kForming : 0) |
           (form.history.is_cut_short ? kCutShort : 0);
}

std::uint8_t flags_of(const NodeRecord& node) {
    return static_cast<std::uint8_t>((node.attached ? kAttached : 0) |
                                     (node.is_witness ? kWitness : 0) |
                                     (node.has_vote ? kVote : 0));
}

void put_age(ByteWriter& writer, const Age& age) { writer.put(age.id).put(age.generation); }

Age take_age(ByteReader& reader) {
    const auto id = reader.take<std::uint64_t>();
    return {.id = id, .generation = reader.take<std::uint64_t>()};
}

void put_header(std::span<std::byte> to, const Superblock& superblock) {
    const Form& form = superblock.form;
    ByteWriter writer(to);
    writer.put(kMagic).put(kVersion).put(flags_of(form)).put_bytes(form.storage_id.bytes);
    writer.put(superblock.sequence).put(superblock.cookie).put(form.shape.data_size.value());
    writer.put(form.shape.region_shift).put(form.shape.slots).put(superblock.self().slot);
    writer.put(std::to_underlying(form.quorum));
    writer.put(static_cast<std::uint32_t>(form.takeover.count()));
    put_age(writer, form.history.age);
    put_age(writer, form.votes_since);
    writer.put(form.head.id).put(form.head.incarnation);
    writer.put(static_cast<std::uint16_t>(form.history.path.size()));
    writer.put(static_cast<std::uint16_t>(form.nodes.size()));
    writer.put(static_cast<std::uint8_t>(form.name.size()));
    writer.put(static_cast<std::uint8_t>(form.algorithm.size()));
    writer.put(static_cast<std::uint16_t>(form.settings.size()));
    writer.put(static_cast<std::uint8_t>(std::bit_width(form.block_bytes >> kSectorShift) - 1));
    for (int spare = 0; spare < 7; ++spare) writer.put(std::uint8_t{0});
    put_padded(writer, form.name, Form::kNameBytesMax);
    put_padded(writer, form.algorithm, Form::kNameBytesMax);
    put_padded(writer, form.settings, Form::kSettingsBytesMax);
    CHECK(writer.written() == kZeroFromAt);
    writer.put(form.zero_from.value());
}

void put_record(std::span<std::byte> to, const NodeRecord& node) {
    ByteWriter writer(to);
    writer.put(node.cookie).put(node.size.value()).put(node.instance);
    writer.put(node.slot).put(flags_of(node));
    writer.put(static_cast<std::uint8_t>(node.type.size())).put(std::uint8_t{0});
    put_padded(writer, node.type, NodeRecord::kTypeBytesMax);
    CHECK(writer.written() == kRecordBytes);
}

NodeRecord take_record(std::span<const std::byte> from) {
    ByteReader reader(from);
    NodeRecord node;
    node.cookie = reader.take<Cookie>();
    node.size = SectorCount(reader.take<std::uint64_t>());
    node.instance = reader.take<std::uint64_t>();
    node.slot = reader.take<std::uint8_t>();
    const auto flags = reader.take<std::uint8_t>();
    node.attached = (flags & kAttached) != 0;
    node.is_witness = (flags & kWitness) != 0;
    node.has_vote = (flags & kVote) != 0;
    const auto type_bytes = reader.take<std::uint8_t>();
    reader.take<std::uint8_t>();
    node.type = reader.take_text(std::min<std::size_t>(type_bytes, NodeRecord::kTypeBytesMax));
    return node;
}

/// What `bytes`, of a good checksum, say. Counts are checked here, for they say where to look; what
/// no field remembers (spare bytes, unknown flags) is noticed when it is encoded again.
Reading take_all(std::span<const std::byte> bytes) {
    Superblock superblock;
    Form& form = superblock.form;
    ByteReader reader(bytes.subspan(12));  // behind magic and version
    const auto flags = reader.take<std::uint32_t>();
    form.stopped_cleanly = (flags & kStoppedCleanly) != 0;
    form.is_forming = (flags & kForming) != 0;
    form.history.is_cut_short = (flags & kCutShort) != 0;
    std::ranges::copy(reader.take_bytes(form.storage_id.bytes.size()),
                      form.storage_id.bytes.begin());
    superblock.sequence = reader.take<std::uint64_t>();
    superblock.cookie = reader.take<Cookie>();
    form.shape.data_size = SectorCount(reader.take<std::uint64_t>());
    form.shape.region_shift = reader.take<std::uint8_t>();
    form.shape.slots = reader.take<std::uint8_t>();
    reader.take<std::uint8_t>();  // this node's slot, as the table has it
    form.quorum = Quorum{reader.take<std::uint8_t>()};
    form.takeover = std::chrono::milliseconds(reader.take<std::uint32_t>());
    form.history.age = take_age(reader);
    form.votes_since = take_age(reader);
    form.head.id = reader.take<std::uint64_t>();
    form.head.incarnation = reader.take<std::uint64_t>();
    const auto path_entries = reader.take<std::uint16_t>();
    const auto records = reader.take<std::uint16_t>();
    const auto name_bytes = reader.take<std::uint8_t>();
    const auto algorithm_bytes = reader.take<std::uint8_t>();
    const auto settings_bytes = reader.take<std::uint16_t>();
    if (path_entries > kPathMax) return damaged("length of its path of ages");
    if (records > kRecordsMax) return damaged("length of its table of nodes");
    if (name_bytes > Form::kNameBytesMax || algorithm_bytes > Form::kNameBytesMax ||
        settings_bytes > Form::kSettingsBytesMax)
        return damaged("length of a text");
    const auto block_shift = reader.take<std::uint8_t>();
    if (block_shift > kBlockShiftMax) return damaged("size of its blocks");
    form.block_bytes = static_cast<std::uint32_t>(kSectorBytes) << block_shift;
    reader.take_bytes(7);
    form.name = ByteReader(reader.take_bytes(Form::kNameBytesMax)).take_text(name_bytes);
    form.algorithm = ByteReader(reader.take_bytes(Form::kNameBytesMax)).take_text(algorithm_bytes);
    form.settings = reader.take_text(settings_bytes);
    form.zero_from = SectorIndex(load_be<std::uint64_t>(bytes.data() + kZeroFromAt));

    ByteReader path(bytes.subspan(kPathAt, kPathBytes));
    for (std::size_t i = 0; i < path_entries; ++i) form.history.path.push_back(take_age(path));
    for (std::size_t i = 0; i < records; ++i)
        form.nodes.push_back(take_record(bytes.subspan(kTableAt + i * kRecordBytes, kRecordBytes)));
    return superblock;
}

}  // namespace

std::string to_string(const Unreadable& unreadable) {
    switch (unreadable.kind) {
        case Unreadable::Kind::blank:
            return "is blank";
        case Unreadable::Kind::foreign:
            return "holds something else";
        case Unreadable::Kind::newer:
            return fmt::format("has metadata of version {}, and this program knows version {}",
                               unreadable.version, kVersion);
        case Unreadable::Kind::damaged:
            return fmt::format("has damaged metadata: {}", unreadable.what);
    }
    CHECK(false);
}

void encode_superblock(std::span<std::byte, kSuperblockBytes> to, const Superblock& superblock) {
    CHECK(broken_rule(superblock) == nullptr);
    const Form& form = superblock.form;
    std::ranges::fill(to, std::byte{0});
    put_header(to.first(kHeaderBytes), superblock);
    ByteWriter path(to.subspan(kPathAt, kPathBytes));
    for (const Age& age : form.history.path) put_age(path, age);
    for (std::size_t i = 0; i < form.nodes.size(); ++i)
        put_record(to.subspan(kTableAt + i * kRecordBytes, kRecordBytes), form.nodes[i]);
    store_be(to.data() + kTailAt, kMagic);
    store_be(to.data() + kChecksumAt, crc32c(to.first(kChecksumAt)));
}

Reading decode_superblock(std::span<const std::byte> bytes) {
    if (bytes.size() != kSuperblockBytes) return damaged("it is not all there");
    if (std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; }))
        return std::unexpected(Unreadable{.kind = Unreadable::Kind::blank});
    const bool has_front = load_be<std::uint64_t>(bytes.data()) == kMagic;
    const bool has_back = load_be<std::uint64_t>(bytes.data() + kTailAt) == kMagic;
    if (!has_front && !has_back)
        return std::unexpected(Unreadable{.kind = Unreadable::Kind::foreign});
    if (load_be<std::uint32_t>(bytes.data() + kChecksumAt) != crc32c(bytes.first(kChecksumAt)))
        return damaged("wrong checksum");
    if (!has_front || !has_back) return damaged("one magic number of two");
    const auto version = load_be<std::uint32_t>(bytes.data() + 8);
    if (version > kVersion)
        return std::unexpected(Unreadable{.kind = Unreadable::Kind::newer, .version = version});
    if (version != kVersion) return damaged("version 0");

    Reading reading = take_all(bytes);
    if (!reading) return reading;
    if (const char* broken = broken_rule(*reading)) return damaged(broken);
    std::array<std::byte, kSuperblockBytes> again;
    encode_superblock(again, *reading);
    if (!std::ranges::equal(again, bytes)) return damaged("bytes that mean nothing");
    return reading;
}

Reading choose(Reading a, Reading b) {
    const auto is_newer = [](const Reading& reading) {
        return !reading && reading.error().kind == Unreadable::Kind::newer;
    };
    if (is_newer(a)) return a;
    if (is_newer(b)) return b;
    // Of two that can't be used the worse news: the kinds are in that order.
    if (!a && !b) return a.error().kind >= b.error().kind ? a : b;
    if (!a) return b;
    if (!b) return a;
    if (a->form.storage_id != b->form.storage_id)
        return damaged("its two copies are of two storages");
    if (a->sequence == b->sequence && *a != *b)
        return damaged("its two copies have one sequence number and differ");
    return a->sequence >= b->sequence ? a : b;
}

}  // namespace dst::metadata
