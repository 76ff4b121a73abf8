// Fuzzes everything that decodes bytes of the transmission phase, and the judging of requests:
// whatever decodes is encoded again to the same bytes, and whatever is let through keeps the rules.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "nbd/codec.h"
#include "nbd/reservation.h"

namespace {

using namespace dst;
using namespace dst::nbd;

std::vector<std::byte> take_bytes(FuzzedDataProvider& input, std::size_t count) {
    auto bytes = input.ConsumeBytes<std::byte>(count);
    bytes.resize(count);
    return bytes;
}

template <typename Header>
void fuzz_header(FuzzedDataProvider& input) {
    const bool checksums = input.ConsumeBool();
    auto wire = take_bytes(input, frame_size<Header>(checksums));
    // Past the checksum and the magic number, most of the time.
    if (input.ConsumeBool()) {
        store_be<std::uint32_t>(wire.data(), Header::kWireMagic);
        if (checksums)
            store_be(wire.data() + wire.size() - 4, crc32c(std::span(wire).first(wire.size() - 4)));
    }
    const auto frame = decode_frame<Header>(wire, checksums);
    if (!frame) {
        CHECK(frame.error().code == ErrorCode::corrupt);
        return;
    }
    std::vector<std::byte> again(wire.size());
    encode_frame(std::span(again), frame->header, checksums, frame->payload_crc);
    CHECK(again == wire);
    if constexpr (std::same_as<Header, ChunkHeader>) {
        const ChunkHeader& header = frame->header;
        if (!check_chunk(header)) return;
        CHECK(header.length <= kPayloadBytesMax + kOffsetBytes);
        if (header.type == ChunkType::dst_reservation) CHECK(header.length == kReservationBytes);
        if (header.type == ChunkType::dst_digest) CHECK(header.length == kDigestBytes);
    }
}

void fuzz_payload(FuzzedDataProvider& input) {
    const auto type = ChunkType{input.ConsumeIntegral<std::uint16_t>()};
    const auto payload = input.ConsumeRemainingBytes<std::byte>();
    std::vector<std::byte> again;
    if (const auto hole = decode_hole(payload)) {
        again.resize(OffsetHole::kWireBytes);
        encode_hole(std::span(again).first<OffsetHole::kWireBytes>(), *hole);
        CHECK(again == payload);
    }
    if (const auto status = decode_block_status(payload)) {
        std::vector<BlockDescriptor> descriptors;
        descriptors.reserve(status->size());
        for (std::size_t i = 0; i < status->size(); ++i) descriptors.push_back((*status)[i]);
        again.resize(block_status_size(descriptors.size()));
        encode_block_status(again, status->context(), descriptors);
        CHECK(again == payload);
    }
    if (const auto reservation = decode_reservation(payload)) {
        CHECK(reservation->holder || (!reservation->is_open && reservation->gone.count() == 0));
        CHECK(!reservation->is_open || reservation->gone.count() == 0);
        again.resize(kReservationBytes);
        encode_reservation(std::span(again).first<kReservationBytes>(), *reservation);
        CHECK(decode_reservation(again) == *reservation);
        // Said in one way only, but for what is not believed of nobody.
        if (reservation->holder)
            CHECK(std::equal(again.begin(), again.begin() + 28, payload.begin()));
    }
    for (const auto each : {type, ChunkType::error, ChunkType::error_offset}) {
        const auto error = decode_error(each, payload);
        if (!error || error->message.size() > kStringBytesMax) continue;
        CHECK(to_wire_error(from_wire_error(error->error)) != 0);
        CHECK(error->error != 0 && error->offset.has_value() == (each == ChunkType::error_offset));
        again.resize(error_size(*error));
        encode_error(again, *error);
        CHECK(std::equal(again.begin(), again.end(), payload.begin()));
    }
}

void fuzz_validate(FuzzedDataProvider& input) {
    ServedLimits limits;
    limits.size = ByteCount(input.ConsumeIntegral<std::uint64_t>());
    limits.flags = input.ConsumeIntegral<std::uint16_t>();
    limits.block_bytes = 1u << input.ConsumeIntegralInRange(0, 16);
    limits.payload_bytes_max = input.ConsumeIntegral<std::uint32_t>();
    limits.base_allocation = input.ConsumeBool();
    limits.hello = input.ConsumeBool();
    limits.reservations = input.ConsumeBool();
    limits.digests = input.ConsumeBool();
    RequestHeader header;
    header.flags = input.ConsumeIntegral<std::uint16_t>();
    header.type =
        Command{input.ConsumeBool() ? input.ConsumeIntegral<std::uint16_t>()
                                    : input.ConsumeIntegralInRange<std::uint16_t>(0x6400, 0x6406)};
    header.offset = input.ConsumeIntegral<std::uint64_t>();
    header.length = input.ConsumeIntegral<std::uint32_t>();

    const Verdict verdict = validate(header, limits);
    CHECK(verdict.payload_bytes <= kPayloadBytesMax);
    if (verdict.action == Verdict::Action::refuse) CHECK(to_wire_error(verdict.error.code) != 0);
    if (verdict.action != Verdict::Action::execute) return;
    const auto& request = verdict.request;
    CHECK(request.command == header.type);
    CHECK(!request.fua || (limits.flags & kFlagSendFua) != 0);
    const bool changes_holder =
        request.command == Command::dst_claim || request.command == Command::dst_release;
    if (changes_holder || request.command == Command::dst_reservation) {
        CHECK(limits.reservations && verdict.payload_bytes == 0);
        CHECK(!changes_holder || (limits.flags & kFlagReadOnly) == 0);
        CHECK((request.command == Command::dst_claim) == (request.length.value() != 0));
        return;
    }
    if (request.command == Command::dst_digest)
        CHECK(limits.digests && request.length.value() <= kDigestRangeBytesMax);
    CHECK(!request.force);
    CHECK(request.offset.value() % limits.block_bytes == 0);
    CHECK(request.length.value() % limits.block_bytes == 0);
    CHECK(lies_within(request.offset.value(), request.length.value(), 0, limits.size.value()));
    CHECK((request.command != Command::write) == (verdict.payload_bytes == 0));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider input(data, size);
    switch (input.ConsumeIntegralInRange(0, 4)) {
        case 0:
            fuzz_header<RequestHeader>(input);
            break;
        case 1:
            fuzz_header<SimpleReplyHeader>(input);
            break;
        case 2:
            fuzz_header<ChunkHeader>(input);
            break;
        case 3:
            fuzz_payload(input);
            break;
        default:
            fuzz_validate(input);
            break;
    }
    return 0;
}
