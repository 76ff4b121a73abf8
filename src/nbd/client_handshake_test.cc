#include "nbd/client_handshake.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "nbd/server_handshake.h"
#include "nbd/test_support.h"

namespace dst::nbd {
namespace {

using test::Bytes;
using test::from_hex;
using test::join;
using test::repeat;
using test::tidy;
using test::to_hex;
using State = ClientHandshake::State;

struct Talk {
    std::string sent;
    std::size_t consumed = 0;
    State state{};
    ServerFacts facts;
    Problem failure;
    bool may_succeed_later = false;
};

/// Runs a handshake with a server that sends `server`, in pieces that end at `ends`.
Talk talk(const Wanted& wanted, std::span<const std::byte> server,
          const std::vector<std::size_t>& ends, bool closes = false) {
    ClientHandshake handshake(wanted);
    Talk result;
    const auto flush = [&] {
        result.sent += to_hex(handshake.output());
        handshake.output_sent();
    };
    for (const std::size_t end : ends) {
        bool moved = true;
        while (moved) {
            flush();
            const auto taken =
                handshake.feed(server.subspan(result.consumed, end - result.consumed));
            result.consumed += taken;
            moved = taken > 0 || !handshake.output().empty();
        }
    }
    if (closes) handshake.closed_by_peer();
    result.state = handshake.state();
    result.facts = handshake.result();
    result.failure = handshake.failure();
    result.may_succeed_later = handshake.may_succeed_later();
    return result;
}

/// What the client sends when the server sends `server`; the same however that is cut.
Talk expect_talk(const Wanted& wanted, std::string_view server, std::string_view client) {
    const Bytes bytes = from_hex(server);
    const Talk whole = talk(wanted, bytes, {bytes.size()});
    EXPECT_EQ(whole.sent, tidy(client));
    for (const auto& ends : test::all_cuts(bytes.size())) {
        const Talk cut = talk(wanted, bytes, ends);
        EXPECT_EQ(cut.sent, whole.sent) << "cut at " << ends.front();
        EXPECT_EQ(cut.consumed, whole.consumed) << "cut at " << ends.front();
        EXPECT_EQ(cut.state, whole.state) << "cut at " << ends.front();
        EXPECT_EQ(cut.facts.info, whole.facts.info);
        EXPECT_EQ(cut.failure.text, whole.failure.text);
    }
    return whole;
}

void expect_failed(const Talk& talk, std::string_view part_of_text, bool may_succeed_later) {
    EXPECT_EQ(talk.state, State::failed);
    EXPECT_TRUE(talk.failure.text.contains(part_of_text)) << talk.failure.text;
    EXPECT_FALSE(talk.failure.text.contains('\n'));
    EXPECT_EQ(talk.may_succeed_later, may_succeed_later) << talk.failure.text;
}

// The server: its greeting, and replies (magic, option, type, length, data).
const std::string kGreeting = "4e42444d41474943 49484156454f5054 0003";
const std::string kGoExport =
    "0003e889045565a9 00000007 00000003 0000000c 0000 0000000040000000 008d";
const std::string kGoBlockSize =
    "0003e889045565a9 00000007 00000003 0000000e 0003 00001000 00010000 02000000";
const std::string kGoDescription = "0003e889045565a9 00000007 00000003 00000008 0002 61206469736b";
const std::string kGoAck = "0003e889045565a9 00000007 00000001 00000000";
const std::string kStructuredAck = "0003e889045565a9 00000008 00000001 00000000";
const std::string kContext =
    "0003e889045565a9 0000000a 00000004 00000013 00000007 626173653a616c6c6f636174696f6e";
const std::string kContextAck = "0003e889045565a9 0000000a 00000001 00000000";
const std::string kHelloAnswer =
    "0003e889045565a9 64737401 64737401 00000018 0001 0007 0000000000000011 0000000000000022"
    "00000100";
const std::string kHelloAck = "0003e889045565a9 64737401 00000001 00000000";

std::string error_reply(std::string_view option, std::string_view type,
                        std::string_view text = "") {
    const auto* from = reinterpret_cast<const std::byte*>(text.data());
    return fmt::format("0003e889045565a9 {} {} {:08x} {}", option, type, text.size(),
                       to_hex({from, text.size()}));
}

// The client: its flags, and options (magic, option, length, data).
const std::string kFlags = "00000003";
const std::string kGo = "49484156454f5054 00000007 0000000d 00000005 6469736b30 0001 0002";
const std::string kGoForBlockSize =
    "49484156454f5054 00000007 0000000f 00000005 6469736b30 0002 0002 0003";
const std::string kStructured = "49484156454f5054 00000008 00000000";
const std::string kSetContext =
    "49484156454f5054 0000000a 00000020 00000005 6469736b30 00000001"
    "0000000f 626173653a616c6c6f636174696f6e";
const std::string kHello =
    "49484156454f5054 64737401 0000002d 0001 0003 00000000000000a1 00000000000000a2"
    "00000000000000a3 00000000000000a4 00000005 6469736b30";
const std::string kExportName = "49484156454f5054 00000001 00000005 6469736b30";
const std::string kAbort = "49484156454f5054 00000002 00000000";

const SessionId kSession{.head = 0xa1, .node = 0xa4, .incarnation = 0xa2, .number = 0xa3};
const Wanted kPlain{.export_name = "disk0",
                    .structured_replies = false,
                    .base_allocation = false,
                    .block_size = false};
const Wanted kAll{.export_name = "disk0", .hello = Hello{"", true, kSession}};

TEST(ClientHandshake, a_plain_client_just_goes) {
    const Talk talk =
        expect_talk(kPlain, kGreeting + kGoExport + kGoAck + "67446698", kFlags + kGo);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_EQ(talk.consumed, 70);  // not the reply behind it
    EXPECT_EQ(talk.facts.info.name, "disk0");
    EXPECT_EQ(talk.facts.info.size, ByteCount(0x40000000));
    EXPECT_EQ(talk.facts.info.flags, 0x0d);  // DF is nothing without structured replies
    EXPECT_EQ(talk.facts.info.block_min, 512);
    EXPECT_EQ(talk.facts.info.block_preferred, 4096);
    EXPECT_EQ(talk.facts.info.payload_max, kPayloadBytesMax);
    EXPECT_FALSE(talk.facts.structured_replies);
}

TEST(ClientHandshake, a_server_of_our_own_kind_grants_everything) {
    const Talk talk = expect_talk(kAll,
                                  kGreeting + kHelloAnswer + kHelloAck + kContext + kContextAck +
                                      kGoExport + kGoBlockSize + kGoDescription + kGoAck,
                                  kFlags + kHello + kSetContext + kGoForBlockSize);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_TRUE(talk.facts.checksums);
    EXPECT_TRUE(talk.facts.structured_replies);  // implied
    EXPECT_EQ(talk.facts.hello, (HelloAnswer{true, 0x11, 0x22, 0x100, true, true}));
    EXPECT_TRUE(talk.facts.base_allocation);
    EXPECT_EQ(talk.facts.allocation_context, 7);
    EXPECT_EQ(talk.facts.info.flags, 0x8d);
    EXPECT_EQ(talk.facts.info.block_min, 4096);
    EXPECT_EQ(talk.facts.info.block_preferred, 65536);
    EXPECT_EQ(talk.facts.info.description, "a disk");
}

TEST(ClientHandshake, a_hello_answered_without_checksums_still_asks_for_structured_replies) {
    std::string answer = kHelloAnswer;
    answer.replace(answer.find("0001 0007"), 9, "0001 0000");
    const Talk talk = expect_talk(kAll,
                                  kGreeting + answer + kHelloAck + kStructuredAck + kContext +
                                      kContextAck + kGoExport + kGoAck,
                                  kFlags + kHello + kStructured + kSetContext + kGoForBlockSize);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_FALSE(talk.facts.checksums);
    EXPECT_TRUE(talk.facts.structured_replies);
}

TEST(ClientHandshake, a_foreign_server_does_not_know_hello) {
    const Talk talk = expect_talk(kAll,
                                  kGreeting + error_reply("64737401", "80000001", "what?") +
                                      kStructuredAck + kContext + kContextAck + kGoExport + kGoAck,
                                  kFlags + kHello + kStructured + kSetContext + kGoForBlockSize);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_FALSE(talk.facts.hello);
    EXPECT_FALSE(talk.facts.checksums);
    EXPECT_TRUE(talk.facts.structured_replies);
    EXPECT_TRUE(talk.facts.base_allocation);
}

TEST(ClientHandshake, a_server_without_structured_replies_is_not_asked_for_contexts) {
    const Talk talk = expect_talk(kAll,
                                  kGreeting + error_reply("64737401", "80000001") +
                                      error_reply("00000008", "80000001") + kGoExport + kGoAck,
                                  kFlags + kHello + kStructured + kGoForBlockSize);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_FALSE(talk.facts.structured_replies);
    EXPECT_FALSE(talk.facts.base_allocation);
}

TEST(ClientHandshake, a_server_may_refuse_contexts_or_have_none) {
    Wanted wanted = kAll;
    wanted.hello.reset();
    for (const auto& replies :
         {error_reply("0000000a", "80000001"), kContext + error_reply("0000000a", "80000003"),
          kContextAck,
          "0003e889045565a9 0000000a 00000004 0000000a 00000009 78790000 7879" + kContextAck}) {
        const Talk talk =
            expect_talk(wanted, join({kGreeting, kStructuredAck, replies, kGoExport, kGoAck}),
                        join({kFlags, kStructured, kSetContext, kGoForBlockSize}));
        EXPECT_EQ(talk.state, State::done);
        EXPECT_TRUE(talk.facts.structured_replies);
        EXPECT_FALSE(talk.facts.base_allocation);
    }
}

TEST(ClientHandshake, a_server_without_go_is_asked_by_export_name) {
    const Talk talk = expect_talk(
        kPlain, kGreeting + error_reply("00000007", "80000001") + "0000000040000000 000d 6744",
        kFlags + kGo + kExportName);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_EQ(talk.facts.info.size, ByteCount(0x40000000));
    EXPECT_EQ(talk.facts.info.flags, 0x0d);
    EXPECT_EQ(talk.consumed, 48);
}

TEST(ClientHandshake, a_server_that_only_knows_export_name_is_asked_at_once) {
    const Talk fixed = expect_talk(
        kAll, "4e42444d41474943 49484156454f5054 0000 0000000040000000 000d" + repeat("00", 124),
        "00000000" + kExportName);
    EXPECT_EQ(fixed.state, State::done);
    EXPECT_EQ(fixed.consumed, 152);
    const Talk no_zeroes =
        expect_talk(kAll, "4e42444d41474943 49484156454f5054 0002 0000000040000000 000d",
                    "00000002" + kExportName);
    EXPECT_EQ(no_zeroes.state, State::done);
}

TEST(ClientHandshake, only_flags_that_were_offered_are_sent) {
    const Talk zeroes =
        expect_talk(kPlain,
                    "4e42444d41474943 49484156454f5054 0001" + error_reply("00000007", "80000001") +
                        "0000000040000000 000d" + repeat("00", 124),
                    "00000001" + kGo + kExportName);
    EXPECT_EQ(zeroes.state, State::done);
    const Talk unknown = expect_talk(
        kPlain, "4e42444d41474943 49484156454f5054 ffff" + kGoExport + kGoAck, kFlags + kGo);
    EXPECT_EQ(unknown.state, State::done);
}

TEST(ClientHandshake, unknown_information_is_ignored) {
    const Talk talk = expect_talk(kPlain,
                                  kGreeting + "0003e889045565a9 00000007 00000003 00000002 7777" +
                                      "0003e889045565a9 00000007 00000003 00000004 0001 6162" +
                                      kGoBlockSize + kGoExport + kGoAck,
                                  kFlags + kGo);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_EQ(talk.facts.info.name, "disk0");
    EXPECT_EQ(talk.facts.info.block_min, 512);  // not asked for, so not obeyed
}

TEST(ClientHandshake, an_unlimited_payload_is_limited) {
    const std::string sizes =
        "0003e889045565a9 00000007 00000003 0000000e 0003 00000001 00001000 ffffffff";
    Wanted wanted = kPlain;
    wanted.block_size = true;
    const Talk talk =
        expect_talk(wanted, kGreeting + kGoExport + sizes + kGoAck, kFlags + kGoForBlockSize);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_EQ(talk.facts.info.block_min, 1);
    EXPECT_EQ(talk.facts.info.payload_max, kPayloadBytesMax);
}

TEST(ClientHandshake, senseless_block_sizes_are_refused) {
    Wanted wanted = kPlain;
    wanted.block_size = true;
    for (const char* sizes :
         {"00000000 00001000 02000000", "00000003 00001000 02000000", "00020000 00020000 02000000",
          "00000200 00000000 02000000", "00000200 00000100 02000000", "00001000 00000200 02000000",
          "00000200 00001000 00000000", "00000200 00001000 00000201"}) {
        const Talk talk = expect_talk(
            wanted,
            join({kGreeting, "0003e889045565a9 00000007 00000003 0000000e 0003", sizes, kGoExport}),
            join({kFlags, kGoForBlockSize}));
        expect_failed(talk, "block sizes make no sense", false);
    }
}

TEST(ClientHandshake, refusals_say_what_and_why_and_whether_to_try_again) {
    const auto go_refused = [](std::string_view type, std::string_view text) {
        return expect_talk(kPlain, kGreeting + error_reply("00000007", type, text),
                           kFlags + kGo + kAbort);
    };
    expect_failed(go_refused("80000006", "gone"),
                  "the server has no export \"disk0\" (it says: gone)", true);
    expect_failed(go_refused("80000006", ""), "the server has no export \"disk0\"", true);
    expect_failed(go_refused("80000002", "no"), "does not let us have export \"disk0\"", true);
    expect_failed(go_refused("80000005", ""), "TLS, which is not supported by this version", false);
    expect_failed(go_refused("80000007", ""), "shutting down", true);
    expect_failed(go_refused("80000008", ""), "block sizes be obeyed", false);
    expect_failed(go_refused("80000003", "bad\nline\x01"),
                  "refused NBD_OPT_GO with error 0x80000003 (it says: bad line )", false);
    expect_failed(go_refused("ffffffff", ""), "0xffffffff", false);
    EXPECT_EQ(go_refused("80000006", "").failure.code, ErrorCode::not_found);
}

TEST(ClientHandshake, any_option_may_be_answered_with_tls_required_or_shutdown) {
    expect_failed(expect_talk(kAll, kGreeting + error_reply("64737401", "80000005"),
                              kFlags + kHello + kAbort),
                  "TLS", false);
    Wanted wanted = kAll;
    wanted.hello.reset();
    expect_failed(expect_talk(wanted, kGreeting + error_reply("00000008", "80000007"),
                              kFlags + kStructured + kAbort),
                  "shutting down", true);
    expect_failed(
        expect_talk(wanted, kGreeting + kStructuredAck + error_reply("0000000a", "80000005"),
                    kFlags + kStructured + kSetContext + kAbort),
        "TLS", false);
}

TEST(ClientHandshake, a_hello_that_is_refused_is_not_worked_around) {
    for (const auto& [type, later] :
         {std::pair{"80000002", true}, {"80000003", false}, {"80000006", true}}) {
        const Talk talk = expect_talk(kAll, join({kGreeting, error_reply("64737401", type, "old")}),
                                      join({kFlags, kHello, kAbort}));
        expect_failed(talk, "(it says: old)", later);
    }
}

TEST(ClientHandshake, exports_are_listed) {
    Wanted wanted = kAll;
    wanted.list = true;
    const std::string list = "49484156454f5054 00000003 00000000";
    const Talk talk = expect_talk(
        wanted,
        kGreeting +
            "0003e889045565a9 00000003 00000002 0000000f 00000005 6469736b30 61206469736b"
            "0003e889045565a9 00000003 00000002 00000004 00000000"
            "0003e889045565a9 00000003 00000001 00000000",
        kFlags + list + kAbort);
    EXPECT_EQ(talk.state, State::done);
    EXPECT_EQ(talk.facts.listings, (std::vector<ExportListing>{{"disk0", "a disk"}, {"", ""}}));

    expect_failed(expect_talk(wanted, kGreeting + error_reply("00000003", "80000002"),
                              kFlags + list + kAbort),
                  "does not let us list", true);
    expect_failed(expect_talk(wanted, "4e42444d41474943 49484156454f5054 0000", ""),
                  "too old to list", false);
    for (const char* data : {"00000000", "00000003 000000", "00000004 00000001",
                             "00000005 00000002 78", "00000004 ffffffff"})
        expect_failed(expect_talk(wanted, kGreeting + "0003e889045565a9 00000003 00000002" + data,
                                  kFlags + list),
                      "breaks the protocol", false);
}

TEST(ClientHandshake, an_endless_list_is_not_read) {
    Wanted wanted = kPlain;
    wanted.list = true;
    const Bytes greeting = from_hex(kGreeting);
    const Bytes listing = from_hex("0003e889045565a9 00000003 00000002 00000004 00000000");
    Bytes server = greeting;
    for (std::size_t i = 0; i <= ClientHandshake::kListingsMax; ++i)
        server.insert(server.end(), listing.begin(), listing.end());
    expect_failed(talk(wanted, server, {server.size()}), "more exports than we read", false);
}

TEST(ClientHandshake, other_servers_are_told_apart) {
    expect_failed(expect_talk(kAll, "5353482d322e302d 4f70656e535348", ""),
                  "not an NBD server (it began with \"SSH-2.0-\")", false);
    expect_failed(expect_talk(kAll, "0000000000000000", ""), "not an NBD server", false);
    expect_failed(
        expect_talk(
            kAll, "4e42444d41474943 0000420281861253 0000000040000000 00000001" + repeat("00", 124),
            ""),
        "oldstyle", false);
    expect_failed(expect_talk(kAll, "4e42444d41474943 0000000000000001", ""), "unknown kind",
                  false);
}

TEST(ClientHandshake, replies_that_break_the_protocol_end_it) {
    const auto broken = [](std::string_view replies) {
        expect_failed(expect_talk(kPlain, kGreeting + std::string(replies), kFlags + kGo),
                      "breaks the protocol", false);
    };
    broken("0003e889045565aa 00000007 00000001 00000000");          // magic
    broken("0003e889045565a9 00000006 00000001 00000000");          // another option
    broken("0003e889045565a9 00000007 00000001 00010001");          // too long
    broken("0003e889045565a9 00000007 00000003 ffffffff");          // far too long
    broken(kGoAck);                                                 // no size
    broken("0003e889045565a9 00000007 00000002 00000000");          // reply that does not fit
    broken("0003e889045565a9 00000007 64737401 00000000");          //
    broken("0003e889045565a9 00000007 00000003 00000001 00");       // no type
    broken("0003e889045565a9 00000007 00000003 00000003 0000 00");  // size too short
    broken("0003e889045565a9 00000007 00000003 0000000d 0000 0000000040000000 008d 00");
    broken("0003e889045565a9 00000007 00000003 0000000a 0003 0000020000001000");
    broken("0003e889045565a9 00000007 00000003 0000000c 0000 8000000000000000 008d" + kGoAck);
}

TEST(ClientHandshake, answers_to_hello_that_break_the_protocol_end_it) {
    const auto broken = [](const Wanted& wanted, std::string_view replies) {
        const Bytes bytes = from_hex(kGreeting + std::string(replies));
        expect_failed(talk(wanted, bytes, {bytes.size()}), "breaks the protocol", false);
    };
    const std::string header = "0003e889045565a9 64737401 64737401 ";
    const std::string ids = "0000000000000011 0000000000000022";
    broken(kAll, kHelloAck);
    broken(kAll, kHelloAnswer + kHelloAnswer);
    broken(kAll, header + "00000000");
    broken(kAll, header + "00000017 0001 0001" + ids + "000001");
    broken(kAll, header + "00000019 0001 0001" + ids + "00000100 00");
    broken(kAll, header + "00000018 0000 0001" + ids + "00000100");
    broken(kAll, header + "00000018 0002 0001" + ids + "00000100");
    broken(kAll, header + "00000018 0001 0001" + ids + "00000000");
    Wanted unsummed = kAll;
    unsummed.hello->wants_checksums = false;
    broken(unsummed, kHelloAnswer);
}

TEST(ClientHandshake, a_name_that_no_export_can_have_fails_before_anything_is_sent) {
    for (const auto& name : {std::string(4097, 'x'), std::string("a\0b", 3)}) {
        Wanted wanted = kPlain;
        wanted.export_name = name;
        ClientHandshake handshake(wanted);
        EXPECT_EQ(handshake.state(), State::failed);
        EXPECT_TRUE(handshake.output().empty());
        EXPECT_EQ(handshake.feed(from_hex(kGreeting)), 0);
    }
}

TEST(ClientHandshake, a_closed_connection_is_explained) {
    const auto closed = [](std::string_view server) {
        const Bytes bytes = from_hex(server);
        return talk(kPlain, bytes, {bytes.size()}, true);
    };
    expect_failed(closed(""), "closed the connection at once", true);
    expect_failed(closed(kGreeting), "during the handshake", true);
    expect_failed(closed(kGreeting + error_reply("00000007", "80000001")),
                  "when asked for export \"disk0\"", true);
    EXPECT_EQ(closed(kGreeting + kGoExport + kGoAck).state, State::done);
    expect_failed(closed(kGreeting + error_reply("00000007", "80000006")), "has no export", true);
}

// Both sides against each other.

struct Both {
    bool client_done = false;
    bool server_done = false;
    ServerFacts facts;
    Negotiated negotiated;
};

/// Runs both; bytes travel in pieces of `piece` bytes. The server grants checksums if it may.
Both run_both(const Wanted& wanted, bool grants_checksums, std::size_t piece) {
    ClientHandshake client(wanted);
    ServerHandshake server;
    Bytes to_client;
    Bytes to_server;
    const auto move_output = [](auto& from, Bytes& wire) {
        wire.insert(wire.end(), from.output().begin(), from.output().end());
        from.output_sent();
    };
    const auto move_input = [piece](Bytes& wire, auto& to) {
        std::size_t taken = 0;
        for (std::size_t come = piece; taken == 0; come += piece) {
            taken = to.feed(std::span(wire).first(std::min(come, wire.size())));
            if (come >= wire.size()) break;
        }
        wire.erase(wire.begin(), wire.begin() + static_cast<std::ptrdiff_t>(taken));
        return taken > 0;
    };
    for (bool moved = true; moved;) {
        move_output(server, to_client);
        move_output(client, to_server);
        moved = move_input(to_client, client);
        moved |= move_input(to_server, server);
        if (server.state() != ServerHandshake::State::asks) continue;
        moved = true;
        if (const auto* hello = std::get_if<Hello>(&server.question()))
            server.answer(HelloAnswer{.checksums = grants_checksums && hello->wants_checksums,
                                      .instance = 1,
                                      .identity = 2,
                                      .requests_max = 3});
        else
            server.answer(ExportInfo{.name = "disk0",
                                     .description = "a disk",
                                     .size = ByteCount(1 << 20),
                                     .flags = kFlagHasFlags | kFlagSendDf,
                                     .block_min = 1024});
    }
    EXPECT_TRUE(to_client.empty() && to_server.empty());
    return {client.state() == State::done, server.state() == ServerHandshake::State::done,
            client.result(), server.result()};
}

void expect_agreed(const Wanted& wanted, bool grants_checksums, std::size_t piece) {
    const Both both = run_both(wanted, grants_checksums, piece);
    ASSERT_TRUE(both.client_done && both.server_done);
    const bool checksums = wanted.hello && wanted.hello->wants_checksums && grants_checksums;
    const bool structured = wanted.structured_replies || checksums;
    EXPECT_EQ(both.facts.checksums, checksums);
    EXPECT_EQ(both.negotiated.checksums, checksums);
    EXPECT_EQ(both.facts.structured_replies, structured);
    EXPECT_EQ(both.negotiated.structured_replies, structured);
    EXPECT_EQ(both.facts.base_allocation, wanted.base_allocation && structured);
    EXPECT_EQ(both.negotiated.base_allocation, wanted.base_allocation && structured);
    EXPECT_EQ(both.facts.allocation_context, both.negotiated.base_allocation_id);
    EXPECT_EQ(both.facts.info.flags, both.negotiated.flags);
    EXPECT_EQ(both.facts.has_flag(kFlagSendDf), structured);
    EXPECT_EQ(both.facts.info.block_min, wanted.block_size ? 1024 : 512);
    EXPECT_EQ(both.negotiated.block_size_known, wanted.block_size);
    EXPECT_EQ(both.negotiated.export_name, "disk0");
    EXPECT_EQ(both.facts.info.description, "a disk");
    ASSERT_EQ(both.negotiated.hello.has_value(), wanted.hello.has_value());
    if (!wanted.hello) return;
    EXPECT_EQ(both.facts.hello, (HelloAnswer{checksums, 1, 2, 3}));
    EXPECT_EQ(both.negotiated.hello->session, wanted.hello->session);
}

TEST(BothHandshakes, agree_in_all_combinations) {
    const std::optional<Hello> hellos[] = {std::nullopt, Hello{"", false, {}}, Hello{"", true, {}},
                                           Hello{"", false, kSession}, Hello{"", true, kSession}};
    for (unsigned bits = 0; bits < 16; ++bits) {
        for (const auto& hello : hellos) {
            const Wanted wanted{.export_name = "disk0",
                                .structured_replies = (bits & 1) != 0,
                                .base_allocation = (bits & 2) != 0,
                                .block_size = (bits & 4) != 0,
                                .hello = hello};
            for (const std::size_t piece : {1ul, 7ul, 1'000'000ul})
                expect_agreed(wanted, (bits & 8) != 0, piece);
        }
    }
}

TEST(Sessions, are_ordered_by_incarnation_then_number_and_only_within_their_owner) {
    const SessionId later_number{.head = 0xa1, .node = 0xa4, .incarnation = 0xa2, .number = 0xa4};
    const SessionId later_life{.head = 0xa1, .node = 0xa4, .incarnation = 0xa3, .number = 1};
    const SessionId other_node{.head = 0xa1, .node = 0xa5, .incarnation = 0xff, .number = 0xff};
    const SessionId other_head{.head = 0xa2, .node = 0xa4, .incarnation = 0xff, .number = 0xff};
    EXPECT_TRUE(is_older(kSession, later_number));
    EXPECT_TRUE(is_older(kSession, later_life));
    EXPECT_TRUE(is_older(later_number, later_life));
    EXPECT_FALSE(is_older(later_life, kSession));
    EXPECT_FALSE(is_older(kSession, kSession));
    EXPECT_FALSE(is_older(kSession, other_node));
    EXPECT_FALSE(is_older(kSession, other_head));
}

}  // namespace
}  // namespace dst::nbd
