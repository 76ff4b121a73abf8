// The numbers of the NBD protocol, and of our private extension to it.
//
// Names follow doc/proto.md of the NBD project ("proto.md" in comments): NBD_FLAG_READ_ONLY is
// kFlagReadOnly, NBD_OPT_GO is Option::go. What begins with `dst` is ours: docs/protocol.md.
// All numbers on the wire are big-endian.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dst::nbd {

// Limits. A peer that exceeds one is refused; none of them makes us hold more memory than it says.
inline constexpr std::uint32_t kStringBytesMax = 4096;            // proto.md, Conventions
inline constexpr std::uint32_t kOptionBytesMax = 16 << 10;        // longer: NBD_REP_ERR_TOO_BIG
inline constexpr std::uint32_t kOptionReplyBytesMax = 64 << 10;   // longer: the client gives up
inline constexpr std::uint32_t kOptionSkippedBytesMax = 4 << 20;  // longer: the connection ends
inline constexpr std::uint32_t kPayloadBytesMax = 32 << 20;  // proto.md, Block size constraints
inline constexpr std::uint16_t kDefaultPort = 10809;

// Magic numbers.
inline constexpr std::uint64_t kMagic = 0x4e42444d41474943;        // "NBDMAGIC"
inline constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr std::uint64_t kOldstyleMagic = 0x0000420281861253;
inline constexpr std::uint64_t kOptionReplyMagic = 0x0003e889045565a9;
inline constexpr std::uint32_t kRequestMagic = 0x25609513;
inline constexpr std::uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr std::uint32_t kChunkMagic = 0x668e33ef;

// Handshake flags (server), client flags.
inline constexpr std::uint16_t kHandshakeFlagFixedNewstyle = 1 << 0;
inline constexpr std::uint16_t kHandshakeFlagNoZeroes = 1 << 1;
inline constexpr std::uint32_t kClientFlagFixedNewstyle = 1 << 0;
inline constexpr std::uint32_t kClientFlagNoZeroes = 1 << 1;

// Transmission flags.
inline constexpr std::uint16_t kFlagHasFlags = 1 << 0;
inline constexpr std::uint16_t kFlagReadOnly = 1 << 1;
inline constexpr std::uint16_t kFlagSendFlush = 1 << 2;
inline constexpr std::uint16_t kFlagSendFua = 1 << 3;
inline constexpr std::uint16_t kFlagRotational = 1 << 4;
inline constexpr std::uint16_t kFlagSendTrim = 1 << 5;
inline constexpr std::uint16_t kFlagSendWriteZeroes = 1 << 6;
inline constexpr std::uint16_t kFlagSendDf = 1 << 7;
inline constexpr std::uint16_t kFlagCanMultiConn = 1 << 8;
inline constexpr std::uint16_t kFlagSendCache = 1 << 10;
inline constexpr std::uint16_t kFlagSendFastZero = 1 << 11;

enum class Option : std::uint32_t {
    export_name = 1,
    abort = 2,
    list = 3,
    start_tls = 5,
    info = 6,
    go = 7,
    structured_reply = 8,
    list_meta_context = 9,
    set_meta_context = 10,
    dst_hello = 0x64737401,  // "dst", 1
};

enum class ReplyType : std::uint32_t {
    ack = 1,
    server = 2,
    info = 3,
    meta_context = 4,
    dst_hello = 0x64737401,
    error_unsupported = (1u << 31) + 1,
    error_policy = (1u << 31) + 2,
    error_invalid = (1u << 31) + 3,
    error_platform = (1u << 31) + 4,
    error_tls_required = (1u << 31) + 5,
    error_unknown = (1u << 31) + 6,
    error_shutdown = (1u << 31) + 7,
    error_block_size_required = (1u << 31) + 8,
    error_too_big = (1u << 31) + 9,
};

[[nodiscard]] constexpr bool is_error(ReplyType type) {
    return (static_cast<std::uint32_t>(type) & (1u << 31)) != 0;
}

enum class InfoType : std::uint16_t { export_ = 0, name = 1, description = 2, block_size = 3 };

inline constexpr std::uint32_t kBlockSizeMaxUnlimited = 0xffffffff;  // in NBD_INFO_BLOCK_SIZE
inline constexpr const char* kBaseAllocation = "base:allocation";

enum class Command : std::uint16_t {
    read = 0,
    write = 1,
    disconnect = 2,
    flush = 3,
    trim = 4,
    cache = 5,
    write_zeroes = 6,
    block_status = 7,
    dst_ping = 0x6401,  // "d", 1
    dst_reservation = 0x6402,
    dst_claim = 0x6403,
    dst_release = 0x6404,
    dst_digest = 0x6405,
};

inline constexpr std::uint16_t kCommandFlagFua = 1 << 0;
inline constexpr std::uint16_t kCommandFlagNoHole = 1 << 1;
inline constexpr std::uint16_t kCommandFlagDf = 1 << 2;
inline constexpr std::uint16_t kCommandFlagReqOne = 1 << 3;
inline constexpr std::uint16_t kCommandFlagFastZero = 1 << 4;
inline constexpr std::uint16_t kCommandFlagDstForce = 1 << 15;

enum class ChunkType : std::uint16_t {
    none = 0,
    offset_data = 1,
    offset_hole = 2,
    block_status = 5,
    dst_reservation = 0x6401,
    dst_digest = 0x6402,
    error = (1 << 15) + 1,
    error_offset = (1 << 15) + 2,
};

[[nodiscard]] constexpr bool is_error(ChunkType type) {
    return (static_cast<std::uint16_t>(type) & (1 << 15)) != 0;
}

inline constexpr std::uint16_t kReplyFlagDone = 1 << 0;

// Flags of an extent in the context base:allocation.
inline constexpr std::uint32_t kStateHole = 1 << 0;
inline constexpr std::uint32_t kStateZero = 1 << 1;

// Error numbers.
inline constexpr std::uint32_t kEperm = 1;
inline constexpr std::uint32_t kEio = 5;
inline constexpr std::uint32_t kEnomem = 12;
inline constexpr std::uint32_t kEinval = 22;
inline constexpr std::uint32_t kEnospc = 28;
inline constexpr std::uint32_t kEoverflow = 75;
inline constexpr std::uint32_t kEnotsup = 95;
inline constexpr std::uint32_t kEshutdown = 108;

// NBD_OPT_DST_HELLO.
inline constexpr std::uint16_t kHelloVersion = 1;
inline constexpr std::uint16_t kHelloFlagChecksums = 1 << 0;
inline constexpr std::uint16_t kHelloFlagSession = 1 << 1;
inline constexpr std::uint16_t kHelloAnswerFlagChecksums = 1 << 0;
inline constexpr std::uint16_t kHelloAnswerFlagReservations = 1 << 1;
inline constexpr std::uint16_t kHelloAnswerFlagDigests = 1 << 2;

// Chunk of a reservation.
inline constexpr std::uint32_t kReservationFlagHeld = 1 << 0;
inline constexpr std::uint32_t kReservationFlagOpen = 1 << 1;

/// The longest range of NBD_CMD_DST_DIGEST, in bytes.
inline constexpr std::uint32_t kDigestRangeBytesMax = 1 << 20;

// Sizes on the wire, in bytes.
namespace detail {
template <typename... Fields>
inline constexpr std::size_t kSum = (0 + ... + sizeof(Fields));
using U16 = std::uint16_t;
using U32 = std::uint32_t;
using U64 = std::uint64_t;
}  // namespace detail

inline constexpr std::size_t kGreetingBytes = 18;
inline constexpr std::size_t kClientFlagsBytes = 4;
inline constexpr std::size_t kOptionHeaderBytes = 16;
inline constexpr std::size_t kOptionReplyHeaderBytes = 20;
inline constexpr std::size_t kExportNameReplyBytes = 10;
inline constexpr std::size_t kReservedZeroesBytes = 124;
inline constexpr std::size_t kHelloBytes = 40;  // and the name
inline constexpr std::size_t kHelloAnswerBytes = 24;
inline constexpr std::size_t kReservationBytes = 36;  // and the sizes
inline constexpr std::size_t kDigestBytes = 16;
inline constexpr std::size_t kRequestHeaderBytes = 28;
inline constexpr std::size_t kSimpleReplyHeaderBytes = 16;
inline constexpr std::size_t kChunkHeaderBytes = 20;
inline constexpr std::size_t kFrameChecksumsBytes = 8;

static_assert(kGreetingBytes == detail::kSum<detail::U64, detail::U64, detail::U16>);
static_assert(kOptionHeaderBytes == detail::kSum<detail::U64, detail::U32, detail::U32>);
static_assert(kOptionReplyHeaderBytes ==
              detail::kSum<detail::U64, detail::U32, detail::U32, detail::U32>);
static_assert(kExportNameReplyBytes == detail::kSum<detail::U64, detail::U16>);
static_assert(kHelloBytes == detail::kSum<detail::U16, detail::U16, detail::U64, detail::U64,
                                          detail::U64, detail::U64, detail::U32>);
static_assert(kHelloAnswerBytes ==
              detail::kSum<detail::U16, detail::U16, detail::U64, detail::U64, detail::U32>);
static_assert(
    kReservationBytes ==
    detail::kSum<detail::U64, detail::U64, detail::U64, detail::U32, detail::U32, detail::U32>);
static_assert(
    kRequestHeaderBytes ==
    detail::kSum<detail::U32, detail::U16, detail::U16, detail::U64, detail::U64, detail::U32>);
static_assert(kSimpleReplyHeaderBytes == detail::kSum<detail::U32, detail::U32, detail::U64>);
static_assert(kChunkHeaderBytes ==
              detail::kSum<detail::U32, detail::U16, detail::U16, detail::U64, detail::U32>);

}  // namespace dst::nbd
