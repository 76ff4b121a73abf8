// Fuzzes the server's side of the handshake with what a client may send and its owner may answer:
// it never aborts, holds no more than it says, and does the same however the stream is cut.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "nbd/server_handshake.h"

namespace {

using namespace dst;
using namespace dst::nbd;
using State = ServerHandshake::State;

constexpr std::size_t kOutputBytesMax = 1 << 14;

template <typename T>
void append(std::vector<std::byte>& to, T value) {
    std::byte wire[sizeof(T)];
    store_be(wire, value);
    to.insert(to.end(), wire, wire + sizeof wire);
}

/// Data that fits `option`, so that what lies behind the parsers is reached too.
std::vector<std::byte> make_data(FuzzedDataProvider& input, std::uint32_t option) {
    constexpr const char* kQueries[] = {"base:allocation", "base:", "x:y"};
    std::vector<std::byte> data;
    const auto put_text = [&data](std::string_view text) {
        append(data, static_cast<std::uint32_t>(text.size()));
        const auto bytes = as_bytes(text);
        data.insert(data.end(), bytes.begin(), bytes.end());
    };
    if (option == 0x64737401) {
        append<std::uint16_t>(data, input.ConsumeIntegralInRange<std::uint16_t>(0, 2));
        append<std::uint16_t>(data, input.ConsumeIntegral<std::uint8_t>());
        data.resize(kHelloBytes - 4);
    }
    put_text(input.ConsumeBool() ? "disk0" : input.ConsumeRandomLengthString(8));
    if (option == 6 || option == 7) {
        const auto count = input.ConsumeIntegralInRange<std::uint16_t>(0, 4);
        append(data, count);
        for (int i = 0; i < count; ++i)
            append<std::uint16_t>(data, input.ConsumeIntegralInRange<std::uint16_t>(0, 4));
    } else if (option == 9 || option == 10) {
        const auto count = input.ConsumeIntegralInRange<std::uint32_t>(0, 3);
        append(data, count);
        for (std::uint32_t i = 0; i < count; ++i) put_text(input.PickValueInArray(kQueries));
    }
    return data;
}

/// A client's stream: well-formed enough to get past the magic numbers, or anything at all.
std::vector<std::byte> make_stream(FuzzedDataProvider& input) {
    std::vector<std::byte> stream;
    if (input.ConsumeIntegral<std::uint8_t>() < 32) return input.ConsumeRemainingBytes<std::byte>();
    constexpr std::uint32_t kOptions[] = {1, 2, 3, 5, 6, 7, 8, 9, 10, 0x64737401, 77};
    append<std::uint32_t>(stream, input.ConsumeIntegralInRange<std::uint32_t>(0, 3));
    while (input.remaining_bytes() > 0) {
        const auto option = input.PickValueInArray(kOptions);
        const auto shape = input.ConsumeIntegral<std::uint8_t>();
        auto data =
            shape < 128 ? make_data(input, option) : input.ConsumeBytes<std::byte>(shape - 128u);
        append<std::uint64_t>(stream, kOptionMagic);
        append<std::uint32_t>(stream, option);
        append<std::uint32_t>(stream, shape == 0xff ? input.ConsumeIntegral<std::uint32_t>()
                                                    : static_cast<std::uint32_t>(data.size()));
        stream.insert(stream.end(), data.begin(), data.end());
    }
    return stream;
}

/// Answers by what was asked alone, so that two runs agree.
void answer(ServerHandshake& handshake, std::uint8_t mood) {
    if ((mood & 3) == 3)
        return handshake.answer(Refusal{ReplyType::error_unknown, std::string(mood, 'x')});
    const auto& question = handshake.question();
    if (const auto* hello = std::get_if<Hello>(&question)) {
        CHECK(is_good_name(hello->export_name));
        return handshake.answer(
            HelloAnswer{.checksums = hello->wants_checksums && (mood & 4) != 0,
                        .instance = 1,
                        .requests_max = 1,
                        .reservations = hello->session.has_value() && (mood & 8) != 0,
                        .digests = (mood & 16) != 0});
    }
    if (const auto* select = std::get_if<SelectExport>(&question)) {
        CHECK(is_good_name(select->name));
        return handshake.answer(ExportInfo{.name = select->name,
                                           .description = std::string(mood, 'd'),
                                           .size = ByteCount(mood),
                                           .flags = std::uint16_t{mood}});
    }
    const std::vector<ExportListing> listings(mood & 7, {"name", "description"});
    handshake.answer(listings);
}

struct Outcome {
    std::vector<std::byte> sent;
    std::size_t consumed = 0;
    State state{};
    friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome run(const std::vector<std::byte>& stream, std::size_t piece, std::uint8_t mood) {
    ServerHandshake handshake;
    Outcome outcome;
    while (true) {
        const auto output = handshake.output();
        CHECK(output.size() <= kOutputBytesMax);
        CHECK(output.empty() || handshake.feed(stream) == 0);
        outcome.sent.insert(outcome.sent.end(), output.begin(), output.end());
        handshake.output_sent();
        if (handshake.state() == State::asks) {
            CHECK(handshake.feed(stream) == 0);
            answer(handshake, mood);
            continue;
        }
        // As much comes as is wanted, piece by piece.
        const auto rest = std::span(stream).subspan(outcome.consumed);
        std::size_t come = std::min(piece, rest.size());
        std::size_t taken = handshake.feed(rest.first(come));
        while (taken == 0 && come < rest.size()) {
            come = std::min(come + piece, rest.size());
            taken = handshake.feed(rest.first(come));
        }
        CHECK(taken <= come);
        CHECK(taken == 0 || handshake.state() != State::done || rest.size() >= taken);
        outcome.consumed += taken;
        if (taken == 0 && handshake.output().empty() && handshake.state() != State::asks) break;
    }
    outcome.state = handshake.state();
    const auto& result = handshake.result();
    if (outcome.state == State::closed) CHECK(!handshake.close_reason().empty());
    if (outcome.state == State::done) {
        CHECK(!result.checksums || (result.structured_replies && result.hello));
        CHECK(!result.base_allocation || result.structured_replies);
        CHECK(!result.reservations || (result.hello && result.hello->session));
        CHECK(!result.hello || result.hello->export_name == result.export_name);
    }
    return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider input(data, size);
    const auto mood = input.ConsumeIntegral<std::uint8_t>();
    const auto piece = input.ConsumeIntegralInRange<std::size_t>(1, 64);
    const auto stream = make_stream(input);
    CHECK(run(stream, stream.size() + 1, mood) == run(stream, piece, mood));
    return 0;
}
