// Fuzzes the client's side of the handshake with what a server may send: it never aborts, always
// has a reason when it fails, and does the same however the stream is cut.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "nbd/client_handshake.h"

namespace {

using namespace dst;
using namespace dst::nbd;
using State = ClientHandshake::State;

constexpr std::size_t kOutputBytesMax = 1 << 10;

template <typename T>
void append(std::vector<std::byte>& to, T value) {
    std::byte wire[sizeof(T)];
    store_be(wire, value);
    to.insert(to.end(), wire, wire + sizeof wire);
}

Wanted make_wanted(FuzzedDataProvider& input) {
    Wanted wanted{.export_name = input.ConsumeRandomLengthString(8),
                  .structured_replies = input.ConsumeBool(),
                  .base_allocation = input.ConsumeBool(),
                  .block_size = input.ConsumeBool()};
    if (input.ConsumeBool()) wanted.hello = Hello{"", input.ConsumeBool(), SessionId{1, 2, 3, 4}};
    wanted.list = input.ConsumeIntegral<std::uint8_t>() > 250;
    return wanted;
}

/// Data that fits a reply, so that what lies behind the parsers is reached too.
std::vector<std::byte> make_data(FuzzedDataProvider& input, std::uint32_t type) {
    std::vector<std::byte> data;
    if (type == 0x64737401) {
        append<std::uint16_t>(data, 1);
        append<std::uint16_t>(data, input.ConsumeIntegral<std::uint8_t>());
        data.resize(kHelloAnswerBytes - 1);
        data.push_back(std::byte{1});
    } else if (type == 3) {
        const auto info = input.ConsumeIntegralInRange<std::uint16_t>(0, 4);
        append(data, info);
        if (info == 0) append<std::uint64_t>(data, input.ConsumeIntegral<std::uint64_t>());
        if (info == 0) append<std::uint16_t>(data, input.ConsumeIntegral<std::uint16_t>());
        for (int i = 0; info == 3 && i < 3; ++i)
            append<std::uint32_t>(data, 1u << input.ConsumeIntegralInRange(0, 31));
    } else if (type == 4) {
        append<std::uint32_t>(data, 7);
        const auto name = as_bytes(kBaseAllocation);
        data.insert(data.end(), name.begin(), name.end());
    }
    return data;
}

/// A server's stream: well-formed enough to get past the magic numbers, or anything at all. The
/// options are named in the order in which the client asks, by and large.
std::vector<std::byte> make_stream(FuzzedDataProvider& input) {
    if (input.ConsumeIntegral<std::uint8_t>() < 32) return input.ConsumeRemainingBytes<std::byte>();
    constexpr std::uint32_t kOptions[] = {7, 0x64737401, 8, 10, 3};
    constexpr std::uint32_t kTypes[] = {1,          2,          3,          4,
                                        0x64737401, 0x80000001, 0x80000002, 0x80000006,
                                        0x80000005, 0x80000007, 0xffffffff};
    std::vector<std::byte> stream;
    append<std::uint64_t>(stream, kMagic);
    append<std::uint64_t>(stream, kOptionMagic);
    append<std::uint16_t>(stream, input.ConsumeIntegralInRange<std::uint16_t>(0, 3));
    while (input.remaining_bytes() > 0) {
        const auto type = input.PickValueInArray(kTypes);
        append<std::uint64_t>(stream, kOptionReplyMagic);
        append<std::uint32_t>(stream, input.PickValueInArray(kOptions));
        append<std::uint32_t>(stream, type);
        const auto shape = input.ConsumeIntegral<std::uint8_t>();
        const auto data =
            shape < 192 ? make_data(input, type) : input.ConsumeBytes<std::byte>(shape - 192u);
        append<std::uint32_t>(stream, static_cast<std::uint32_t>(data.size()));
        stream.insert(stream.end(), data.begin(), data.end());
    }
    return stream;
}

struct Outcome {
    std::vector<std::byte> sent;
    std::size_t consumed = 0;
    State state{};
    std::string text;
    friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome run(const Wanted& wanted, const std::vector<std::byte>& stream, std::size_t piece) {
    ClientHandshake handshake(wanted);
    Outcome outcome;
    while (true) {
        const auto output = handshake.output();
        CHECK(output.size() <= kOutputBytesMax);
        CHECK(output.empty() || handshake.feed(stream) == 0);
        outcome.sent.insert(outcome.sent.end(), output.begin(), output.end());
        handshake.output_sent();
        const auto rest = std::span(stream).subspan(outcome.consumed);
        const auto taken = handshake.feed(rest.first(std::min(piece, rest.size())));
        CHECK(taken <= std::min(piece, rest.size()));
        outcome.consumed += taken;
        if (taken == 0 && handshake.output().empty()) break;
    }
    if (outcome.consumed == stream.size()) handshake.closed_by_peer();
    outcome.state = handshake.state();
    outcome.text = handshake.failure().text;
    CHECK(outcome.state != State::reading);
    CHECK((outcome.state == State::failed) == !outcome.text.empty());
    CHECK(!outcome.text.contains('\n'));
    const auto& facts = handshake.result();
    if (outcome.state == State::done && !wanted.list) {
        CHECK(!facts.checksums || (facts.structured_replies && facts.hello));
        CHECK(!facts.base_allocation || facts.structured_replies);
        CHECK(facts.info.payload_max <= kPayloadBytesMax && facts.info.block_min >= 1);
        CHECK(facts.structured_replies || !facts.has_flag(kFlagSendDf));
    }
    return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider input(data, size);
    const Wanted wanted = make_wanted(input);
    const auto piece = input.ConsumeIntegralInRange<std::size_t>(1, 64);
    const auto stream = make_stream(input);
    CHECK(run(wanted, stream, stream.size() + 1) == run(wanted, stream, piece));
    return 0;
}
