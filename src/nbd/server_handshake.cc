#include "nbd/server_handshake.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace dst::nbd {

namespace {

using Purpose = SelectExport::Purpose;

constexpr std::uint16_t kHandshakeFlags = kHandshakeFlagFixedNewstyle | kHandshakeFlagNoZeroes;
constexpr std::uint32_t kClientFlags = kClientFlagFixedNewstyle | kClientFlagNoZeroes;
constexpr std::uint32_t kBaseAllocationId = 1;

bool is_served(Option option) {
    switch (option) {
        case Option::export_name:
        case Option::abort:
        case Option::list:
        case Option::info:
        case Option::go:
        case Option::structured_reply:
        case Option::list_meta_context:
        case Option::set_meta_context:
        case Option::dst_hello:
            return true;
        case Option::start_tls:
            break;
    }
    return false;
}

/// What can be said of an option before its data is here, which is then not stored.
std::optional<Refusal> refusal_by_header(Option option, std::uint32_t length) {
    if (option == Option::start_tls)
        return Refusal{ReplyType::error_unsupported, "TLS is not supported by this version"};
    if (!is_served(option)) return Refusal{ReplyType::error_unsupported, "unknown option"};
    if (length > kOptionBytesMax && option != Option::abort)
        return Refusal{ReplyType::error_too_big,
                       fmt::format("an option may have {} bytes", kOptionBytesMax)};
    return std::nullopt;
}

/// A name in front of which stands its length; nothing if it is malformed.
std::optional<std::string> take_name(ByteReader& reader) {
    if (reader.left() < 4) return std::nullopt;
    const auto bytes = reader.take<std::uint32_t>();
    if (bytes > reader.left()) return std::nullopt;
    const auto name = reader.take_text(bytes);
    if (!is_good_name(name)) return std::nullopt;
    return std::string(name);
}

}  // namespace

ServerHandshake::ServerHandshake() {
    output_.put(kMagic).put(kOptionMagic).put(kHandshakeFlags);
    expect(kClientFlagsBytes);
}

std::size_t ServerHandshake::feed(std::span<const std::byte> bytes) {
    std::size_t consumed = 0;
    while (state_ == State::reading && output_.empty()) {
        const std::size_t skipped = std::min(skipped_bytes_, bytes.size() - consumed);
        skipped_bytes_ -= skipped;
        consumed += skipped;
        if (skipped_bytes_ > 0 || bytes.size() - consumed < unit_bytes_) break;
        const auto unit = bytes.subspan(consumed, unit_bytes_);
        consumed += unit.size();
        on_unit(unit);
    }
    return consumed;
}

void ServerHandshake::on_unit(std::span<const std::byte> unit) {
    const Phase phase = std::exchange(phase_, Phase::option_header);
    expect(kOptionHeaderBytes);
    switch (phase) {
        case Phase::client_flags:
            return on_client_flags(load_be<std::uint32_t>(unit.data()));
        case Phase::option_header:
            return on_option_header(unit);
        case Phase::option_data:
            return on_option(unit);
    }
}

void ServerHandshake::on_client_flags(std::uint32_t flags) {
    // "The server MUST drop the TCP connection if the client sets an unknown flag" (proto.md,
    // Client flags). A client without C_FIXED_NEWSTYLE is served all the same, which is allowed.
    if ((flags & ~kClientFlags) != 0)
        return close(fmt::format("the client sent unknown handshake flags ({:#x})", flags));
    no_zeroes_ = (flags & kClientFlagNoZeroes) != 0;
}

void ServerHandshake::on_option_header(std::span<const std::byte> header) {
    ByteReader reader(header);
    const auto magic = reader.take<std::uint64_t>();
    option_ = Option{reader.take<std::uint32_t>()};
    const auto length = reader.take<std::uint32_t>();
    if (magic != kOptionMagic) return close("the client sent something else instead of an option");
    if (length > kOptionSkippedBytesMax)
        return close(fmt::format("the client announced an option of {} bytes", length));
    if (option_ == Option::export_name && length > kStringBytesMax)
        return close(fmt::format("the client asked for an export by a name of {} bytes", length));

    // "Issuing this command replaces all previously-set metadata contexts (including when this
    // command fails)" (proto.md, NBD_OPT_SET_META_CONTEXT).
    if (option_ == Option::set_meta_context) context_export_.reset();
    refusal_ = refusal_by_header(option_, length);
    phase_ = Phase::option_data;
    // Data of NBD_OPT_ABORT is ignored.
    const bool skips = refusal_.has_value() || option_ == Option::abort;
    skipped_bytes_ = skips ? length : 0;
    expect(skips ? 0 : length);
}

void ServerHandshake::on_option(std::span<const std::byte> data) {
    if (refusal_) return reply(refusal_->reply, refusal_->text);
    CHECK(is_served(option_));
    switch (option_) {
        case Option::export_name:
            return on_export_name(data);
        case Option::abort:
            reply(ReplyType::ack);
            return close("the client ended the handshake");
        case Option::list:
            return on_list(data);
        case Option::info:
        case Option::go:
            return on_select(data);
        case Option::structured_reply:
            return on_structured_reply(data);
        case Option::list_meta_context:
        case Option::set_meta_context:
            return on_meta_context(data);
        case Option::dst_hello:
            return on_hello(data);
        case Option::start_tls:
            break;
    }
}

void ServerHandshake::on_export_name(std::span<const std::byte> data) {
    const auto name = ByteReader(data).take_text(data.size());
    if (!is_good_name(name)) return close("the client asked for an export by a name with a NUL");
    if (contradicts_hello(name))
        return close("the client asked for another export than in its hello");
    ask(SelectExport{std::string(name), Purpose::export_name});
}

void ServerHandshake::on_list(std::span<const std::byte> data) {
    if (!data.empty()) return reply(ReplyType::error_invalid, "NBD_OPT_LIST takes no data");
    ask(ListExports{});
}

void ServerHandshake::on_select(std::span<const std::byte> data) {
    ByteReader reader(data);
    const auto name = take_name(reader);
    if (!name || reader.left() < 2) return reply(ReplyType::error_invalid, "malformed name");
    if (reader.take<std::uint16_t>() * sizeof(InfoType) != reader.left())
        return reply(ReplyType::error_invalid, "malformed list of information requests");
    infos_wanted_ = {};
    while (reader.left() > 0) {
        const auto type = InfoType{reader.take<std::uint16_t>()};
        infos_wanted_.name |= type == InfoType::name;
        infos_wanted_.description |= type == InfoType::description;
        infos_wanted_.block_size |= type == InfoType::block_size;
    }
    const bool goes = option_ == Option::go;
    if (goes && contradicts_hello(*name))
        return reply(ReplyType::error_invalid, "another export than in the hello");
    ask(SelectExport{*name, goes ? Purpose::go : Purpose::info});
}

void ServerHandshake::on_structured_reply(std::span<const std::byte> data) {
    if (!data.empty())
        return reply(ReplyType::error_invalid, "NBD_OPT_STRUCTURED_REPLY takes no data");
    result_.structured_replies = true;
    reply(ReplyType::ack);
}

void ServerHandshake::on_meta_context(std::span<const std::byte> data) {
    if (!result_.structured_replies)
        return reply(ReplyType::error_invalid, "structured replies must be negotiated first");
    ByteReader reader(data);
    const auto name = take_name(reader);
    if (!name) return reply(ReplyType::error_invalid, "malformed name");
    if (!read_queries(reader, context_matches_))
        return reply(ReplyType::error_invalid, "malformed queries");
    ask(SelectExport{*name, Purpose::meta});
}

/// False if they are malformed. `matches`: one of them means base:allocation. Unknown ones are
/// ignored, as they must be (proto.md, Metadata querying).
bool ServerHandshake::read_queries(ByteReader& reader, bool& matches) const {
    const bool lists = option_ == Option::list_meta_context;
    if (reader.left() < 4) return false;
    const auto count = reader.take<std::uint32_t>();
    matches = lists && count == 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        if (reader.left() < 4) return false;
        const auto bytes = reader.take<std::uint32_t>();
        if (bytes > reader.left() || bytes > kStringBytesMax) return false;
        const auto query = reader.take_text(bytes);
        matches |= query == kBaseAllocation || (lists && query == "base:");
    }
    return reader.left() == 0;
}

void ServerHandshake::on_hello(std::span<const std::byte> data) {
    if (result_.hello) return reply(ReplyType::error_invalid, "one hello was answered already");
    auto hello = decode_hello(data);
    if (!hello) return reply(ReplyType::error_invalid, hello.error().what);
    ask(*std::move(hello));
}

bool ServerHandshake::contradicts_hello(std::string_view name) const {
    return result_.hello && result_.hello->export_name != name;
}

void ServerHandshake::answer(std::span<const ExportListing> listings) {
    CHECK(state_ == State::asks && std::holds_alternative<ListExports>(question_));
    state_ = State::reading;
    for (const auto& listing : listings) {
        if (!is_good_name(listing.name)) continue;
        const auto description = std::string_view(listing.description).substr(0, kStringBytesMax);
        reply_header(ReplyType::server, 4 + listing.name.size() + description.size());
        output_.put(static_cast<std::uint32_t>(listing.name.size()));
        output_.put(listing.name).put(description);
    }
    reply(ReplyType::ack);
}

void ServerHandshake::answer(const ExportInfo& info) {
    CHECK(state_ == State::asks && std::holds_alternative<SelectExport>(question_));
    const auto select = std::get<SelectExport>(std::exchange(question_, {}));
    state_ = State::reading;
    const std::uint16_t flags = served_flags(info);
    switch (select.purpose) {
        case Purpose::meta:
            return reply_contexts(select.name);
        case Purpose::export_name:
            reply_export_name(info, flags);
            return finish(select.name, flags);
        case Purpose::info:
            return reply_infos(info, flags);
        case Purpose::go:
            reply_infos(info, flags);
            result_.block_size_known = infos_wanted_.block_size;
            return finish(select.name, flags);
    }
}

void ServerHandshake::answer(const HelloAnswer& hello) {
    CHECK(state_ == State::asks && std::holds_alternative<Hello>(question_));
    state_ = State::reading;
    result_.hello = std::get<Hello>(std::exchange(question_, {}));
    CHECK(!hello.checksums || result_.hello->wants_checksums);
    result_.checksums = hello.checksums;
    result_.reservations = hello.reservations;
    result_.digests = hello.digests;
    if (hello.checksums) result_.structured_replies = true;
    reply_header(ReplyType::dst_hello, kHelloAnswerBytes);
    put_hello_answer(output_, hello);
    reply(ReplyType::ack);
}

void ServerHandshake::answer(const Refusal& refusal) {
    CHECK(state_ == State::asks && is_error(refusal.reply));
    question_ = {};
    if (option_ == Option::export_name)
        return close(
            fmt::format("the export that the client asked for was refused: {}", refusal.text));
    state_ = State::reading;
    reply(refusal.reply, refusal.text);
}

void ServerHandshake::reply(ReplyType type, std::string_view data) {
    data = data.substr(0, kStringBytesMax);
    reply_header(type, data.size());
    output_.put(data);
}

void ServerHandshake::reply_header(ReplyType type, std::size_t data_bytes) {
    output_.put(kOptionReplyMagic).put(static_cast<std::uint32_t>(option_));
    output_.put(static_cast<std::uint32_t>(type)).put(static_cast<std::uint32_t>(data_bytes));
}

void ServerHandshake::reply_infos(const ExportInfo& info, std::uint16_t flags) {
    const auto begin = [this](InfoType type, std::size_t bytes) {
        reply_header(ReplyType::info, sizeof(InfoType) + bytes);
        output_.put(static_cast<std::uint16_t>(type));
    };
    begin(InfoType::export_, 10);
    output_.put(info.size.value()).put(flags);
    if (infos_wanted_.name && is_good_name(info.name)) {
        begin(InfoType::name, info.name.size());
        output_.put(info.name);
    }
    if (infos_wanted_.description && !info.description.empty()) {
        const auto description = std::string_view(info.description).substr(0, kStringBytesMax);
        begin(InfoType::description, description.size());
        output_.put(description);
    }
    if (infos_wanted_.block_size) {
        begin(InfoType::block_size, 12);
        output_.put(info.block_min).put(info.block_preferred).put(info.payload_max);
    }
    reply(ReplyType::ack);
}

void ServerHandshake::reply_contexts(const std::string& export_name) {
    const bool sets = option_ == Option::set_meta_context;
    if (context_matches_) {
        // "The metadata context ID in these replies is reserved and SHOULD be set to zero"
        // (proto.md, NBD_OPT_LIST_META_CONTEXT).
        reply_header(ReplyType::meta_context, 4 + std::string_view(kBaseAllocation).size());
        output_.put(sets ? kBaseAllocationId : 0u).put(std::string_view(kBaseAllocation));
        if (sets) context_export_ = export_name;
    }
    reply(ReplyType::ack);
}

void ServerHandshake::reply_export_name(const ExportInfo& info, std::uint16_t flags) {
    output_.put(info.size.value()).put(flags);
    if (!no_zeroes_) output_.put_zeroes(kReservedZeroesBytes);
}

std::uint16_t ServerHandshake::served_flags(const ExportInfo& info) const {
    unsigned flags = info.flags | kFlagHasFlags;
    // "MUST leave this flag clear if structured replies have not been negotiated", and the other
    // "MUST [be] 0 if NBD_FLAG_SEND_WRITE_ZEROES is not set" (proto.md, Transmission flags).
    if (!result_.structured_replies) flags &= ~unsigned{kFlagSendDf};
    if ((flags & kFlagSendWriteZeroes) == 0) flags &= ~unsigned{kFlagSendFastZero};
    return static_cast<std::uint16_t>(flags);
}

void ServerHandshake::ask(Question question) {
    question_ = std::move(question);
    state_ = State::asks;
}

void ServerHandshake::finish(const std::string& export_name, std::uint16_t flags) {
    result_.export_name = export_name;
    result_.flags = flags;
    // A context counts only for the export for which it was selected.
    result_.base_allocation = context_export_ == export_name;
    result_.base_allocation_id = result_.base_allocation ? kBaseAllocationId : 0;
    state_ = State::done;
}

void ServerHandshake::close(std::string reason) {
    close_reason_ = std::move(reason);
    state_ = State::closed;
}

}  // namespace dst::nbd
