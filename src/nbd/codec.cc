#include "nbd/codec.h"

#include <algorithm>

#include "nbd/reservation.h"

namespace dst::nbd {

namespace {

constexpr std::size_t kErrorBodyBytesMin = 6;         // error, message length
constexpr std::size_t kErrorOffsetBodyBytesMin = 14;  // and offset

// The message's own limit is 4096, but its length field allows more, and others may have fields of
// their own behind it.
constexpr std::size_t kErrorBodyBytesMax = kErrorOffsetBodyBytesMin + 0xffff + 4096;

std::string_view cut_message(const ErrorBody& body) {
    return body.message.substr(0, kStringBytesMax);
}

constexpr std::size_t error_body_bytes_min(ChunkType type) {
    return type == ChunkType::error_offset ? kErrorOffsetBodyBytesMin : kErrorBodyBytesMin;
}

bool is_known(ChunkType type) {
    return type == ChunkType::none || type == ChunkType::offset_data ||
           type == ChunkType::offset_hole || type == ChunkType::block_status ||
           type == ChunkType::dst_reservation || type == ChunkType::dst_digest;
}

bool has_good_length(const ChunkHeader& header) {
    switch (header.type) {
        case ChunkType::none:
            return header.length == 0 && header.is_last();
        case ChunkType::offset_data:
            return header.length > kOffsetBytes && header.length <= kOffsetBytes + kPayloadBytesMax;
        case ChunkType::offset_hole:
            return header.length == OffsetHole::kWireBytes;
        case ChunkType::block_status:
            return header.length >= block_status_size(1) && header.length <= kPayloadBytesMax &&
                   (header.length - block_status_size(0)) % BlockDescriptor::kWireBytes == 0;
        case ChunkType::dst_reservation:
            return is_reservation_length(header.length);
        case ChunkType::dst_digest:
            return header.length == kDigestBytes;
        default:
            break;
    }
    return header.length >= error_body_bytes_min(header.type) &&
           header.length <= kErrorBodyBytesMax;
}

}  // namespace

Result<> check_chunk(const ChunkHeader& header) {
    // "For all other messages with unknown or unexpected type or inconsistent contents, the client
    // MUST initiate a hard disconnect." (proto.md, Structured reply types)
    if (!is_known(header.type) && !is_error(header.type))
        return fail(ErrorCode::corrupt, "type of a chunk");
    if (!has_good_length(header)) return fail(ErrorCode::corrupt, "length of a chunk");
    return {};
}

void seal_chunk(std::span<std::byte> chunk, ChunkHeader header, bool checksums) {
    const std::size_t front = frame_size<ChunkHeader>(checksums);
    CHECK(chunk.size() >= front && chunk.size() - front <= kOffsetBytes + kPayloadBytesMax);
    const auto payload = chunk.subspan(front);
    header.length = static_cast<std::uint32_t>(payload.size());
    CHECK(check_chunk(header));
    encode_frame(chunk.first(front), header, checksums, checksums ? crc32c(payload) : 0);
}

void encode_hole(std::span<std::byte, OffsetHole::kWireBytes> to, const OffsetHole& hole) {
    CHECK(hole.length != 0);
    ByteWriter(to).put(hole.offset).put(hole.length);
}

Result<OffsetHole> decode_hole(std::span<const std::byte> payload) {
    if (payload.size() != OffsetHole::kWireBytes)
        return fail(ErrorCode::corrupt, "length of a hole chunk");
    ByteReader reader(payload);
    const auto offset = reader.take<std::uint64_t>();
    const OffsetHole hole{offset, reader.take<std::uint32_t>()};
    if (hole.length == 0) return fail(ErrorCode::corrupt, "an empty hole");
    return hole;
}

void encode_block_status(std::span<std::byte> to, std::uint32_t context,
                         std::span<const BlockDescriptor> descriptors) {
    CHECK(!descriptors.empty() && to.size() == block_status_size(descriptors.size()));
    ByteWriter writer(to);
    writer.put(context);
    for (const auto& descriptor : descriptors) {
        CHECK(descriptor.length != 0);
        writer.put(descriptor.length).put(descriptor.flags);
    }
}

Result<BlockStatus> decode_block_status(std::span<const std::byte> payload) {
    if (payload.size() < block_status_size(1) ||
        (payload.size() - block_status_size(0)) % BlockDescriptor::kWireBytes != 0)
        return fail(ErrorCode::corrupt, "length of a block status chunk");
    const BlockStatus status(load_be<std::uint32_t>(payload.data()), payload.subspan(4));
    for (std::size_t i = 0; i < status.size(); ++i)
        if (status[i].length == 0) return fail(ErrorCode::corrupt, "an empty extent");
    return status;
}

std::size_t error_size(const ErrorBody& body) {
    return error_body_bytes_min(chunk_type(body)) + cut_message(body).size();
}

void encode_error(std::span<std::byte> to, const ErrorBody& body) {
    CHECK(to.size() == error_size(body) && body.error != 0);
    const auto message = cut_message(body);
    ByteWriter writer(to);
    writer.put(body.error).put(static_cast<std::uint16_t>(message.size()));
    writer.put_bytes(as_bytes(message));
    if (body.offset) writer.put(*body.offset);
}

Result<ErrorBody> decode_error(ChunkType type, std::span<const std::byte> payload) {
    if (payload.size() < error_body_bytes_min(type))
        return fail(ErrorCode::corrupt, "length of an error chunk");
    ErrorBody body;
    ByteReader reader(payload);
    body.error = reader.take<std::uint32_t>();
    const std::size_t message_bytes = reader.take<std::uint16_t>();
    if (body.error == 0) return fail(ErrorCode::corrupt, "an error chunk without an error");
    if (message_bytes > payload.size() - error_body_bytes_min(type))
        return fail(ErrorCode::corrupt, "message length of an error chunk");
    body.message = reader.take_text(message_bytes);
    if (type == ChunkType::error_offset) body.offset = reader.take<std::uint64_t>();
    return body;
}

std::uint32_t to_wire_error(ErrorCode code) {
    switch (code) {
        case ErrorCode::invalid:
        case ErrorCode::out_of_range:
            return kEinval;
        case ErrorCode::not_permitted:
            return kEperm;
        case ErrorCode::no_space:
            return kEnospc;
        case ErrorCode::no_memory:
            return kEnomem;
        case ErrorCode::overflow:
            return kEoverflow;
        case ErrorCode::unsupported:
            return kEnotsup;
        case ErrorCode::shutting_down:
            return kEshutdown;
        case ErrorCode::io_error:
        case ErrorCode::node_lost:
        case ErrorCode::corrupt:
        case ErrorCode::cancelled:
        case ErrorCode::timed_out:
        case ErrorCode::busy:
        case ErrorCode::not_found:
        case ErrorCode::exists:
        case ErrorCode::refused:
            return kEio;
    }
    return kEio;
}

ErrorCode from_wire_error(std::uint32_t error) {
    switch (error) {
        case kEperm:
            return ErrorCode::not_permitted;
        case kEio:
            return ErrorCode::io_error;
        case kEnomem:
            return ErrorCode::no_memory;
        case kEnospc:
            return ErrorCode::no_space;
        case kEoverflow:
            return ErrorCode::overflow;
        case kEnotsup:
            return ErrorCode::unsupported;
        case kEshutdown:
            return ErrorCode::shutting_down;
        default:
            return ErrorCode::invalid;
    }
}

namespace {

/// What offset and length of a request mean.
enum class Span : std::uint8_t {
    range,    // of the export
    nothing,  // both must be 0
    number,   // of a reservation; length must be 0
    claim,    // number, and takeover in ms, which is not 0
};

/// What a command is: which transmission flag exposes it, which of its own flags it knows.
struct CommandRules {
    bool known = false;
    std::uint16_t exposed_by = kFlagHasFlags;
    std::uint16_t command_flags = 0;
    bool changes = false;
    Span span = Span::range;
    std::uint32_t range_bytes_max = 0xffffffff;
};

CommandRules rules_of(Command command) {
    switch (command) {
        case Command::read:
            return {.known = true, .command_flags = kCommandFlagDf};
        case Command::write:
            return {.known = true, .changes = true};
        case Command::flush:
            return {.known = true, .exposed_by = kFlagSendFlush, .span = Span::nothing};
        case Command::trim:
            return {.known = true, .exposed_by = kFlagSendTrim, .changes = true};
        case Command::cache:
            return {.known = true, .exposed_by = kFlagSendCache};
        case Command::write_zeroes:
            return {.known = true,
                    .exposed_by = kFlagSendWriteZeroes,
                    .command_flags = kCommandFlagNoHole | kCommandFlagFastZero,
                    .changes = true};
        case Command::block_status:
            return {.known = true, .command_flags = kCommandFlagReqOne};
        case Command::dst_ping:
        case Command::dst_reservation:
            return {.known = true, .span = Span::nothing};
        case Command::dst_claim:
            return {.known = true,
                    .command_flags = kCommandFlagDstForce,
                    .changes = true,
                    .span = Span::claim};
        case Command::dst_release:
            return {.known = true, .changes = true, .span = Span::number};
        case Command::dst_digest:
            return {.known = true, .range_bytes_max = kDigestRangeBytesMax};
        case Command::disconnect:
            break;
    }
    return {};
}

/// Command flags that were negotiated, for whatever command. FUA is valid for all (proto.md,
/// Command flags).
std::uint16_t negotiated_command_flags(std::uint16_t flags) {
    unsigned known = kCommandFlagNoHole | kCommandFlagReqOne | kCommandFlagDstForce;
    if ((flags & kFlagSendFua) != 0) known |= kCommandFlagFua;
    if ((flags & kFlagSendDf) != 0) known |= kCommandFlagDf;
    if ((flags & kFlagSendFastZero) != 0) known |= kCommandFlagFastZero;
    return static_cast<std::uint16_t>(known);
}

/// Our own commands, each by what the private option has agreed on.
bool is_agreed_on(Command command, const ServedLimits& limits) {
    switch (command) {
        case Command::dst_ping:
            return limits.hello;
        case Command::dst_reservation:
        case Command::dst_claim:
        case Command::dst_release:
            return limits.reservations;
        case Command::dst_digest:
            return limits.digests;
        default:
            return true;
    }
}

/// The order: what is asked at all, whether it may, then where.
Result<> check_command(const RequestHeader& header, const CommandRules& rules,
                       const ServedLimits& limits) {
    if (!rules.known) return fail(ErrorCode::invalid, "unknown command");
    if (!is_agreed_on(header.type, limits))
        return fail(ErrorCode::invalid, "a private command that was not agreed on");
    const unsigned flags =
        (rules.command_flags | kCommandFlagFua) & negotiated_command_flags(limits.flags);
    if ((header.flags & ~flags) != 0) return fail(ErrorCode::invalid, "command flag");
    if (rules.changes && (limits.flags & kFlagReadOnly) != 0)
        return fail(ErrorCode::not_permitted, "the export is read-only");
    if (rules.exposed_by != kFlagHasFlags && (limits.flags & rules.exposed_by) == 0)
        return fail(ErrorCode::invalid, "a command that was not offered");
    if (header.type == Command::block_status && !limits.base_allocation)
        return fail(ErrorCode::invalid, "block status without a context");
    return {};
}

Result<> check_numbers(const RequestHeader& header, Span span) {
    if (span == Span::claim)
        return header.length != 0 ? Result<>{} : fail(ErrorCode::invalid, "a takeover of 0 ms");
    if (header.length != 0 || (header.offset != 0 && span == Span::nothing))
        return fail(ErrorCode::invalid, "offset and length must be 0");
    return {};
}

Result<> check_range(const RequestHeader& header, const CommandRules& rules,
                     const ServedLimits& limits) {
    if (rules.span != Span::range) return check_numbers(header, rules.span);
    // Unspecified (proto.md, NBD_CMD_READ and others); we have no empty requests inside.
    if (header.length == 0) return fail(ErrorCode::invalid, "empty request");
    const bool has_payload = header.type == Command::read || header.type == Command::write;
    if (has_payload && header.length > limits.payload_bytes_max)
        return fail(ErrorCode::invalid, "longer than the payload maximum");
    if (header.length > rules.range_bytes_max)
        return fail(ErrorCode::invalid, "longer than this command may be");
    if (((header.offset | header.length) & (limits.block_bytes - 1)) != 0)
        return fail(ErrorCode::invalid, "unaligned request");
    if (lies_within(header.offset, header.length, 0, limits.size.value())) return {};
    // ENOSPC for writes and write zeroes, EINVAL for the others, trim too (proto.md, Error values;
    // NBD_CMD_WRITE_ZEROES).
    const bool writes = header.type == Command::write || header.type == Command::write_zeroes;
    return fail(writes ? ErrorCode::no_space : ErrorCode::out_of_range,
                "beyond the end of the export");
}

}  // namespace

Verdict validate(const RequestHeader& header, const ServedLimits& limits) {
    using Action = Verdict::Action;
    if (header.type == Command::disconnect) return {.action = Action::disconnect};
    Verdict verdict;
    if (header.type == Command::write) {
        // A refused write is followed by its payload all the same. We skip up to the maximum;
        // more counts as an attack (proto.md, Block size constraints).
        if (header.length > kPayloadBytesMax)
            return {.action = Action::close,
                    .error = {ErrorCode::invalid, "a write of more than 32 MiB"}};
        verdict.payload_bytes = header.length;
    }
    const CommandRules rules = rules_of(header.type);
    auto checked = check_command(header, rules, limits);
    if (checked) checked = check_range(header, rules, limits);
    if (!checked) {
        verdict.action = Action::refuse;
        verdict.error = checked.error();
        return verdict;
    }
    verdict.request = {.command = header.type,
                       .fua = (header.flags & kCommandFlagFua) != 0,
                       .no_hole = (header.flags & kCommandFlagNoHole) != 0,
                       .dont_fragment = (header.flags & kCommandFlagDf) != 0,
                       .one_extent = (header.flags & kCommandFlagReqOne) != 0,
                       .fast_zero = (header.flags & kCommandFlagFastZero) != 0,
                       .force = (header.flags & kCommandFlagDstForce) != 0,
                       .cookie = header.cookie,
                       .offset = ByteOffset(header.offset),
                       .length = ByteCount(header.length)};
    return verdict;
}

}  // namespace dst::nbd
