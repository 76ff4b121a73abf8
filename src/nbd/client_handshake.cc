#include "nbd/client_handshake.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace dst::nbd {

namespace {

std::string_view name_of(Option option) {
    switch (option) {
        case Option::export_name:
            return "NBD_OPT_EXPORT_NAME";
        case Option::abort:
            return "NBD_OPT_ABORT";
        case Option::list:
            return "NBD_OPT_LIST";
        case Option::start_tls:
            return "NBD_OPT_STARTTLS";
        case Option::info:
            return "NBD_OPT_INFO";
        case Option::go:
            return "NBD_OPT_GO";
        case Option::structured_reply:
            return "NBD_OPT_STRUCTURED_REPLY";
        case Option::list_meta_context:
            return "NBD_OPT_LIST_META_CONTEXT";
        case Option::set_meta_context:
            return "NBD_OPT_SET_META_CONTEXT";
        case Option::dst_hello:
            return "NBD_OPT_DST_HELLO";
    }
    return "an option";
}

/// Proto.md, Block size constraints.
bool make_sense(std::uint32_t min, std::uint32_t preferred, std::uint32_t max) {
    constexpr std::uint32_t kMinMax = 1 << 16;
    constexpr std::uint32_t kPreferredMin = 512;
    return std::has_single_bit(min) && min <= kMinMax && std::has_single_bit(preferred) &&
           preferred >= std::max(min, kPreferredMin) && max >= min &&
           (max % min == 0 || max == kBlockSizeMaxUnlimited);
}

}  // namespace

ClientHandshake::ClientHandshake(Wanted wanted) : wanted_(std::move(wanted)) {
    if (wanted_.hello) wanted_.hello->export_name = wanted_.export_name;
    facts_.info.name = wanted_.export_name;
    await(Phase::magic, 8);
    if (!is_good_name(wanted_.export_name))
        fail_with(ErrorCode::invalid,
                  fmt::format("an export's name has at most {} bytes, and no NUL among them",
                              kStringBytesMax),
                  false);
}

std::size_t ClientHandshake::feed(std::span<const std::byte> bytes) {
    std::size_t consumed = 0;
    if (!bytes.empty()) heard_anything_ = true;
    while (state_ == State::reading && output_.empty()) {
        consumed += gatherer_.take(bytes.subspan(consumed));
        if (!gatherer_.complete()) break;
        on_unit(gatherer_.release());
    }
    return consumed;
}

void ClientHandshake::on_unit(std::span<const std::byte> unit) {
    switch (phase_) {
        case Phase::magic:
            return on_magic(load_be<std::uint64_t>(unit.data()));
        case Phase::style:
            return on_style(load_be<std::uint64_t>(unit.data()));
        case Phase::flags:
            return on_flags(load_be<std::uint16_t>(unit.data()));
        case Phase::reply_header:
            return on_reply_header(unit);
        case Phase::reply_data:
            return on_reply(unit);
        case Phase::export_name_reply:
            return on_export_name_reply(unit);
    }
}

// The greeting.

void ClientHandshake::on_magic(std::uint64_t magic) {
    if (magic == kMagic) return await(Phase::style, 8);
    std::byte wire[8];
    store_be(wire, magic);
    const std::string_view began(reinterpret_cast<const char*>(wire), sizeof wire);
    fail_with(ErrorCode::corrupt,
              fmt::format("this is not an NBD server (it began with \"{}\")", printable(began)),
              false);
}

void ClientHandshake::on_style(std::uint64_t magic) {
    if (magic == kOptionMagic) return await(Phase::flags, 2);
    if (magic == kOldstyleMagic)
        return fail_with(ErrorCode::unsupported,
                         "the server speaks NBD's oldstyle handshake, which has no export names "
                         "and is not supported; it needs an export with a name on a newer server",
                         false);
    fail_with(ErrorCode::corrupt, "the server speaks an unknown kind of NBD handshake", false);
}

void ClientHandshake::on_flags(std::uint16_t flags) {
    fixed_newstyle_ = (flags & kHandshakeFlagFixedNewstyle) != 0;
    no_zeroes_ = (flags & kHandshakeFlagNoZeroes) != 0;
    // Only what the server offered (proto.md, Client flags).
    output_.put((fixed_newstyle_ ? kClientFlagFixedNewstyle : 0u) |
                (no_zeroes_ ? kClientFlagNoZeroes : 0u));
    if (!fixed_newstyle_) {
        // "In non-fixed newstyle only one option can be set" (proto.md, Newstyle negotiation).
        if (!wanted_.list) return send_export_name();
        return fail_with(ErrorCode::unsupported, "the server is too old to list its exports",
                         false);
    }
    if (wanted_.list) return send_option(Option::list, 0);
    if (wanted_.hello) return send_hello();
    go_on_after_hello();
}

// Replies to options.

void ClientHandshake::on_reply_header(std::span<const std::byte> header) {
    ByteReader reader(header);
    const auto magic = reader.take<std::uint64_t>();
    const auto option = Option{reader.take<std::uint32_t>()};
    reply_type_ = ReplyType{reader.take<std::uint32_t>()};
    const auto length = reader.take<std::uint32_t>();
    if (magic != kOptionReplyMagic) return violated("something else instead of a reply");
    if (option != option_) return violated("a reply to another option");
    if (length > kOptionReplyBytesMax) return violated("a reply that is too long");
    await(Phase::reply_data, length);
}

void ClientHandshake::on_reply(std::span<const std::byte> data) {
    // Unless the reply moves us on, another one follows.
    await(Phase::reply_header, kOptionReplyHeaderBytes);
    if (is_error(reply_type_)) return on_error(ByteReader(data).take_text(data.size()));
    if (reply_type_ == ReplyType::ack) return on_ack();
    on_part(data);
}

/// One of several replies to an option, before its last.
void ClientHandshake::on_part(std::span<const std::byte> data) {
    if (option_ == Option::list && reply_type_ == ReplyType::server) return on_listing(data);
    if (option_ == Option::dst_hello && reply_type_ == ReplyType::dst_hello)
        return on_hello_answer(data);
    if (option_ == Option::set_meta_context && reply_type_ == ReplyType::meta_context)
        return on_context(data);
    if (option_ == Option::go && reply_type_ == ReplyType::info) return on_info(data);
    violated("a reply that does not fit");
}

void ClientHandshake::on_ack() {
    switch (option_) {
        case Option::list:
            state_ = State::done;
            return send_option(Option::abort, 0);
        case Option::dst_hello:
            if (!facts_.hello) return violated("no answer before its acknowledgement");
            return go_on_after_hello();
        case Option::structured_reply:
            facts_.structured_replies = true;
            return go_on_after_structured_reply();
        case Option::set_meta_context:
            return send_go();
        case Option::go:
            if (!export_told_) return violated("no size before its acknowledgement");
            return finish();
        default:
            return violated("an acknowledgement of nothing");
    }
}

void ClientHandshake::on_error(std::string_view text) {
    if (reply_type_ == ReplyType::error_tls_required || reply_type_ == ReplyType::error_shutdown)
        return refused(text);
    switch (option_) {
        case Option::dst_hello:
            // One of ours that says no means it; all others don't know the option.
            if (reply_type_ == ReplyType::error_unsupported && !facts_.hello)
                return go_on_after_hello();
            return refused(text);
        case Option::structured_reply:
            return go_on_after_structured_reply();
        case Option::set_meta_context:
            // "the client MUST disregard any context replies that may have been sent"
            facts_.base_allocation = false;
            facts_.allocation_context = 0;
            return send_go();
        case Option::go:
            if (reply_type_ == ReplyType::error_unsupported) return send_export_name();
            return refused(text);
        default:
            return refused(text);
    }
}

void ClientHandshake::on_listing(std::span<const std::byte> data) {
    ByteReader reader(data);
    if (reader.left() < 4) return violated("a malformed listing");
    const auto name_bytes = reader.take<std::uint32_t>();
    if (name_bytes > reader.left() || name_bytes > kStringBytesMax)
        return violated("a malformed listing");
    if (facts_.listings.size() == kListingsMax) return violated("more exports than we read");
    ExportListing listing;
    listing.name = reader.take_text(name_bytes);
    listing.description = printable(reader.take_text(reader.left()));
    facts_.listings.push_back(std::move(listing));
}

void ClientHandshake::on_hello_answer(std::span<const std::byte> data) {
    const auto answer = decode_hello_answer(data);
    if (!answer) return violated(answer.error().what);
    if (facts_.hello) return violated("two answers");
    if (answer->checksums && !wanted_.hello->wants_checksums)
        return violated("checksums that were not asked for");
    facts_.hello = *answer;
    facts_.checksums = answer->checksums;
    // Checksummed framing has no simple replies (docs/protocol.md).
    facts_.structured_replies = answer->checksums;
}

void ClientHandshake::on_context(std::span<const std::byte> data) {
    ByteReader reader(data);
    if (reader.left() < 4) return violated("a malformed context");
    const auto id = reader.take<std::uint32_t>();
    if (reader.take_text(reader.left()) != kBaseAllocation) return;
    facts_.base_allocation = true;
    facts_.allocation_context = id;
}

void ClientHandshake::on_info(std::span<const std::byte> data) {
    ByteReader reader(data);
    if (reader.left() < 2) return violated("malformed information");
    switch (InfoType{reader.take<std::uint16_t>()}) {
        case InfoType::export_:
            if (reader.left() != 10) return violated("malformed information");
            facts_.info.size = ByteCount(reader.take<std::uint64_t>());
            facts_.info.flags = reader.take<std::uint16_t>();
            export_told_ = true;
            return;
        case InfoType::description:
            facts_.info.description = printable(reader.take_text(reader.left()));
            return;
        case InfoType::block_size:
            return on_block_sizes(reader);
        case InfoType::name:
            return;  // the canonical one; what we asked by is as good
    }
    // "The client MUST ignore information replies it does not understand."
}

void ClientHandshake::on_block_sizes(ByteReader& reader) {
    if (reader.left() != 12) return violated("malformed block sizes");
    const auto min = reader.take<std::uint32_t>();
    const auto preferred = reader.take<std::uint32_t>();
    const auto max = reader.take<std::uint32_t>();
    if (!wanted_.block_size) return;
    if (!make_sense(min, preferred, max))
        return fail_with(ErrorCode::unsupported,
                         fmt::format("the server's block sizes make no sense (minimum {}, "
                                     "preferred {}, maximum {})",
                                     min, preferred, max),
                         false);
    facts_.info.block_min = min;
    facts_.info.block_preferred = preferred;
    // Longer payloads than this count as an attack, whatever is announced.
    facts_.info.payload_max = std::min(max, kPayloadBytesMax);
}

void ClientHandshake::on_export_name_reply(std::span<const std::byte> reply) {
    ByteReader reader(reply);
    facts_.info.size = ByteCount(reader.take<std::uint64_t>());
    facts_.info.flags = reader.take<std::uint16_t>();
    finish();
}

// Options.

void ClientHandshake::go_on_after_hello() {
    if (wanted_.structured_replies && !facts_.structured_replies)
        return send_option(Option::structured_reply, 0);
    go_on_after_structured_reply();
}

void ClientHandshake::go_on_after_structured_reply() {
    if (wanted_.base_allocation && facts_.structured_replies) return send_set_meta_context();
    send_go();
}

void ClientHandshake::send_option(Option option, std::size_t data_bytes) {
    option_ = option;
    output_.put(kOptionMagic).put(static_cast<std::uint32_t>(option));
    output_.put(static_cast<std::uint32_t>(data_bytes));
    await(Phase::reply_header, kOptionReplyHeaderBytes);
}

void ClientHandshake::send_hello() {
    send_option(Option::dst_hello, hello_size(*wanted_.hello));
    put_hello(output_, *wanted_.hello);
}

void ClientHandshake::send_set_meta_context() {
    const std::string_view name = wanted_.export_name;
    const std::string_view query = kBaseAllocation;
    send_option(Option::set_meta_context, 4 + name.size() + 4 + 4 + query.size());
    output_.put(static_cast<std::uint32_t>(name.size())).put(name);
    output_.put(std::uint32_t{1});
    output_.put(static_cast<std::uint32_t>(query.size())).put(query);
}

void ClientHandshake::send_go() {
    const std::string_view name = wanted_.export_name;
    const std::uint16_t requests = wanted_.block_size ? 2 : 1;
    send_option(Option::go, 4 + name.size() + 2 + requests * sizeof(InfoType));
    output_.put(static_cast<std::uint32_t>(name.size())).put(name).put(requests);
    output_.put(static_cast<std::uint16_t>(InfoType::description));
    if (wanted_.block_size) output_.put(static_cast<std::uint16_t>(InfoType::block_size));
}

void ClientHandshake::send_export_name() {
    send_option(Option::export_name, wanted_.export_name.size());
    output_.put(std::string_view(wanted_.export_name));
    await(Phase::export_name_reply,
          kExportNameReplyBytes + (no_zeroes_ ? 0 : kReservedZeroesBytes));
}

void ClientHandshake::finish() {
    if (facts_.info.size.value() > INT64_MAX) return violated("a size that no file can have");
    // A server must not offer it then, but some do.
    if (!facts_.structured_replies)
        facts_.info.flags &= static_cast<std::uint16_t>(~unsigned{kFlagSendDf});
    state_ = State::done;
}

void ClientHandshake::await(Phase phase, std::size_t bytes) {
    phase_ = phase;
    gatherer_.expect(bytes);
}

// Failures.

/// The server's last word on an option that we can't do without.
void ClientHandshake::refused(std::string_view text) {
    explain_refusal(text);
    // "In the client's case, if it wishes to [terminate the session] it MUST use soft disconnect"
    // (proto.md, Termination of the session during option haggling).
    send_option(Option::abort, 0);
}

void ClientHandshake::explain_refusal(std::string_view text) {
    const std::string why =
        text.empty() ? std::string() : fmt::format(" (it says: {})", printable(text));
    const auto name = printable(wanted_.export_name);
    switch (reply_type_) {
        case ReplyType::error_unknown:
            return fail_with(ErrorCode::not_found,
                             fmt::format("the server has no export \"{}\"{}", name, why), true);
        case ReplyType::error_policy:
            return fail_with(
                ErrorCode::refused,
                wanted_.list
                    ? fmt::format("the server does not let us list its exports{}", why)
                    : fmt::format("the server does not let us have export \"{}\"{}", name, why),
                true);
        case ReplyType::error_tls_required:
            return fail_with(
                ErrorCode::unsupported,
                fmt::format("the server requires TLS, which is not supported by this version{}",
                            why),
                false);
        case ReplyType::error_shutdown:
            return fail_with(ErrorCode::shutting_down,
                             fmt::format("the server is shutting down{}", why), true);
        case ReplyType::error_block_size_required:
            return fail_with(
                ErrorCode::unsupported,
                fmt::format("the server demands that its block sizes be obeyed{}", why), false);
        default:
            break;
    }
    fail_with(ErrorCode::refused,
              fmt::format("the server refused {} with error {:#x}{}", name_of(option_),
                          static_cast<std::uint32_t>(reply_type_), why),
              false);
}

/// Ends it. The caller closes the connection after what output there is.
void ClientHandshake::fail_with(ErrorCode code, std::string text, bool later) {
    failure_ = {code, std::move(text)};
    may_succeed_later_ = later;
    state_ = State::failed;
    output_.clear();
}

void ClientHandshake::violated(std::string_view what) {
    fail_with(ErrorCode::corrupt,
              fmt::format("the server breaks the protocol: {} (after {})", what, name_of(option_)),
              false);
}

void ClientHandshake::closed_by_peer() {
    if (state_ != State::reading) return;
    if (!heard_anything_)
        return fail_with(ErrorCode::node_lost,
                         "the server closed the connection at once: it is no NBD server, or does "
                         "not let this client in",
                         true);
    if (option_ == Option::export_name)
        return fail_with(ErrorCode::refused,
                         fmt::format("the server closed the connection when asked for export "
                                     "\"{}\": it has none of that name, or does not let us have it",
                                     printable(wanted_.export_name)),
                         true);
    fail_with(ErrorCode::node_lost, "the server closed the connection during the handshake", true);
}

}  // namespace dst::nbd
