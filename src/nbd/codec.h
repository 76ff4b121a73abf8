// The transmission phase on the wire: bytes in, values out, nothing allocated.
//
// Two framings carry the same headers and payloads. Plain is NBD as proto.md has it
// ("Transmission", its messages). Checksummed is ours, agreed on in the handshake
// (docs/protocol.md):
//
//     | header, as in plain | CRC32C of the payload | CRC32C of all before | payload ...
//                             4 bytes                 4 bytes
//
// so a header is checked before its length is believed. What a peer sent is never CHECKed: it
// yields `corrupt`, and the connection cannot go on, for nobody knows where the next frame begins.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/result.h"
#include "base/units.h"
#include "nbd/protocol.h"

namespace dst::nbd {

// Headers. `put` and `take` handle what stands behind the magic number.

struct RequestHeader {
    std::uint16_t flags = 0;
    Command type = Command::read;
    std::uint64_t cookie = 0;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;

    static constexpr std::size_t kWireBytes = kRequestHeaderBytes;
    static constexpr std::uint32_t kWireMagic = kRequestMagic;
    void put(std::byte* to) const {
        store_be<std::uint16_t>(to, flags);
        store_be<std::uint16_t>(to + 2, static_cast<std::uint16_t>(type));
        store_be<std::uint64_t>(to + 4, cookie);
        store_be<std::uint64_t>(to + 12, offset);
        store_be<std::uint32_t>(to + 20, length);
    }
    static RequestHeader take(const std::byte* from) {
        return {load_be<std::uint16_t>(from), Command{load_be<std::uint16_t>(from + 2)},
                load_be<std::uint64_t>(from + 4), load_be<std::uint64_t>(from + 12),
                load_be<std::uint32_t>(from + 20)};
    }
    friend bool operator==(const RequestHeader&, const RequestHeader&) = default;
};

struct SimpleReplyHeader {
    std::uint32_t error = 0;
    std::uint64_t cookie = 0;

    static constexpr std::size_t kWireBytes = kSimpleReplyHeaderBytes;
    static constexpr std::uint32_t kWireMagic = kSimpleReplyMagic;
    void put(std::byte* to) const {
        store_be<std::uint32_t>(to, error);
        store_be<std::uint64_t>(to + 4, cookie);
    }
    static SimpleReplyHeader take(const std::byte* from) {
        return {load_be<std::uint32_t>(from), load_be<std::uint64_t>(from + 4)};
    }
    friend bool operator==(const SimpleReplyHeader&, const SimpleReplyHeader&) = default;
};

struct ChunkHeader {
    std::uint16_t flags = 0;
    ChunkType type = ChunkType::none;
    std::uint64_t cookie = 0;
    std::uint32_t length = 0;

    static constexpr std::size_t kWireBytes = kChunkHeaderBytes;
    static constexpr std::uint32_t kWireMagic = kChunkMagic;
    void put(std::byte* to) const {
        store_be<std::uint16_t>(to, flags);
        store_be<std::uint16_t>(to + 2, static_cast<std::uint16_t>(type));
        store_be<std::uint64_t>(to + 4, cookie);
        store_be<std::uint32_t>(to + 12, length);
    }
    static ChunkHeader take(const std::byte* from) {
        return {load_be<std::uint16_t>(from), ChunkType{load_be<std::uint16_t>(from + 2)},
                load_be<std::uint64_t>(from + 4), load_be<std::uint32_t>(from + 12)};
    }
    [[nodiscard]] bool is_last() const { return (flags & kReplyFlagDone) != 0; }
    friend bool operator==(const ChunkHeader&, const ChunkHeader&) = default;
};

template <typename Header>
concept WireHeader = requires(const Header header, std::byte* to, const std::byte* from) {
    header.put(to);
    { Header::take(from) } -> std::same_as<Header>;
};

/// A header and the checksum of the payload behind it; 0 in plain framing.
template <WireHeader Header>
struct Frame {
    Header header;
    std::uint32_t payload_crc = 0;
};

/// Bytes before the payload: the header, and its checksums if there are any.
template <WireHeader Header>
[[nodiscard]] constexpr std::size_t frame_size(bool checksums) {
    return Header::kWireBytes + (checksums ? kFrameChecksumsBytes : 0);
}
static_assert(frame_size<RequestHeader>(false) == 28 && frame_size<RequestHeader>(true) == 36);
static_assert(frame_size<ChunkHeader>(false) == 20 && frame_size<ChunkHeader>(true) == 28);

/// Writes `header` to `to`, which has exactly its frame's size.
/// `payload_crc`: CRC32C of the payload; 0 if there is none. Not used in plain framing.
template <WireHeader Header>
inline void encode_frame(std::span<std::byte> to, const Header& header, bool checksums,
                         std::uint32_t payload_crc = 0) {
    CHECK(to.size() == frame_size<Header>(checksums));
    store_be<std::uint32_t>(to.data(), Header::kWireMagic);
    header.put(to.data() + 4);
    if (!checksums) return;
    store_be<std::uint32_t>(to.data() + Header::kWireBytes, payload_crc);
    store_be<std::uint32_t>(to.data() + Header::kWireBytes + 4,
                            crc32c(to.first(Header::kWireBytes + 4)));
}

/// Reads a header from `from`, which has exactly its frame's size. `corrupt` if the checksum or
/// the magic number is wrong.
template <WireHeader Header>
[[nodiscard]] inline Result<Frame<Header>> decode_frame(std::span<const std::byte> from,
                                                        bool checksums) {
    CHECK(from.size() == frame_size<Header>(checksums));
    std::uint32_t payload_crc = 0;
    if (checksums) {
        payload_crc = load_be<std::uint32_t>(from.data() + Header::kWireBytes);
        if (load_be<std::uint32_t>(from.data() + Header::kWireBytes + 4) !=
            crc32c(from.first(Header::kWireBytes + 4)))
            return fail(ErrorCode::corrupt, "checksum of a frame's header");
    }
    if (load_be<std::uint32_t>(from.data()) != Header::kWireMagic)
        return fail(ErrorCode::corrupt, "magic number of a frame");
    return Frame<Header>{Header::take(from.data() + 4), payload_crc};
}

/// Checks a payload that lies in one piece (else: compute `crc32c` over the pieces, and compare).
/// Only for checksummed framing; holds for an empty payload too, whose checksum is 0.
[[nodiscard]] inline Result<> check_payload(std::uint32_t payload_crc,
                                            std::span<const std::byte> payload) {
    if (crc32c(payload) != payload_crc) return fail(ErrorCode::corrupt, "checksum of a payload");
    return {};
}

/// Whether an error says that a frame did not hold what its checksum says: all such errors, and no
/// others, begin like this.
[[nodiscard]] inline bool is_wrong_checksum(const Error& error) {
    return error.code == ErrorCode::corrupt &&
           std::string_view(error.what).starts_with("checksum of a ");
}

/// What the first four bytes of a server's message begin. In plain framing with structured
/// replies both occur; simple replies never occur in checksummed framing.
enum class ReplyKind : std::uint8_t { simple, chunk };
[[nodiscard]] inline Result<ReplyKind> reply_kind(std::span<const std::byte, 4> first) {
    const auto magic = load_be<std::uint32_t>(first.data());
    if (magic == kSimpleReplyMagic) return ReplyKind::simple;
    if (magic == kChunkMagic) return ReplyKind::chunk;
    return fail(ErrorCode::corrupt, "magic number of a reply");
}

// Payloads of chunks (proto.md, Structured reply types).

/// Checks type, length and flags of a chunk before its payload is received. `corrupt` where the
/// client must disconnect. Unknown flags and unknown *error* chunks are fine.
[[nodiscard]] Result<> check_chunk(const ChunkHeader& header);

/// Offset-data: 8 bytes of offset, then the data.
inline constexpr std::size_t kOffsetBytes = 8;

/// Bytes before the data in an offset-data chunk: frame and offset.
[[nodiscard]] constexpr std::size_t data_front_size(bool checksums) {
    return frame_size<ChunkHeader>(checksums) + kOffsetBytes;
}
/// Writes everything of an offset-data chunk but the data itself, which goes out behind it.
/// `to` has exactly `data_front_size`.
inline void encode_data_front(std::span<std::byte> to, std::uint64_t cookie, std::uint16_t flags,
                              std::uint64_t offset, std::span<const std::byte> data,
                              bool checksums) {
    CHECK(to.size() == data_front_size(checksums) && data.size() <= kPayloadBytesMax);
    const auto frame = to.first(frame_size<ChunkHeader>(checksums));
    const auto prefix = to.last(kOffsetBytes);
    store_be<std::uint64_t>(prefix.data(), offset);
    const ChunkHeader header{flags, ChunkType::offset_data, cookie,
                             static_cast<std::uint32_t>(kOffsetBytes + data.size())};
    encode_frame(frame, header, checksums, checksums ? crc32c(data, crc32c(prefix)) : 0);
}

/// Writes the frame of a chunk whose payload already stands behind it, at the end of `chunk`.
/// `header.length` is set to what it is.
void seal_chunk(std::span<std::byte> chunk, ChunkHeader header, bool checksums);

/// Part of a read's answer that is a hole.
struct OffsetHole {
    std::uint64_t offset = 0;
    std::uint32_t length = 0;  // never 0

    static constexpr std::size_t kWireBytes = 12;
    friend bool operator==(const OffsetHole&, const OffsetHole&) = default;
};
void encode_hole(std::span<std::byte, OffsetHole::kWireBytes> to, const OffsetHole& hole);
[[nodiscard]] Result<OffsetHole> decode_hole(std::span<const std::byte> payload);

/// True if `length` bytes at `offset`, named by a peer, lie within the request.
[[nodiscard]] constexpr bool lies_within(std::uint64_t offset, std::uint64_t length,
                                         std::uint64_t request_offset,
                                         std::uint64_t request_length) {
    return offset >= request_offset && offset - request_offset <= request_length &&
           length <= request_length - (offset - request_offset);
}

struct BlockDescriptor {
    std::uint32_t length = 0;  // never 0
    std::uint32_t flags = 0;   // kStateHole, kStateZero

    static constexpr std::size_t kWireBytes = 8;
    friend bool operator==(const BlockDescriptor&, const BlockDescriptor&) = default;
};

/// A view of a block-status payload.
class BlockStatus {
  public:
    BlockStatus(std::uint32_t context, std::span<const std::byte> descriptors)
        : context_(context), descriptors_(descriptors) {}

    [[nodiscard]] std::uint32_t context() const { return context_; }
    /// At least 1.
    [[nodiscard]] std::size_t size() const {
        return descriptors_.size() / BlockDescriptor::kWireBytes;
    }
    [[nodiscard]] BlockDescriptor operator[](std::size_t index) const {
        const auto at =
            descriptors_.subspan(index * BlockDescriptor::kWireBytes, BlockDescriptor::kWireBytes);
        return {load_be<std::uint32_t>(at.data()), load_be<std::uint32_t>(at.data() + 4)};
    }

  private:
    std::uint32_t context_;
    std::span<const std::byte> descriptors_;
};

[[nodiscard]] constexpr std::size_t block_status_size(std::size_t descriptors) {
    return 4 + descriptors * BlockDescriptor::kWireBytes;
}
/// `to` has exactly `block_status_size` bytes; at least one descriptor.
void encode_block_status(std::span<std::byte> to, std::uint32_t context,
                         std::span<const BlockDescriptor> descriptors);
/// The view is valid as long as `payload`. `corrupt` if there is no descriptor, or an empty one.
[[nodiscard]] Result<BlockStatus> decode_block_status(std::span<const std::byte> payload);

/// Payload of an error chunk; `offset` makes it one of type error-offset.
struct ErrorBody {
    std::uint32_t error = kEio;
    std::string_view message{};  // for a person
    std::optional<std::uint64_t> offset{};

    friend bool operator==(const ErrorBody&, const ErrorBody&) = default;
};

[[nodiscard]] constexpr ChunkType chunk_type(const ErrorBody& body) {
    return body.offset ? ChunkType::error_offset : ChunkType::error;
}
/// Messages are cut to kStringBytesMax.
[[nodiscard]] std::size_t error_size(const ErrorBody& body);
/// `to` has exactly `error_size` bytes.
void encode_error(std::span<std::byte> to, const ErrorBody& body);
/// Any error chunk, of unknown type too (then only error and message are known).
[[nodiscard]] Result<ErrorBody> decode_error(ChunkType type, std::span<const std::byte> payload);

// Errors (proto.md, Error values).

/// What a server sends for an error; never 0.
[[nodiscard]] std::uint32_t to_wire_error(ErrorCode code);
/// What a client makes of a nonzero error: unknown ones count as EINVAL (proto.md, Error values).
[[nodiscard]] ErrorCode from_wire_error(std::uint32_t error);

// Requests (proto.md, Request types).

/// What an export lets a connection do, as negotiated.
struct ServedLimits {
    ByteCount size{};
    std::uint16_t flags = kFlagHasFlags;  // transmission flags, as sent in the handshake
    std::uint32_t block_bytes = 512;      // power of two; unaligned requests are refused
    std::uint32_t payload_bytes_max = kPayloadBytesMax;
    bool base_allocation = false;  // the context was selected for this export
    bool hello = false;            // the private option was answered
    bool reservations = false;     // ... and grants the commands of reservations
    bool digests = false;          // ... and that of digests
};

/// A request that keeps every rule: flags known and negotiated, aligned, not empty, within the
/// export, permitted. Flush and ping have no range; a claim has the expected number in `offset` and
/// its takeover, in ms, in `length`, and a release the number in `offset`.
struct ValidRequest {
    Command command = Command::read;
    bool fua = false;
    bool no_hole = false;
    bool dont_fragment = false;
    bool one_extent = false;
    bool fast_zero = false;
    bool force = false;
    std::uint64_t cookie = 0;
    ByteOffset offset{};
    ByteCount length{};
};

struct Verdict {
    enum class Action : std::uint8_t {
        execute,     // `request`, once its payload is here
        refuse,      // with `error`, after skipping the payload
        disconnect,  // the client is done: finish what is in flight, then close
        close,       // it can't go on: `error.what` says why
    };
    Action action = Action::execute;
    Error error{};
    std::uint32_t payload_bytes = 0;  // what follows the header
    ValidRequest request{};
};

/// Judges a request header: pure, for each request once. `refuse` carries the code whose
/// `to_wire_error` the specification asks for.
[[nodiscard]] Verdict validate(const RequestHeader& header, const ServedLimits& limits);

}  // namespace dst::nbd
