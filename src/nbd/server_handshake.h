// The server's side of the handshake, as a pure state machine: fixed newstyle (proto.md, Handshake)
// and the private option (docs/protocol.md).
//
// Whoever owns a connection turns the crank:
//
//     while (handshake.state() is reading or asks) {
//         if (!handshake.output().empty()) { send(handshake.output()); handshake.output_sent(); }
//         else if (asks) handshake.answer(...);                 // after as long as it takes
//         else if (nothing consumed of what was received) receive more, behind it;
//         else drop handshake.feed(received) bytes from the front of what was received;
//     }
//     send what is left of the output; then transmit, or close.
//
// Invariants: nothing is consumed while there is output or a question, so a client that never reads
// can't make the output grow; what came of an option stays in the owner's buffer until all of it is
// there (at most kOptionBytesMax), so nothing is kept here; and not one byte behind the end of the
// handshake is consumed: those are requests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "nbd/handshake.h"

namespace dst::nbd {

/// Which exports are there?
struct ListExports {};

/// May this client have this export, and what is it like?
struct SelectExport {
    enum class Purpose : std::uint8_t { info, go, export_name, meta };
    std::string name{};
    Purpose purpose = Purpose::info;
};

/// What a client asks that the handshake cannot know. `Hello`: its session may be opened once all
/// older ones are gone (docs/protocol.md).
using Question = std::variant<ListExports, SelectExport, Hello>;

/// No, and why: an error reply and a text for the client's user.
struct Refusal {
    ReplyType reply = ReplyType::error_policy;
    std::string text{};
};

/// What holds in the transmission phase.
struct Negotiated {
    std::string export_name{};  // as the client spelled it
    std::uint16_t flags = 0;    // transmission flags, as sent
    bool structured_replies = false;
    bool base_allocation = false;
    std::uint32_t base_allocation_id = 0;
    bool checksums = false;         // checksummed framing; implies structured_replies
    bool block_size_known = false;  // the client knows the block sizes and must obey
    std::optional<Hello> hello{};
    bool reservations = false;  // granted in the answer to hello
    bool digests = false;
};

class ServerHandshake {
  public:
    enum class State : std::uint8_t {
        reading,  // feed it
        asks,     // answer `question()`
        done,     // transmission follows
        closed,   // close the connection, `close_reason()` says why
    };

    ServerHandshake();

    [[nodiscard]] State state() const { return state_; }
    /// Bytes to send. In the states done and closed too.
    [[nodiscard]] std::span<const std::byte> output() const { return output_.bytes(); }
    void output_sent() { output_.clear(); }

    /// Takes bytes from the client, as far as it can use them now; returns how many. What it does
    /// not take comes again, with more behind it.
    std::size_t feed(std::span<const std::byte> bytes);

    // In the state `asks` one of these, the one that fits `question()`, ends it. Strings that are
    // longer than the protocol allows are cut or left out.
    [[nodiscard]] const Question& question() const { return question_; }
    void answer(std::span<const ExportListing> listings);
    void answer(const ExportInfo& info);
    void answer(const HelloAnswer& hello);
    /// To any question. An NBD_OPT_EXPORT_NAME can't be refused but by closing.
    void answer(const Refusal& refusal);

    /// In the state `done`.
    [[nodiscard]] const Negotiated& result() const { return result_; }
    [[nodiscard]] const std::string& close_reason() const { return close_reason_; }

  private:
    enum class Phase : std::uint8_t { client_flags, option_header, option_data };

    /// The optional parts of an answer to NBD_OPT_INFO and NBD_OPT_GO.
    struct InfosWanted {
        bool name = false;
        bool description = false;
        bool block_size = false;
    };

    void expect(std::size_t bytes) { unit_bytes_ = bytes; }
    void on_unit(std::span<const std::byte> unit);
    void on_client_flags(std::uint32_t flags);
    void on_option_header(std::span<const std::byte> header);
    void on_option(std::span<const std::byte> data);
    void on_export_name(std::span<const std::byte> data);
    void on_list(std::span<const std::byte> data);
    void on_select(std::span<const std::byte> data);
    void on_structured_reply(std::span<const std::byte> data);
    void on_meta_context(std::span<const std::byte> data);
    void on_hello(std::span<const std::byte> data);
    [[nodiscard]] bool read_queries(ByteReader& reader, bool& matches) const;
    [[nodiscard]] bool contradicts_hello(std::string_view name) const;

    void reply(ReplyType type, std::string_view data = {});
    void reply_header(ReplyType type, std::size_t data_bytes);
    void reply_infos(const ExportInfo& info, std::uint16_t flags);
    void reply_contexts(const std::string& export_name);
    void reply_export_name(const ExportInfo& info, std::uint16_t flags);
    [[nodiscard]] std::uint16_t served_flags(const ExportInfo& info) const;
    void ask(Question question);
    void finish(const std::string& export_name, std::uint16_t flags);
    void close(std::string reason);

    State state_ = State::reading;
    Phase phase_ = Phase::client_flags;
    std::size_t unit_bytes_ = 0;     // of the next unit, which is taken as a whole
    std::size_t skipped_bytes_ = 0;  // before it: nobody looks at them
    Outbox output_;
    bool no_zeroes_ = false;
    Option option_{};                 // the one at hand
    std::optional<Refusal> refusal_;  // of it, known from its header alone
    Question question_;
    InfosWanted infos_wanted_;
    bool context_matches_ = false;  // a query of the option at hand names base:allocation
    std::optional<std::string> context_export_;  // for which base:allocation is selected
    Negotiated result_;
    std::string close_reason_;
};

}  // namespace dst::nbd
