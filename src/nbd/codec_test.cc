#include "nbd/codec.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <random>
#include <utility>

#include "nbd/test_support.h"

namespace dst::nbd {
namespace {

using test::Bytes;
using test::from_hex;
using test::tidy;
using test::to_hex;
using Action = Verdict::Action;

constexpr std::uint32_t kAllOnes = 0xffffffff;

template <typename Header>
std::string encoded(const Header& header, bool checksums, std::uint32_t payload_crc = 0) {
    Bytes bytes(frame_size<Header>(checksums));
    encode_frame(std::span(bytes), header, checksums, payload_crc);
    return to_hex(bytes);
}

const RequestHeader kRequest{
    .flags = kCommandFlagFua,
    .type = Command::write,
    .cookie = 0x0102030405060708,
    .offset = 0x1112131415161718,
    .length = 0x00200000,
};
const ChunkHeader kChunk{
    .flags = kReplyFlagDone,
    .type = ChunkType::offset_data,
    .cookie = 0x0102030405060708,
    .length = 0x208,
};

TEST(Codec, headers_are_laid_out_as_the_protocol_says) {
    EXPECT_EQ(encoded(kRequest, false),
              tidy("25609513 0001 0001 0102030405060708 1112131415161718 00200000"));
    EXPECT_EQ(encoded(SimpleReplyHeader{kEnospc, 0x0102030405060708}, false),
              tidy("67446698 0000001c 0102030405060708"));
    EXPECT_EQ(encoded(kChunk, false), tidy("668e33ef 0001 0001 0102030405060708 00000208"));
}

TEST(Codec, a_checksummed_header_is_followed_by_both_checksums) {
    // Computed apart from this code (docs/protocol.md has the first one as its example).
    EXPECT_EQ(encoded(RequestHeader{.type = Command::dst_ping, .cookie = 1}, true),
              tidy("25609513 0000 6401 0000000000000001 0000000000000000 00000000"
                   "00000000 123240bc"));
    EXPECT_EQ(encoded(ChunkHeader{kReplyFlagDone, ChunkType::none, 1, 0}, true),
              tidy("668e33ef 0001 0000 0000000000000001 00000000 00000000 50eda16a"));
}

TEST(Codec, headers_survive_encoding_and_decoding) {
    for (const bool checksums : {false, true}) {
        const auto request = decode_frame<RequestHeader>(
            from_hex(encoded(kRequest, checksums, 0xabcdef01)), checksums);
        ASSERT_TRUE(request);
        EXPECT_EQ(request->header, kRequest);
        EXPECT_EQ(request->payload_crc, checksums ? 0xabcdef01 : 0);
        const auto chunk =
            decode_frame<ChunkHeader>(from_hex(encoded(kChunk, checksums)), checksums);
        ASSERT_TRUE(chunk);
        EXPECT_EQ(chunk->header, kChunk);
        const SimpleReplyHeader simple{kAllOnes, 7};
        const auto reply =
            decode_frame<SimpleReplyHeader>(from_hex(encoded(simple, checksums)), checksums);
        ASSERT_TRUE(reply);
        EXPECT_EQ(reply->header, simple);
    }
}

template <typename Header>
void expect_all_flips_are_detected(const Header& header) {
    Bytes frame = from_hex(encoded(header, true, 0x12345678));
    for (std::size_t bit = 0; bit < frame.size() * 8; ++bit) {
        const std::byte mask{static_cast<unsigned char>(1 << bit % 8)};
        frame[bit / 8] ^= mask;
        const auto decoded = decode_frame<Header>(frame, true);
        ASSERT_FALSE(decoded) << "bit " << bit;
        EXPECT_EQ(decoded.error().code, ErrorCode::corrupt);
        frame[bit / 8] ^= mask;
    }
    EXPECT_TRUE(decode_frame<Header>(frame, true));
}

TEST(Codec, each_flipped_bit_of_a_checksummed_header_is_detected) {
    expect_all_flips_are_detected(kRequest);
    expect_all_flips_are_detected(kChunk);
    expect_all_flips_are_detected(SimpleReplyHeader{0, 99});
}

TEST(Codec, each_flipped_bit_of_a_payload_is_detected) {
    Bytes payload(600);
    std::mt19937 random(1);
    for (auto& byte : payload) byte = static_cast<std::byte>(random());
    const std::uint32_t crc = crc32c(payload);
    EXPECT_TRUE(check_payload(crc, payload));
    EXPECT_TRUE(check_payload(0, {}));
    for (std::size_t bit = 0; bit < payload.size() * 8; ++bit) {
        const std::byte mask{static_cast<unsigned char>(1 << bit % 8)};
        payload[bit / 8] ^= mask;
        EXPECT_EQ(check_payload(crc, payload).error().code, ErrorCode::corrupt);
        EXPECT_TRUE(is_wrong_checksum(check_payload(crc, payload).error()));
        payload[bit / 8] ^= mask;
    }
}

TEST(Codec, a_wrong_checksum_is_told_from_other_corruption) {
    Bytes frame(frame_size<RequestHeader>(true));
    encode_frame(std::span(frame), kRequest, true, 0);
    frame[8] ^= std::byte{1};
    EXPECT_TRUE(is_wrong_checksum(decode_frame<RequestHeader>(frame, true).error()));
    Bytes plain(frame_size<RequestHeader>(false));
    encode_frame(std::span(plain), kRequest, false, 0);
    plain[0] ^= std::byte{1};
    EXPECT_FALSE(is_wrong_checksum(decode_frame<RequestHeader>(plain, false).error()));
}

TEST(Codec, a_wrong_magic_number_is_corrupt_even_with_right_checksums) {
    for (const bool checksums : {false, true}) {
        const Bytes chunk = from_hex(encoded(kChunk, checksums));
        EXPECT_EQ(decode_frame<ChunkHeader>(chunk, checksums)->header, kChunk);
        Bytes other = chunk;
        store_be<std::uint32_t>(other.data(), kRequestMagic);
        if (checksums) store_be(other.data() + 24, crc32c(std::span(other).first(24)));
        EXPECT_EQ(decode_frame<ChunkHeader>(other, checksums).error().code, ErrorCode::corrupt);
    }
}

TEST(Codec, replies_are_told_apart_by_their_magic_number) {
    const auto kind = [](std::string_view digits) {
        return reply_kind(std::span<const std::byte, 4>(from_hex(digits).data(), 4));
    };
    EXPECT_EQ(*kind("67446698"), ReplyKind::simple);
    EXPECT_EQ(*kind("668e33ef"), ReplyKind::chunk);
    EXPECT_EQ(kind("25609513").error().code, ErrorCode::corrupt);
    EXPECT_EQ(kind("00000000").error().code, ErrorCode::corrupt);
}

TEST(Codec, the_front_of_a_data_chunk_covers_offset_and_data) {
    const Bytes data = from_hex("0a0b0c0d");
    Bytes plain(data_front_size(false));
    encode_data_front(plain, 5, kReplyFlagDone, 0x1000, data, false);
    EXPECT_EQ(to_hex(plain), tidy("668e33ef 0001 0001 0000000000000005 0000000c 0000000000001000"));

    Bytes whole(data_front_size(true));
    encode_data_front(whole, 5, 0, 0x1000, data, true);
    whole.insert(whole.end(), data.begin(), data.end());
    const auto frame = decode_frame<ChunkHeader>(std::span(whole).first(28), true);
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->header, (ChunkHeader{0, ChunkType::offset_data, 5, 12}));
    EXPECT_TRUE(check_payload(frame->payload_crc, std::span(whole).subspan(28)));
    EXPECT_EQ(to_hex(std::span(whole).subspan(28)), tidy("0000000000001000 0a0b0c0d"));
}

TEST(Codec, holes_are_laid_out_as_the_protocol_says) {
    std::array<std::byte, 12> wire{};
    encode_hole(wire, {0x1000, 0x200});
    EXPECT_EQ(to_hex(wire), tidy("0000000000001000 00000200"));
    EXPECT_EQ(*decode_hole(wire), (OffsetHole{0x1000, 0x200}));
    EXPECT_FALSE(decode_hole(std::span(wire).first(11)));
    EXPECT_FALSE(decode_hole(from_hex("0000000000001000 00000000")));
}

TEST(Codec, block_status_is_laid_out_as_the_protocol_says) {
    const std::array descriptors{BlockDescriptor{0x1000, 0},
                                 BlockDescriptor{0x2000, kStateHole | kStateZero}};
    Bytes wire(block_status_size(2));
    encode_block_status(wire, 1, descriptors);
    EXPECT_EQ(to_hex(wire), tidy("00000001 00001000 00000000 00002000 00000003"));
    const auto status = decode_block_status(wire);
    ASSERT_TRUE(status);
    EXPECT_EQ(status->context(), 1);
    ASSERT_EQ(status->size(), 2);
    EXPECT_EQ((*status)[0], descriptors[0]);
    EXPECT_EQ((*status)[1], descriptors[1]);
}

TEST(Codec, malformed_block_status_is_corrupt) {
    for (const char* digits :
         {"", "00000001", "00000001 00001000", "00000001 00001000 00000000 00",
          "00000001 00000000 00000000", "00000001 00001000 00000000 00000000 00000000"})
        EXPECT_FALSE(decode_block_status(from_hex(digits))) << digits;
}

TEST(Codec, errors_are_laid_out_as_the_protocol_says) {
    const auto check = [](const ErrorBody& body, std::string_view digits) {
        Bytes wire(error_size(body));
        encode_error(wire, body);
        EXPECT_EQ(to_hex(wire), tidy(digits));
        const auto decoded = decode_error(chunk_type(body), wire);
        ASSERT_TRUE(decoded);
        EXPECT_EQ(*decoded, body);
    };
    check({kEio, "", {}}, "00000005 0000");
    check({kEinval, "oh", {}}, "00000016 0002 6f68");
    check({kEio, "oh", 0x1000}, "00000005 0002 6f68 0000000000001000");
    check({kEio, "", 0x1000}, "00000005 0000 0000000000001000");
}

TEST(Codec, long_error_messages_are_cut) {
    const std::string message(10'000, 'x');
    const ErrorBody body{kEio, message, 7};
    Bytes wire(error_size(body));
    encode_error(wire, body);
    const auto decoded = decode_error(ChunkType::error_offset, wire);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->message.size(), 4096);
    EXPECT_EQ(decoded->offset, 7);
}

TEST(Codec, malformed_errors_are_corrupt) {
    for (const char* digits : {"", "00000005 00", "00000000 0000", "00000005 0001",
                               "00000005 0003 6f68", "00000005 ffff 6f68"})
        EXPECT_FALSE(decode_error(ChunkType::error, from_hex(digits))) << digits;
    for (const char* digits :
         {"00000005 0000", "00000005 0000 00000000000010", "00000005 0001 0000000000001000"})
        EXPECT_FALSE(decode_error(ChunkType::error_offset, from_hex(digits))) << digits;
}

TEST(Codec, error_chunks_of_unknown_type_are_errors_all_the_same) {
    const Bytes wire = from_hex("00000005 0002 6f68 77777777");
    const auto decoded = decode_error(ChunkType{0x8077}, wire);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(*decoded, (ErrorBody{kEio, "oh", {}}));
}

TEST(Codec, lengths_of_chunks_are_checked_before_they_are_believed) {
    const auto good = [](ChunkType type, std::uint32_t length, std::uint16_t flags = 1) {
        return check_chunk({flags, type, 0, length}).has_value();
    };
    EXPECT_TRUE(good(ChunkType::none, 0));
    EXPECT_TRUE(good(ChunkType::none, 0, 0xffff));  // unknown flags are ignored
    EXPECT_FALSE(good(ChunkType::none, 0, 0));      // it must be the last one
    EXPECT_FALSE(good(ChunkType::none, 1));
    EXPECT_TRUE(good(ChunkType::offset_data, 9));
    EXPECT_TRUE(good(ChunkType::offset_data, 8 + kPayloadBytesMax));
    EXPECT_FALSE(good(ChunkType::offset_data, 8));
    EXPECT_FALSE(good(ChunkType::offset_data, 9 + kPayloadBytesMax));
    EXPECT_FALSE(good(ChunkType::offset_data, kAllOnes));
    EXPECT_TRUE(good(ChunkType::offset_hole, 12));
    EXPECT_FALSE(good(ChunkType::offset_hole, 11));
    EXPECT_FALSE(good(ChunkType::offset_hole, 13));
    EXPECT_TRUE(good(ChunkType::block_status, 12));
    EXPECT_FALSE(good(ChunkType::block_status, 4));
    EXPECT_FALSE(good(ChunkType::block_status, 16));
    EXPECT_FALSE(good(ChunkType::block_status, 0xfffffffc));
    EXPECT_TRUE(good(ChunkType::dst_reservation, kReservationBytes));
    EXPECT_FALSE(good(ChunkType::dst_reservation, kReservationBytes - 1));
    EXPECT_FALSE(good(ChunkType::dst_reservation, kReservationBytes + 1));
    EXPECT_TRUE(good(ChunkType::dst_reservation, kReservationBytes + 64));
    EXPECT_FALSE(good(ChunkType::dst_reservation, kReservationBytes + 72));
    EXPECT_TRUE(good(ChunkType::dst_digest, kDigestBytes));
    EXPECT_FALSE(good(ChunkType::dst_digest, kDigestBytes - 1));
    EXPECT_FALSE(good(ChunkType::dst_digest, kAllOnes));
    EXPECT_TRUE(good(ChunkType::error, 6));
    EXPECT_FALSE(good(ChunkType::error, 5));
    EXPECT_FALSE(good(ChunkType::error, kAllOnes));
    EXPECT_TRUE(good(ChunkType::error_offset, 14));
    EXPECT_FALSE(good(ChunkType::error_offset, 13));
    EXPECT_TRUE(good(ChunkType{0x8077}, 6));
    EXPECT_FALSE(good(ChunkType{3}, 6));
    EXPECT_FALSE(good(ChunkType{0x7fff}, 0));
}

TEST(Codec, a_sealed_chunk_can_be_opened) {
    for (const bool checksums : {false, true}) {
        const std::size_t front = frame_size<ChunkHeader>(checksums);
        Bytes chunk(front + 12);
        encode_hole(std::span(chunk).subspan(front).first<12>(), {4096, 512});
        seal_chunk(chunk, {kReplyFlagDone, ChunkType::offset_hole, 3, 0}, checksums);
        const auto frame = decode_frame<ChunkHeader>(std::span(chunk).first(front), checksums);
        ASSERT_TRUE(frame);
        EXPECT_EQ(frame->header.length, 12);
        if (checksums) {
            EXPECT_TRUE(check_payload(frame->payload_crc, std::span(chunk).subspan(front)));
        }
    }
}

TEST(Codec, lies_within_is_safe_against_overflow) {
    constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
    EXPECT_TRUE(lies_within(0, 10, 0, 10));
    EXPECT_TRUE(lies_within(5, 5, 0, 10));
    EXPECT_TRUE(lies_within(10, 0, 0, 10));
    EXPECT_FALSE(lies_within(5, 6, 0, 10));
    EXPECT_FALSE(lies_within(11, 0, 0, 10));
    EXPECT_FALSE(lies_within(4, 1, 5, 10));
    EXPECT_FALSE(lies_within(kMax, 2, 0, 10));
    EXPECT_FALSE(lies_within(2, kMax, 0, 10));
    EXPECT_FALSE(lies_within(kMax, kMax, kMax - 1, 10));
}

TEST(Codec, errors_keep_their_meaning_on_the_wire) {
    const std::pair<ErrorCode, std::uint32_t> pairs[] = {
        {ErrorCode::not_permitted, 1}, {ErrorCode::io_error, 5},       {ErrorCode::no_memory, 12},
        {ErrorCode::invalid, 22},      {ErrorCode::no_space, 28},      {ErrorCode::overflow, 75},
        {ErrorCode::unsupported, 95},  {ErrorCode::shutting_down, 108}};
    for (const auto& [code, error] : pairs) {
        EXPECT_EQ(to_wire_error(code), error);
        EXPECT_EQ(from_wire_error(error), code);
    }
    EXPECT_EQ(to_wire_error(ErrorCode::out_of_range), kEinval);
    EXPECT_EQ(to_wire_error(ErrorCode::node_lost), kEio);
    for (int code = 0; code <= static_cast<int>(ErrorCode::refused); ++code)
        EXPECT_NE(to_wire_error(static_cast<ErrorCode>(code)), 0);
}

TEST(Codec, unknown_errors_count_as_einval) {
    for (const std::uint32_t error : {2u, 11u, 122u, 0x7fffffffu, kAllOnes})
        EXPECT_EQ(from_wire_error(error), ErrorCode::invalid);
}

// validate()

constexpr std::uint16_t kAllFlags = kFlagHasFlags | kFlagSendFlush | kFlagSendFua | kFlagSendTrim |
                                    kFlagSendWriteZeroes | kFlagSendDf | kFlagSendCache |
                                    kFlagSendFastZero;
const ServedLimits kLimits{.size = ByteCount(1 << 30),
                           .flags = kAllFlags,
                           .base_allocation = true,
                           .hello = true,
                           .reservations = true,
                           .digests = true};
constexpr Command kRanged[] = {Command::read,  Command::write,        Command::trim,
                               Command::cache, Command::write_zeroes, Command::block_status};

RequestHeader request(Command type, std::uint64_t offset = 4096, std::uint32_t length = 512,
                      std::uint16_t flags = 0) {
    const bool ranged =
        type != Command::flush && type != Command::dst_ping && type != Command::dst_reservation;
    return {flags, type, 42, ranged ? offset : 0, ranged ? length : 0};
}

void expect_refused(const RequestHeader& header, const ServedLimits& limits,
                    std::uint32_t wire_error) {
    const Verdict verdict = validate(header, limits);
    const int type = static_cast<int>(header.type);
    EXPECT_EQ(verdict.action, Action::refuse) << "command " << type;
    EXPECT_EQ(to_wire_error(verdict.error.code), wire_error) << "command " << type;
    EXPECT_STRNE(verdict.error.what, "");
    EXPECT_EQ(verdict.payload_bytes, header.type == Command::write ? header.length : 0);
}

void expect_executed(const RequestHeader& header, const ServedLimits& limits) {
    const Verdict verdict = validate(header, limits);
    EXPECT_EQ(verdict.action, Action::execute)
        << "command " << static_cast<int>(header.type) << ": " << verdict.error.what;
    EXPECT_EQ(verdict.request.command, header.type);
    EXPECT_EQ(verdict.request.cookie, header.cookie);
    EXPECT_EQ(verdict.request.offset.value(), header.offset);
    EXPECT_EQ(verdict.request.length.value(), header.length);
    EXPECT_EQ(verdict.payload_bytes, header.type == Command::write ? header.length : 0);
}

TEST(Validate, good_requests_are_described) {
    for (const Command command : kRanged) expect_executed(request(command), kLimits);
    expect_executed(request(Command::flush), kLimits);
    expect_executed(request(Command::dst_ping), kLimits);
    expect_executed(request(Command::dst_digest), kLimits);
    expect_executed(request(Command::dst_reservation), kLimits);
    expect_executed(request(Command::dst_claim, ~0ULL, kAllOnes), kLimits);
    expect_executed(request(Command::dst_release, ~0ULL, 0), kLimits);

    const auto flags_of = [](Command command, std::uint16_t flags) {
        return validate(request(command, 0, 512, flags), kLimits).request;
    };
    EXPECT_TRUE(flags_of(Command::write, kCommandFlagFua).fua);
    EXPECT_TRUE(flags_of(Command::read, kCommandFlagDf).dont_fragment);
    EXPECT_TRUE(flags_of(Command::block_status, kCommandFlagReqOne).one_extent);
    const auto zeroes = flags_of(Command::write_zeroes, kCommandFlagNoHole | kCommandFlagFastZero);
    EXPECT_TRUE(zeroes.no_hole && zeroes.fast_zero && !zeroes.fua);
}

TEST(Validate, disconnecting_is_not_a_request) {
    EXPECT_EQ(validate(request(Command::disconnect), kLimits).action, Action::disconnect);
}

TEST(Validate, unknown_commands_are_invalid) {
    for (const int type : {8, 9, 100, 0x6400, 0x6406, 0xffff})
        expect_refused(request(static_cast<Command>(type)), kLimits, kEinval);
}

TEST(Validate, each_command_knows_its_own_flags_only) {
    const auto known = [](Command command) -> unsigned {
        switch (command) {
            case Command::read:
                return kCommandFlagFua | kCommandFlagDf;
            case Command::write_zeroes:
                return kCommandFlagFua | kCommandFlagNoHole | kCommandFlagFastZero;
            case Command::block_status:
                return kCommandFlagFua | kCommandFlagReqOne;
            case Command::dst_claim:
                return kCommandFlagFua | kCommandFlagDstForce;
            default:
                return kCommandFlagFua;
        }
    };
    for (const Command command :
         {Command::read, Command::write, Command::trim, Command::cache, Command::write_zeroes,
          Command::block_status, Command::flush, Command::dst_ping, Command::dst_digest,
          Command::dst_reservation, Command::dst_claim}) {
        for (unsigned flag = 1; flag <= 0x8000; flag <<= 1) {
            const auto header = request(command, 4096, 512, static_cast<std::uint16_t>(flag));
            if ((known(command) & flag) != 0)
                expect_executed(header, kLimits);
            else
                expect_refused(header, kLimits, kEinval);
        }
    }
}

TEST(Validate, flags_must_be_negotiated) {
    ServedLimits limits = kLimits;
    limits.flags = kFlagHasFlags | kFlagSendWriteZeroes;
    expect_refused(request(Command::write, 0, 512, kCommandFlagFua), limits, kEinval);
    expect_refused(request(Command::read, 0, 512, kCommandFlagDf), limits, kEinval);
    expect_refused(request(Command::write_zeroes, 0, 512, kCommandFlagFastZero), limits, kEinval);
    expect_executed(request(Command::write_zeroes, 0, 512, kCommandFlagNoHole), limits);
}

TEST(Validate, commands_must_be_offered) {
    ServedLimits limits = kLimits;
    limits.flags = kFlagHasFlags;
    limits.base_allocation = limits.hello = limits.reservations = limits.digests = false;
    expect_executed(request(Command::read), limits);
    expect_executed(request(Command::write), limits);
    for (const Command command :
         {Command::flush, Command::trim, Command::cache, Command::write_zeroes,
          Command::block_status, Command::dst_ping, Command::dst_reservation, Command::dst_claim,
          Command::dst_digest})
        expect_refused(request(command), limits, kEinval);
    expect_refused(request(Command::dst_release, 7, 0), limits, kEinval);
    // A plain hello, without a session, grants a ping and digests alone.
    limits.hello = limits.digests = true;
    expect_executed(request(Command::dst_ping), limits);
    expect_executed(request(Command::dst_digest), limits);
    expect_refused(request(Command::dst_reservation), limits, kEinval);
}

TEST(Validate, numbers_of_reservations_are_no_range) {
    const auto claim =
        validate(request(Command::dst_claim, 7, 10'001, kCommandFlagDstForce), kLimits);
    EXPECT_EQ(claim.request.offset.value(), 7U);
    EXPECT_EQ(claim.request.length.value(), 10'001U);
    EXPECT_TRUE(claim.request.force);
    expect_refused(request(Command::dst_claim, 7, 0), kLimits, kEinval);
    expect_refused(request(Command::dst_release, 7, 512), kLimits, kEinval);
    expect_refused({0, Command::dst_reservation, 1, 512, 0}, kLimits, kEinval);
    expect_refused({0, Command::dst_reservation, 1, 0, 512}, kLimits, kEinval);
    // Who may not change anything may not keep others from it.
    ServedLimits limits = kLimits;
    limits.flags |= kFlagReadOnly;
    expect_refused(request(Command::dst_claim, 7, 1), limits, kEperm);
    expect_refused(request(Command::dst_release, 7, 0), limits, kEperm);
    expect_executed(request(Command::dst_reservation), limits);
    expect_executed(request(Command::dst_digest), limits);
}

TEST(Validate, ranges_of_digests_are_limited) {
    expect_executed(request(Command::dst_digest, 4096, kDigestRangeBytesMax), kLimits);
    expect_refused(request(Command::dst_digest, 4096, kDigestRangeBytesMax + 512), kLimits,
                   kEinval);
    expect_refused(request(Command::dst_digest, 1, 512), kLimits, kEinval);
    expect_refused(request(Command::dst_digest, 0, 0), kLimits, kEinval);
    expect_refused(request(Command::dst_digest, 1 << 30, 512), kLimits, kEinval);
}

TEST(Validate, changes_of_a_read_only_export_are_not_permitted) {
    ServedLimits limits = kLimits;
    limits.flags |= kFlagReadOnly;
    for (const Command command : {Command::write, Command::trim, Command::write_zeroes})
        expect_refused(request(command), limits, kEperm);
    for (const Command command :
         {Command::read, Command::cache, Command::block_status, Command::flush})
        expect_executed(request(command), limits);
    // Also if they are not even offered.
    limits.flags = kFlagHasFlags | kFlagReadOnly;
    expect_refused(request(Command::trim), limits, kEperm);
}

TEST(Validate, requests_beyond_the_end_are_refused) {
    const std::uint64_t size = kLimits.size.value();
    constexpr std::uint64_t kFarOff = std::numeric_limits<std::uint64_t>::max() - 511;
    for (const Command command : kRanged) {
        const bool writes = command == Command::write || command == Command::write_zeroes;
        const std::uint32_t error = writes ? kEnospc : kEinval;
        expect_executed(request(command, size - 512), kLimits);
        expect_refused(request(command, size), kLimits, error);
        expect_refused(request(command, size - 512, 1024), kLimits, error);
        expect_refused(request(command, kFarOff, 512), kLimits, error);
        expect_refused(request(command, kFarOff, 1024), kLimits, error);
    }
}

TEST(Validate, unaligned_requests_are_invalid) {
    for (const Command command : kRanged) {
        for (const auto& [offset, length] :
             {std::pair{1u, 512u}, {511u, 512u}, {0u, 1u}, {0u, 513u}, {256u, 256u}})
            expect_refused(request(command, offset, length), kLimits, kEinval);
    }
    ServedLimits limits = kLimits;
    limits.block_bytes = 4096;
    expect_refused(request(Command::read, 512, 4096), limits, kEinval);
    expect_refused(request(Command::read, 4096, 512), limits, kEinval);
    expect_executed(request(Command::read, 4096, 4096), limits);
}

TEST(Validate, empty_requests_are_invalid) {
    for (const Command command : kRanged) expect_refused(request(command, 0, 0), kLimits, kEinval);
}

TEST(Validate, flush_and_ping_take_no_range) {
    for (const Command command : {Command::flush, Command::dst_ping}) {
        expect_refused({0, command, 1, 512, 0}, kLimits, kEinval);
        expect_refused({0, command, 1, 0, 512}, kLimits, kEinval);
    }
}

TEST(Validate, payloads_are_limited) {
    expect_executed(request(Command::read, 0, kPayloadBytesMax), kLimits);
    expect_executed(request(Command::write, 0, kPayloadBytesMax), kLimits);
    expect_refused(request(Command::read, 0, kPayloadBytesMax + 512), kLimits, kEinval);
    EXPECT_EQ(validate(request(Command::write, 0, kPayloadBytesMax + 512), kLimits).action,
              Action::close);
    ServedLimits limits = kLimits;
    limits.payload_bytes_max = 1 << 20;
    expect_refused(request(Command::read, 0, 2 << 20), limits, kEinval);
    expect_refused(request(Command::write, 0, 2 << 20), limits, kEinval);
    // Those without a payload are not.
    for (const Command command :
         {Command::trim, Command::cache, Command::write_zeroes, Command::block_status})
        expect_executed(request(command, 0, 1 << 30), limits);
}

TEST(Validate, the_greatest_length_is_survived) {
    EXPECT_EQ(validate(request(Command::write, 0, kAllOnes), kLimits).action, Action::close);
    for (const Command command : kRanged)
        if (command != Command::write)
            expect_refused(request(command, 0, kAllOnes), kLimits, kEinval);
    ServedLimits limits = kLimits;
    limits.size = ByteCount(std::uint64_t{1} << 40);
    expect_executed(request(Command::trim, 0, kAllOnes - 511), limits);
}

}  // namespace
}  // namespace dst::nbd
