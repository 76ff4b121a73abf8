// The client's side of the handshake, as a pure state machine, with any NBD server of the last
// twenty years but those that speak oldstyle (proto.md, Handshake; docs/protocol.md).
//
// What the server lacks it does without: the private option, structured replies, contexts, even
// NBD_OPT_GO and all of fixed newstyle. It asks in this order, each step only if it is wanted and
// still makes sense:
//
//     HELLO, STRUCTURED_REPLY, SET_META_CONTEXT, GO, and EXPORT_NAME where GO is unknown
//
// or, to learn which exports there are, LIST and ABORT. The owner's loop is that of
// server_handshake.h, without questions. Not one byte behind the end is consumed. What the server
// says is bounded: a reply by kOptionReplyBytesMax, a list by kListingsMax.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "nbd/handshake.h"

namespace dst::nbd {

struct Wanted {
    std::string export_name{};
    bool structured_replies = true;
    bool base_allocation = true;   // only with structured replies
    bool block_size = true;        // learn the server's block sizes and obey them
    std::optional<Hello> hello{};  // its export_name is set by the handshake
    bool list = false;             // only list the exports; nothing is transmitted then
};

/// What the handshake found out.
struct ServerFacts {
    ExportInfo info;
    bool structured_replies = false;
    bool checksums = false;  // checksummed framing; implies structured_replies
    bool base_allocation = false;
    std::uint32_t allocation_context = 0;
    std::optional<HelloAnswer> hello{};     // a server of our own kind
    std::vector<ExportListing> listings{};  // if they were wanted

    [[nodiscard]] bool has_flag(std::uint16_t flag) const { return (info.flags & flag) != 0; }
};

class ClientHandshake {
  public:
    enum class State : std::uint8_t { reading, done, failed };

    static constexpr std::size_t kListingsMax = 10'000;

    explicit ClientHandshake(Wanted wanted);

    [[nodiscard]] State state() const { return state_; }
    /// Bytes to send. After the end too: the option that says good-bye, where there is one.
    [[nodiscard]] std::span<const std::byte> output() const { return output_.bytes(); }
    void output_sent() { output_.clear(); }
    /// Takes bytes from the server, as far as it can use them now; returns how many. None while
    /// there is output.
    std::size_t feed(std::span<const std::byte> bytes);
    /// The server has ended the connection: fails, if not done yet, with what that means now.
    void closed_by_peer();

    /// In the state `done`.
    [[nodiscard]] const ServerFacts& result() const { return facts_; }
    /// In the state `failed`: one line that says what and why; the caller knows which server.
    [[nodiscard]] const Problem& failure() const { return failure_; }
    /// True if the same attempt may succeed at another time, with nothing changed here.
    [[nodiscard]] bool may_succeed_later() const { return may_succeed_later_; }

  private:
    enum class Phase : std::uint8_t {
        magic,              // 8 bytes: is this NBD?
        style,              // 8 bytes: which handshake?
        flags,              // 2 bytes
        reply_header,       // of `option_`
        reply_data,         //
        export_name_reply,  // no header
    };

    void on_unit(std::span<const std::byte> unit);
    void on_magic(std::uint64_t magic);
    void on_style(std::uint64_t magic);
    void on_flags(std::uint16_t flags);
    void on_reply_header(std::span<const std::byte> header);
    void on_reply(std::span<const std::byte> data);
    void on_part(std::span<const std::byte> data);
    void on_ack();
    void on_error(std::string_view text);
    void on_export_name_reply(std::span<const std::byte> reply);

    void on_listing(std::span<const std::byte> data);
    void on_hello_answer(std::span<const std::byte> data);
    void on_context(std::span<const std::byte> data);
    void on_info(std::span<const std::byte> data);
    void on_block_sizes(ByteReader& reader);

    void go_on_after_hello();
    void go_on_after_structured_reply();
    void send_option(Option option, std::size_t data_bytes);
    void send_hello();
    void send_set_meta_context();
    void send_go();
    void send_export_name();
    void finish();
    void await(Phase phase, std::size_t bytes);

    void refused(std::string_view text);
    void explain_refusal(std::string_view text);
    void fail_with(ErrorCode code, std::string text, bool later);
    void violated(std::string_view what);

    Wanted wanted_;
    State state_ = State::reading;
    Phase phase_ = Phase::magic;
    Gatherer gatherer_;
    Outbox output_;
    bool fixed_newstyle_ = false;
    bool no_zeroes_ = false;
    bool heard_anything_ = false;
    Option option_{};         // the one that was sent last
    ReplyType reply_type_{};  // of the reply at hand
    bool export_told_ = false;
    ServerFacts facts_;
    Problem failure_;
    bool may_succeed_later_ = false;
};

}  // namespace dst::nbd
