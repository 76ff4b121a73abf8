#include "nbd/server_handshake.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "nbd/test_support.h"

namespace dst::nbd {
namespace {

using test::Bytes;
using test::from_hex;
using test::join;
using test::repeat;
using test::tidy;
using test::to_hex;
using State = ServerHandshake::State;
using Purpose = SelectExport::Purpose;

/// The server's owner: it has one export, `disk0`, and answers at once.
struct Owner {
    ExportInfo info{
        .name = "disk0",
        .description = "a disk",
        .size = ByteCount(0x40000000),
        .flags = kFlagHasFlags | kFlagSendFlush | kFlagSendFua | kFlagSendDf,
    };
    std::vector<ExportListing> listings{{"disk0", "a disk"}, {"b", ""}};
    HelloAnswer hello{.checksums = true,
                      .instance = 0x11,
                      .identity = 0x22,
                      .requests_max = 0x100,
                      .reservations = true,
                      .digests = true};
    std::optional<Refusal> refusal;  // to everything
    std::string asked;               // what was asked, in order

    void answer(ServerHandshake& handshake) {
        const Question& question = handshake.question();
        const auto* select = std::get_if<SelectExport>(&question);
        const auto* greeting = std::get_if<Hello>(&question);
        if (select != nullptr)
            asked += fmt::format("{}:{} ", static_cast<int>(select->purpose), select->name);
        else
            asked +=
                greeting != nullptr ? fmt::format("hello:{} ", greeting->export_name) : "list ";
        if (refusal) return handshake.answer(*refusal);
        if (greeting != nullptr) {
            HelloAnswer granted = hello;
            granted.checksums &= greeting->wants_checksums;
            granted.reservations &= greeting->session.has_value();
            return handshake.answer(granted);
        }
        if (select == nullptr) return handshake.answer(listings);
        if (select->name != info.name)
            return handshake.answer(Refusal{ReplyType::error_unknown, "no"});
        handshake.answer(info);
    }
};

struct Talk {
    std::string sent;
    std::string asked;
    std::size_t consumed = 0;
    State state{};
    Negotiated negotiated;
    std::string close_reason;
};

/// Runs a handshake with a client that sends `client`, in pieces that end at `ends`.
Talk talk(std::span<const std::byte> client, const std::vector<std::size_t>& ends, Owner owner) {
    ServerHandshake handshake;
    Talk result;
    const auto flush = [&] {
        result.sent += to_hex(handshake.output());
        handshake.output_sent();
    };
    for (const std::size_t end : ends) {
        bool moved = true;
        while (moved) {
            flush();
            if (handshake.state() == State::asks) {
                const auto none = handshake.feed(client.subspan(result.consumed));
                EXPECT_EQ(none, 0) << "fed while it asks";
                owner.answer(handshake);
                continue;
            }
            const auto taken =
                handshake.feed(client.subspan(result.consumed, end - result.consumed));
            result.consumed += taken;
            moved = taken > 0 || !handshake.output().empty() || handshake.state() == State::asks;
        }
    }
    result.asked = owner.asked;
    result.state = handshake.state();
    result.negotiated = handshake.result();
    result.close_reason = handshake.close_reason();
    return result;
}

const std::string kGreeting = "4e42444d41474943 49484156454f5054 0003";

/// What follows the greeting and the client's flags, both ways; the same however the stream is cut.
Talk expect_talk(std::string_view client, std::string_view server, const Owner& owner = {}) {
    const Bytes bytes = from_hex(client);
    const Talk whole = talk(bytes, {bytes.size()}, owner);
    EXPECT_EQ(whole.sent, tidy(kGreeting + std::string(server)));
    for (const auto& ends : test::all_cuts(bytes.size())) {
        const Talk cut = talk(bytes, ends, owner);
        EXPECT_EQ(cut.sent, whole.sent) << "cut at " << ends.front();
        EXPECT_EQ(cut.consumed, whole.consumed) << "cut at " << ends.front();
        EXPECT_EQ(cut.state, whole.state) << "cut at " << ends.front();
        EXPECT_EQ(cut.asked, whole.asked) << "cut at " << ends.front();
        EXPECT_EQ(cut.close_reason, whole.close_reason);
    }
    return whole;
}

// The client's flags, then options (magic, option, length, data).
const std::string kFlags = "00000003";
const std::string kGoDisk0 = "49484156454f5054 00000007 0000000b 00000005 6469736b30 0000";
const std::string kGoDisk0BlockSize =
    "49484156454f5054 00000007 0000000d 00000005 6469736b30 0001 0003";
const std::string kStructured = "49484156454f5054 00000008 00000000";
const std::string kSetContext =
    "49484156454f5054 0000000a 00000020 00000005 6469736b30 00000001"
    "0000000f 626173653a616c6c6f636174696f6e";
const std::string kHello =
    "49484156454f5054 64737401 0000002d 0001 0003 00000000000000a1 00000000000000a2"
    "00000000000000a3 00000000000000a4 00000005 6469736b30";
const std::string kAbort = "49484156454f5054 00000002 00000000";

// Replies (magic, option, type, length, data).
const std::string kGoExport = "0003e889045565a9 00000007 00000003 0000000c 0000 0000000040000000 ";
const std::string kGoAck = "0003e889045565a9 00000007 00000001 00000000";
const std::string kStructuredAck = "0003e889045565a9 00000008 00000001 00000000";
const std::string kSetContextReplies =
    "0003e889045565a9 0000000a 00000004 00000013 00000001 626173653a616c6c6f636174696f6e"
    "0003e889045565a9 0000000a 00000001 00000000";
const std::string kHelloReplies =
    "0003e889045565a9 64737401 64737401 00000018 0001 0007 0000000000000011 0000000000000022"
    "00000100"
    "0003e889045565a9 64737401 00000001 00000000";
const std::string kAbortAck = "0003e889045565a9 00000002 00000001 00000000";

std::string text_reply(std::string_view option, std::string_view type, std::string_view text) {
    const auto* from = reinterpret_cast<const std::byte*>(text.data());
    return fmt::format("0003e889045565a9 {} {} {:08x} {}", option, type, text.size(),
                       to_hex({from, text.size()}));
}

TEST(ServerHandshake, export_name_begins_the_transmission) {
    const Talk with_zeroes =
        expect_talk("00000001 49484156454f5054 00000001 00000005 6469736b30 2560",
                    "0000000040000000 000d" + repeat("00", 124));
    EXPECT_EQ(with_zeroes.state, State::done);
    EXPECT_EQ(with_zeroes.consumed, 25);  // not the request behind it
    EXPECT_EQ(with_zeroes.negotiated.export_name, "disk0");
    EXPECT_FALSE(with_zeroes.negotiated.block_size_known);

    const Talk without = expect_talk("00000003 49484156454f5054 00000001 00000005 6469736b30",
                                     "0000000040000000 000d");
    EXPECT_EQ(without.state, State::done);
    EXPECT_EQ(without.asked, "2:disk0 ");
}

TEST(ServerHandshake, a_client_of_the_first_newstyle_is_served) {
    const Talk talk = expect_talk("00000000 49484156454f5054 00000001 00000005 6469736b30",
                                  "0000000040000000 000d" + repeat("00", 124));
    EXPECT_EQ(talk.state, State::done);
}

TEST(ServerHandshake, export_name_of_an_unknown_export_closes_the_connection) {
    const Talk talk = expect_talk("00000003 49484156454f5054 00000001 00000002 6162", "");
    EXPECT_EQ(talk.state, State::closed);
    EXPECT_NE(talk.close_reason, "");
}

TEST(ServerHandshake, go_begins_the_transmission) {
    const Talk talk = expect_talk(kFlags + kGoDisk0 + "25609513", kGoExport + "000d" + kGoAck);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_EQ(talk.consumed, 31);
    EXPECT_EQ(talk.negotiated.export_name, "disk0");
    EXPECT_EQ(talk.negotiated.flags, 0x0d);
    EXPECT_FALSE(talk.negotiated.block_size_known);
    EXPECT_FALSE(talk.negotiated.structured_replies);
}

TEST(ServerHandshake, block_sizes_are_told_to_who_asks) {
    const Talk talk = expect_talk(
        kFlags + kGoDisk0BlockSize,
        kGoExport + "000d" +
            "0003e889045565a9 00000007 00000003 0000000e 0003 00000200 00001000 02000000" + kGoAck);
    EXPECT_TRUE(talk.negotiated.block_size_known);
}

TEST(ServerHandshake, info_tells_everything_and_the_handshake_goes_on) {
    // Requests: name, description, block size, one that nobody knows, name once more.
    const Talk talk = expect_talk(
        kFlags +
            "49484156454f5054 00000006 00000015 00000005 6469736b30 0005 0001 0002 0003 7777 0001" +
            kGoDisk0,
        "0003e889045565a9 00000006 00000003 0000000c 0000 0000000040000000 000d"
        "0003e889045565a9 00000006 00000003 00000007 0001 6469736b30"
        "0003e889045565a9 00000006 00000003 00000008 0002 61206469736b"
        "0003e889045565a9 00000006 00000003 0000000e 0003 00000200 00001000 02000000"
        "0003e889045565a9 00000006 00000001 00000000" +
            kGoExport + "000d" + kGoAck);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_EQ(talk.asked, "0:disk0 1:disk0 ");
    EXPECT_FALSE(talk.negotiated.block_size_known);  // asked by INFO, not by GO
}

TEST(ServerHandshake, go_for_an_unknown_export_is_refused_and_the_next_option_is_read) {
    const Talk talk =
        expect_talk(kFlags + "49484156454f5054 00000007 00000007 00000001 78 0000" + kGoDisk0,
                    text_reply("00000007", "80000006", "no") + kGoExport + "000d" + kGoAck);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_EQ(talk.asked, "1:x 1:disk0 ");
}

TEST(ServerHandshake, exports_are_listed) {
    const Talk talk =
        expect_talk(kFlags + "49484156454f5054 00000003 00000000" + kAbort,
                    "0003e889045565a9 00000003 00000002 0000000f 00000005 6469736b30 61206469736b"
                    "0003e889045565a9 00000003 00000002 00000005 00000001 62"
                    "0003e889045565a9 00000003 00000001 00000000" +
                        kAbortAck);
    EXPECT_EQ(talk.state, State::closed);
    EXPECT_EQ(talk.asked, "list ");
}

TEST(ServerHandshake, listing_can_be_refused) {
    Owner owner;
    owner.refusal = Refusal{ReplyType::error_policy, "no"};
    const Talk talk = expect_talk(kFlags + "49484156454f5054 00000003 00000000",
                                  text_reply("00000003", "80000002", "no"), owner);
    EXPECT_EQ(talk.state, State::reading);
}

TEST(ServerHandshake, names_that_are_too_long_are_not_listed) {
    Owner owner;
    owner.listings = {{std::string(4097, 'x'), ""}, {"b", ""}};
    expect_talk(kFlags + "49484156454f5054 00000003 00000000",
                "0003e889045565a9 00000003 00000002 00000005 00000001 62"
                "0003e889045565a9 00000003 00000001 00000000",
                owner);
}

TEST(ServerHandshake, abort_is_acknowledged_whatever_comes_with_it) {
    const Talk talk = expect_talk(kFlags + "49484156454f5054 00000002 00000003 010203", kAbortAck);
    EXPECT_EQ(talk.state, State::closed);
}

TEST(ServerHandshake, starttls_is_answered_unsupported) {
    const Talk talk = expect_talk(
        kFlags + "49484156454f5054 00000005 00000000" + kAbort,
        text_reply("00000005", "80000001", "TLS is not supported by this version") + kAbortAck);
    EXPECT_EQ(talk.asked, "");
}

TEST(ServerHandshake, unknown_options_are_skipped) {
    expect_talk(kFlags + "49484156454f5054 00000063 00000003 616263" + kGoDisk0,
                text_reply("00000063", "80000001", "unknown option") + kGoExport + "000d" + kGoAck);
    expect_talk(kFlags + "49484156454f5054 ffffffff 00000000" + kAbort,
                text_reply("ffffffff", "80000001", "unknown option") + kAbortAck);
}

TEST(ServerHandshake, structured_replies_bring_the_df_flag) {
    const Talk talk =
        expect_talk(kFlags + kStructured + kGoDisk0, kStructuredAck + kGoExport + "008d" + kGoAck);
    EXPECT_TRUE(talk.negotiated.structured_replies);
    EXPECT_EQ(talk.negotiated.flags, 0x8d);
}

TEST(ServerHandshake, flags_that_depend_on_others_are_not_offered_without_them) {
    Owner owner;
    owner.info.flags = kFlagSendFastZero;
    expect_talk(kFlags + kGoDisk0, kGoExport + "0001" + kGoAck, owner);
    owner.info.flags = kFlagSendFastZero | kFlagSendWriteZeroes;
    expect_talk(kFlags + kGoDisk0, kGoExport + "0841" + kGoAck, owner);
}

TEST(ServerHandshake, a_context_is_selected) {
    const Talk talk =
        expect_talk(kFlags + kStructured + kSetContext + kGoDisk0,
                    kStructuredAck + kSetContextReplies + kGoExport + "008d" + kGoAck);
    EXPECT_TRUE(talk.negotiated.base_allocation);
    EXPECT_EQ(talk.negotiated.base_allocation_id, 1);
    EXPECT_EQ(talk.asked, "3:disk0 1:disk0 ");
}

TEST(ServerHandshake, unknown_contexts_and_wildcards_select_nothing) {
    const Talk talk =
        expect_talk(kFlags + kStructured +
                        "49484156454f5054 0000000a 0000002a 00000005 6469736b30 00000003"
                        "00000005 626173653a 00000006 626173653a78 00000006 71656d753a78" +
                        kGoDisk0,
                    kStructuredAck + "0003e889045565a9 0000000a 00000001 00000000" + kGoExport +
                        "008d" + kGoAck);
    EXPECT_FALSE(talk.negotiated.base_allocation);
}

TEST(ServerHandshake, a_context_that_is_named_twice_is_selected_once) {
    const Talk talk = expect_talk(
        kFlags + kStructured +
            "49484156454f5054 0000000a 00000033 00000005 6469736b30 00000002"
            "0000000f 626173653a616c6c6f636174696f6e 0000000f 626173653a616c6c6f636174696f6e" +
            kGoDisk0,
        kStructuredAck + kSetContextReplies + kGoExport + "008d" + kGoAck);
    EXPECT_TRUE(talk.negotiated.base_allocation);
}

TEST(ServerHandshake, selecting_again_replaces_even_if_it_fails) {
    const std::string select_nothing =
        "49484156454f5054 0000000a 0000000d 00000005 6469736b30 00000000";
    const Talk nothing = expect_talk(kFlags + kStructured + kSetContext + select_nothing + kGoDisk0,
                                     kStructuredAck + kSetContextReplies +
                                         "0003e889045565a9 0000000a 00000001 00000000" + kGoExport +
                                         "008d" + kGoAck);
    EXPECT_FALSE(nothing.negotiated.base_allocation);

    const Talk malformed = expect_talk(
        kFlags + kStructured + kSetContext + "49484156454f5054 0000000a 00000002 0000" + kGoDisk0,
        kStructuredAck + kSetContextReplies + text_reply("0000000a", "80000003", "malformed name") +
            kGoExport + "008d" + kGoAck);
    EXPECT_FALSE(malformed.negotiated.base_allocation);
}

TEST(ServerHandshake, a_context_counts_only_for_its_own_export) {
    Owner owner;
    owner.info.name = "b";
    const Talk talk = expect_talk(
        kFlags + kStructured +
            "49484156454f5054 0000000a 0000001c 00000001 62 00000001"
            "0000000f 626173653a616c6c6f636174696f6e"
            "49484156454f5054 00000007 00000006 00000000 0000",
        kStructuredAck + kSetContextReplies + text_reply("00000007", "80000006", "no"), owner);
    EXPECT_FALSE(talk.negotiated.base_allocation);

    ServerHandshake handshake;
    const Bytes client = from_hex(kFlags + kStructured + kSetContext +
                                  "49484156454f5054 00000007 00000007 00000001 62 0000");
    std::size_t fed = 0;
    while (handshake.state() != State::done) {
        handshake.output_sent();
        fed += handshake.feed(std::span(client).subspan(fed));
        if (handshake.state() == State::asks) handshake.answer(ExportInfo{});
    }
    EXPECT_EQ(handshake.result().export_name, "b");
    EXPECT_FALSE(handshake.result().base_allocation);
}

TEST(ServerHandshake, contexts_are_listed) {
    const std::string list = "49484156454f5054 00000009 ";
    const std::string found =
        "0003e889045565a9 00000009 00000004 00000013 00000000 626173653a616c6c6f636174696f6e"
        "0003e889045565a9 00000009 00000001 00000000";
    const std::string none = "0003e889045565a9 00000009 00000001 00000000";
    // All of them; the wildcard; by name; another one.
    const Talk talk = expect_talk(
        kFlags + kStructured + list + "0000000d 00000005 6469736b30 00000000" + list +
            "00000016 00000005 6469736b30 00000001 00000005 626173653a" + list +
            "00000020 00000005 6469736b30 00000001 0000000f 626173653a616c6c6f636174696f6e" + list +
            "00000013 00000005 6469736b30 00000001 00000002 783a" + kGoDisk0,
        kStructuredAck + found + found + found + none + kGoExport + "008d" + kGoAck);
    EXPECT_FALSE(talk.negotiated.base_allocation);  // listed is not selected
}

TEST(ServerHandshake, contexts_need_structured_replies) {
    const Talk talk = expect_talk(
        kFlags + kSetContext + kGoDisk0,
        text_reply("0000000a", "80000003", "structured replies must be negotiated first") +
            kGoExport + "000d" + kGoAck);
    EXPECT_FALSE(talk.negotiated.base_allocation);
}

TEST(ServerHandshake, contexts_of_an_unknown_export_are_refused) {
    expect_talk(kFlags + kStructured + "49484156454f5054 0000000a 00000009 00000001 78 00000000",
                kStructuredAck + text_reply("0000000a", "80000006", "no"));
}

TEST(ServerHandshake, hello_is_asked_and_answered) {
    const Talk talk = expect_talk(kFlags + kHello + kSetContext + kGoDisk0,
                                  kHelloReplies + kSetContextReplies + kGoExport + "008d" + kGoAck);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_TRUE(talk.negotiated.checksums);
    EXPECT_TRUE(talk.negotiated.structured_replies);  // implied
    EXPECT_EQ(talk.negotiated.hello,
              (Hello{"disk0", true,
                     SessionId{.head = 0xa1, .node = 0xa4, .incarnation = 0xa2, .number = 0xa3}}));
    EXPECT_TRUE(talk.negotiated.reservations && talk.negotiated.digests);
    EXPECT_EQ(talk.asked, "hello:disk0 3:disk0 1:disk0 ");
}

TEST(ServerHandshake, hello_without_checksums_implies_nothing) {
    const Talk talk = expect_talk(
        kFlags +
            "49484156454f5054 64737401 0000002d 0001 0000 00000000000000a1 00000000000000a2"
            "00000000000000a3 00000000000000a4 00000005 6469736b30" +
            kGoDisk0,
        "0003e889045565a9 64737401 64737401 00000018 0001 0004 0000000000000011 0000000000000022"
        "00000100 0003e889045565a9 64737401 00000001 00000000" +
            kGoExport + "000d" + kGoAck);
    EXPECT_FALSE(talk.negotiated.checksums);
    EXPECT_FALSE(talk.negotiated.structured_replies);
    EXPECT_FALSE(talk.negotiated.reservations);  // there is no session
    EXPECT_TRUE(talk.negotiated.digests);
    EXPECT_EQ(talk.negotiated.hello, (Hello{"disk0", false, {}}));
}

TEST(ServerHandshake, hello_can_be_refused_and_said_again) {
    Owner owner;
    owner.refusal = Refusal{ReplyType::error_policy, "old"};
    const std::string refused = text_reply("64737401", "80000002", "old");
    const Talk talk = expect_talk(kFlags + kHello + kHello, refused + refused, owner);
    EXPECT_EQ(talk.asked, "hello:disk0 hello:disk0 ");
    EXPECT_FALSE(talk.negotiated.hello);
}

TEST(ServerHandshake, hello_is_answered_once) {
    expect_talk(
        kFlags + kHello + kHello,
        kHelloReplies + text_reply("64737401", "80000003", "one hello was answered already"));
}

TEST(ServerHandshake, hello_binds_to_its_export) {
    const std::string other =
        text_reply("00000007", "80000003", "another export than in the hello");
    const Talk go = expect_talk(
        kFlags + kHello + "49484156454f5054 00000007 00000007 00000001 62 0000" + kGoDisk0,
        kHelloReplies + other + kGoExport + "008d" + kGoAck);
    EXPECT_EQ(go.asked, "hello:disk0 1:disk0 ");
    const Talk name =
        expect_talk(kFlags + kHello + "49484156454f5054 00000001 00000001 62", kHelloReplies);
    EXPECT_EQ(name.state, State::closed);
}

TEST(ServerHandshake, malformed_hellos_are_invalid) {
    const auto invalid = [](std::string_view length_and_data, std::string_view text) {
        expect_talk(kFlags + "49484156454f5054 64737401 " + std::string(length_and_data) + kAbort,
                    text_reply("64737401", "80000003", text) + kAbortAck);
    };
    const std::string ids = repeat("00000000000000a1", 4);
    invalid("00000000", "hello: too short");
    invalid("00000027 0001 0003" + ids + "000000", "hello: too short");
    invalid("00000028 0000 0003" + ids + "00000000", "hello: version 0");
    invalid("00000028 0001 0003" + ids + "00000001", "hello: name length");
    invalid("00000029 0001 0003" + ids + "00000000 78", "hello: too long");
    invalid("00000029 0001 0003" + ids + "00000001 00", "hello: name");
    invalid("00000028 0001 0003" + ids + "ffffffff", "hello: name length");
}

TEST(ServerHandshake, a_hello_of_a_later_version_is_answered_with_ours) {
    const Talk talk = expect_talk(
        kFlags +
            "49484156454f5054 64737401 0000002f 0002 ff03 00000000000000a1 00000000000000a2"
            "00000000000000a3 00000000000000a4 00000005 6469736b30 7777" +
            kGoDisk0,
        kHelloReplies + kGoExport + "008d" + kGoAck);
    EXPECT_TRUE(talk.negotiated.hello && talk.negotiated.hello->session);
}

TEST(ServerHandshake, malformed_options_are_invalid_and_the_handshake_goes_on) {
    const auto invalid = [](std::string_view option, std::string_view length_and_data,
                            std::string_view text) {
        expect_talk(
            kFlags + kStructured + "49484156454f5054" + std::string(option) +
                std::string(length_and_data) + kGoDisk0,
            kStructuredAck + text_reply(option, "80000003", text) + kGoExport + "008d" + kGoAck);
    };
    invalid("00000003", "00000001 00", "NBD_OPT_LIST takes no data");
    invalid("00000008", "00000001 00", "NBD_OPT_STRUCTURED_REPLY takes no data");
    for (const char* option : {"00000006", "00000007"}) {
        invalid(option, "00000000", "malformed name");
        invalid(option, "00000003 000000", "malformed name");
        invalid(option, "00000005 00000001 78", "malformed name");
        invalid(option, "00000006 00000001 00 00", "malformed name");
        invalid(option, "00000006 00000003 0000", "malformed name");
        invalid(option, "00000006 ffffffff 0000", "malformed name");
        invalid(option, "00000007 00000001 00 0000", "malformed name");  // NUL
        invalid(option, "00000006 00000000 0001", "malformed list of information requests");
        invalid(option, "00000008 00000000 0000 0003", "malformed list of information requests");
        invalid(option, "00000006 00000000 ffff", "malformed list of information requests");
    }
    for (const char* option : {"00000009", "0000000a"}) {
        invalid(option, "00000000", "malformed name");
        invalid(option, "00000004 00000001", "malformed name");
        invalid(option, "00000004 00000000", "malformed queries");
        invalid(option, "00000008 00000000 00000001", "malformed queries");
        invalid(option, "0000000c 00000000 00000001 00000001", "malformed queries");
        invalid(option, "0000000c 00000000 ffffffff 00000000", "malformed queries");
        invalid(option, "00000009 00000000 00000000 78", "malformed queries");
    }
}

TEST(ServerHandshake, unknown_client_flags_close_the_connection) {
    for (const char* flags : {"00000004", "80000003", "ffffffff", "47455420"}) {
        const Talk talk = expect_talk(flags + kGoDisk0, "");
        EXPECT_EQ(talk.state, State::closed);
        EXPECT_EQ(talk.consumed, 4);
        EXPECT_NE(talk.close_reason, "");
    }
}

TEST(ServerHandshake, garbage_instead_of_an_option_closes_the_connection) {
    const Talk talk = expect_talk(kFlags + "49484156454f5055 00000007 0000000b" + kGoDisk0, "");
    EXPECT_EQ(talk.state, State::closed);
    EXPECT_NE(talk.close_reason, "");
}

TEST(ServerHandshake, a_malformed_export_name_closes_the_connection) {
    const Talk nul = expect_talk(kFlags + "49484156454f5054 00000001 00000002 7800", "");
    EXPECT_EQ(nul.state, State::closed);
    const Talk length = expect_talk(kFlags + "49484156454f5054 00000001 00001001 78", "");
    EXPECT_EQ(length.state, State::closed);
    EXPECT_EQ(length.consumed, 20);
}

/// The client's flags and one option with `size` bytes of data, all zeroes.
Bytes long_option(std::uint32_t option, std::uint32_t size) {
    Bytes bytes = from_hex(kFlags + fmt::format("49484156454f5054 {:08x} {:08x}", option, size));
    bytes.resize(bytes.size() + size);
    return bytes;
}

TEST(ServerHandshake, options_that_are_too_long_are_skipped_and_refused) {
    for (const std::uint32_t option : {3u, 6u, 7u, 8u, 9u, 10u, 0x64737401u}) {
        for (const std::uint32_t size : {kOptionBytesMax + 1, kOptionSkippedBytesMax}) {
            Bytes client = long_option(option, size);
            const Bytes go = from_hex(kGoDisk0);
            client.insert(client.end(), go.begin(), go.end());
            const Talk result = talk(client, {client.size()}, {});
            EXPECT_EQ(result.state, State::done);
            const std::string refused = text_reply(fmt::format("{:08x}", option), "80000009",
                                                   "an option may have 16384 bytes");
            EXPECT_EQ(result.sent, tidy(join({kGreeting, refused, kGoExport, "000d", kGoAck})));
        }
    }
}

TEST(ServerHandshake, options_of_the_greatest_length_are_read) {
    const Bytes client = long_option(3, kOptionBytesMax);
    const Talk result = talk(client, {client.size()}, {});
    EXPECT_EQ(result.sent,
              tidy(kGreeting + text_reply("00000003", "80000003", "NBD_OPT_LIST takes no data")));
}

TEST(ServerHandshake, options_beyond_all_measure_close_the_connection) {
    for (const std::uint32_t option : {1u, 2u, 3u, 7u, 99u, 0x64737401u}) {
        for (const std::uint32_t size : {kOptionSkippedBytesMax + 1, 0xffffffffu}) {
            const Bytes client =
                from_hex(kFlags + fmt::format("49484156454f5054 {:08x} {:08x} 00", option, size));
            const Talk result = talk(client, {client.size()}, {});
            EXPECT_EQ(result.state, State::closed);
            EXPECT_NE(result.close_reason, "");
            EXPECT_EQ(result.consumed, 20);
        }
    }
}

TEST(ServerHandshake, nothing_is_consumed_while_there_is_output) {
    ServerHandshake handshake;
    Bytes client = from_hex(kFlags);
    for (int i = 0; i < 1000; ++i) {
        const Bytes option = from_hex(kStructured);
        client.insert(client.end(), option.begin(), option.end());
    }
    EXPECT_EQ(handshake.feed(client), 0);  // the greeting was not sent
    handshake.output_sent();
    EXPECT_EQ(handshake.feed(client), 20);  // flags, and the first option
    EXPECT_EQ(handshake.output().size(), 20);
    EXPECT_EQ(handshake.feed(std::span(client).subspan(20)), 0);
}

TEST(ServerHandshake, long_texts_are_cut) {
    Owner owner;
    owner.info.description = std::string(10'000, 'x');
    const Bytes client =
        from_hex(kFlags + "49484156454f5054 00000007 0000000d 00000005 6469736b30 0001 0002");
    const Talk result = talk(client, {client.size()}, owner);
    EXPECT_EQ(result.sent, tidy(kGreeting + kGoExport + "000d" +
                                "0003e889045565a9 00000007 00000003 00001002 0002" +
                                repeat("78", 4096) + kGoAck));

    owner.refusal = Refusal{ReplyType::error_shutdown, std::string(10'000, 'x')};
    const Talk refused = talk(client, {client.size()}, owner);
    EXPECT_EQ(refused.sent,
              tidy(kGreeting + "0003e889045565a9 00000007 80000007 00001000" + repeat("78", 4096)));
}

}  // namespace
}  // namespace dst::nbd
