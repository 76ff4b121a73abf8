#include "nbd/handshake.h"

namespace dst::nbd {

namespace {
constexpr std::size_t kPrintableBytesMax = 256;
}

bool is_good_name(std::string_view name) {
    return name.size() <= kStringBytesMax && !name.contains('\0');
}

std::string printable(std::string_view text) {
    std::string line(text.substr(0, kPrintableBytesMax));
    for (char& c : line)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
    return line;
}

// A higher version begins with the fields of this one, and what stands behind them is its own; so
// both kinds can be read here, and the answer says which version is spoken.
Result<Hello> decode_hello(std::span<const std::byte> data) {
    if (data.size() < kHelloBytes) return fail(ErrorCode::corrupt, "hello: too short");
    ByteReader reader(data);
    const auto version = reader.take<std::uint16_t>();
    const auto flags = reader.take<std::uint16_t>();
    SessionId session;
    session.head = reader.take<std::uint64_t>();
    session.incarnation = reader.take<std::uint64_t>();
    session.number = reader.take<std::uint64_t>();
    session.node = reader.take<std::uint64_t>();
    const auto name_bytes = reader.take<std::uint32_t>();
    if (version < kHelloVersion) return fail(ErrorCode::corrupt, "hello: version 0");
    if (name_bytes > reader.left()) return fail(ErrorCode::corrupt, "hello: name length");

    Hello hello;
    hello.export_name = reader.take_text(name_bytes);
    if (!is_good_name(hello.export_name)) return fail(ErrorCode::corrupt, "hello: name");
    if (version == kHelloVersion && reader.left() != 0)
        return fail(ErrorCode::corrupt, "hello: too long");
    hello.wants_checksums = (flags & kHelloFlagChecksums) != 0;
    if ((flags & kHelloFlagSession) != 0) hello.session = session;
    return hello;
}

std::size_t hello_size(const Hello& hello) { return kHelloBytes + hello.export_name.size(); }

void put_hello(Outbox& to, const Hello& hello) {
    CHECK(is_good_name(hello.export_name));
    const SessionId session = hello.session.value_or(SessionId{});
    const unsigned flags = (hello.wants_checksums ? kHelloFlagChecksums : 0u) |
                           (hello.session ? kHelloFlagSession : 0u);
    to.put(kHelloVersion).put(static_cast<std::uint16_t>(flags));
    to.put(session.head).put(session.incarnation).put(session.number).put(session.node);
    to.put(static_cast<std::uint32_t>(hello.export_name.size())).put(hello.export_name);
}

Result<HelloAnswer> decode_hello_answer(std::span<const std::byte> data) {
    if (data.size() != kHelloAnswerBytes)
        return fail(ErrorCode::corrupt, "answer to hello: length");
    ByteReader reader(data);
    if (reader.take<std::uint16_t>() != kHelloVersion)
        return fail(ErrorCode::corrupt, "answer to hello: version");
    HelloAnswer answer;
    const auto flags = reader.take<std::uint16_t>();
    answer.checksums = (flags & kHelloAnswerFlagChecksums) != 0;
    answer.reservations = (flags & kHelloAnswerFlagReservations) != 0;
    answer.digests = (flags & kHelloAnswerFlagDigests) != 0;
    answer.instance = reader.take<std::uint64_t>();
    // 0 would look like no instance known yet, and a crash of the peer would pass unseen.
    if (answer.instance == 0) return fail(ErrorCode::corrupt, "answer to hello: instance");
    answer.identity = reader.take<std::uint64_t>();
    answer.requests_max = reader.take<std::uint32_t>();
    if (answer.requests_max == 0) return fail(ErrorCode::corrupt, "answer to hello: no requests");
    return answer;
}

void put_hello_answer(Outbox& to, const HelloAnswer& answer) {
    CHECK(answer.requests_max != 0 && answer.instance != 0);
    const unsigned flags = (answer.checksums ? kHelloAnswerFlagChecksums : 0u) |
                           (answer.reservations ? kHelloAnswerFlagReservations : 0u) |
                           (answer.digests ? kHelloAnswerFlagDigests : 0u);
    to.put(kHelloVersion).put(static_cast<std::uint16_t>(flags));
    to.put(answer.instance).put(answer.identity).put(answer.requests_max);
}

}  // namespace dst::nbd
