// ClientConnection: one connection to an NBD server, from the end of the handshake to its own end.
//
// Calls are queued, numbered, sent in batches and answered in any order. When the connection ends,
// every call that was not answered is still there, in the order in which it was submitted: whoever
// owns the connection decides whether to send it again elsewhere.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "async/scope.h"
#include "async/task.h"
#include "base/digest.h"
#include "base/list.h"
#include "base/result.h"
#include "block/request.h"
#include "io/world.h"
#include "nbd/client_handshake.h"
#include "nbd/codec.h"
#include "nbd/frame_sender.h"
#include "nbd/receive_buffer.h"
#include "nbd/reservation.h"

namespace dst::nbd {

struct CallTag {};
class ClientConnection;

/// One of our own commands (docs/protocol.md 1.5 to 1.7), and what it is told.
struct OwnCommand {
    Command command = Command::dst_ping;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    std::uint16_t flags = 0;

    std::optional<Reservation> reservation{};
    std::optional<Digest> digest{};
    std::string text{};  // of an error, for a person
};

/// One request on its way. The owner keeps it, and what its request points to, until `on_answer`.
class Call : public OutgoingFrame, public ListHook<CallTag> {
  public:
    /// What is asked; the server must be able to take it.
    block::Request request;
    /// If set, this is asked instead.
    OwnCommand* own = nullptr;

    [[nodiscard]] bool is_ping() const {
        return own != nullptr && own->command == Command::dst_ping;
    }
    /// Reads, claims or releases a reservation.
    [[nodiscard]] bool is_of_reservation() const {
        return own != nullptr && !is_ping() && own->command != Command::dst_digest;
    }
    [[nodiscard]] bool is_submitted() const { return state_ != State::idle; }

  protected:
    ~Call() = default;

  private:
    friend class ClientConnection;
    /// The answer of the server; the call is the owner's again. Must not suspend, and may submit.
    virtual void on_answer(Result<> answer) = 0;
    /// The call leaves this process now (its header is made); for who counts what was sent before.
    virtual void on_send() {}
    void frame_done(bool sent) override;

    enum class State : std::uint8_t { idle, queued, sent };
    ClientConnection* connection_ = nullptr;
    State state_ = State::idle;
    bool sending_ = false;   // the kernel does not have all of its bytes yet
    bool answered_ = false;  // the answer came while sending
    bool failed_ = false;    // an error chunk came
    Error error_;
    std::uint32_t index_ = 0;  // place in the table of calls in flight
    /// Of a read: how much has come, and which parts, unless they came in order.
    std::uint64_t received_ = 0;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> parts_received_;  // offset, length
    std::optional<block::ExtentList::Mark> extents_before_;                // of block status
    std::array<std::byte, frame_size<RequestHeader>(true)> header_{};
    std::array<io::Slice, 2> parts_;
};

class ClientConnection {
  public:
    /// Requests in flight at most, unless the server says less.
    static constexpr std::uint32_t kCallsMax = 1024;

    /// `quiet`: as for a ReceiveBuffer.
    ClientConnection(io::World& world, std::unique_ptr<io::Stream> stream, block::Account& account,
                     block::Buffer quiet = {});
    ~ClientConnection();

    /// Speaks the handshake. Refused: the text says why. Suspends; `shutdown()` ends it early.
    async::Task<Outcome<>> handshake(const Wanted& wanted);
    [[nodiscard]] const ServerFacts& facts() const { return facts_; }
    /// After a handshake that failed: could it succeed later?
    [[nodiscard]] bool may_succeed_later() const { return may_succeed_later_; }

    /// Receives and sends until the connection ends; returns why. Suspends; runs once, after the
    /// handshake. All calls that were not answered are in `unanswered()` then.
    async::Task<std::string> run();
    /// Queues a call. It goes at the end of this turn, when fewer than the maximum are in flight; a
    /// ping, or a call of the reservation, goes at once. One of each at a time.
    void submit(Call& call);
    /// Ends the connection, now. `reason` must be a literal.
    void shutdown(const char* reason);
    /// Tells the server (NBD_CMD_DISC), and ends the connection when that is sent; a peer that does
    /// not read needs `shutdown`. No call may be in flight or come later.
    void disconnect();

    [[nodiscard]] List<Call, CallTag>& unanswered() { return calls_; }
    [[nodiscard]] bool idle() { return calls_.empty(); }
    /// When the last byte came in.
    [[nodiscard]] io::TimePoint last_received() const { return last_received_; }
    [[nodiscard]] bool ended() const { return ended_; }
    /// Why; empty before it has.
    [[nodiscard]] const char* end_reason() const { return end_reason_; }
    /// It ended because a frame did not hold what its checksum says.
    [[nodiscard]] bool had_wrong_checksum() const { return had_wrong_checksum_; }
    /// `run()` is under way.
    [[nodiscard]] bool is_running() const { return running_; }

  private:
    friend class Call;
    void take_facts(const ServerFacts& facts);
    async::Task<void> send_all_frames();
    async::Task<void> say_good_bye();
    async::Task<Result<>> receive_all();
    async::Task<Result<>> receive_simple();
    async::Task<Result<>> receive_chunk();
    async::Task<Result<>> receive_data(const ChunkHeader& header, std::uint32_t crc, Call& call);
    Result<> take_short_body(const ChunkHeader& header, std::span<const std::byte> body,
                             Call& call);
    void note_received(Call& call, std::uint64_t offset, std::uint64_t length);
    async::Task<Result<>> receive_block_status(const ChunkHeader& header, std::uint32_t crc,
                                               Call& call);
    Result<> take_own_body(const ChunkHeader& header, std::span<const std::byte> body, Call& call);
    Result<> check_answer(Call& call);
    static Result<> check_own_answer(const OwnCommand& own);
    void send_more();
    void send(Call& call, std::uint32_t index);
    void encode(Call& call);
    Call* find(std::uint64_t cookie);
    void answer(Call& call);
    void settle(Call& call);

    io::World& world_;
    std::unique_ptr<io::Stream> stream_;
    ReceiveBuffer incoming_;
    ServerFacts facts_;
    bool may_succeed_later_ = true;
    bool ended_ = false;
    bool had_wrong_checksum_ = false;
    bool running_ = false;
    const char* end_reason_ = "";
    io::TimePoint last_received_;

    List<Call, CallTag> calls_;  // in order of submission: sent ones in front
    Call* first_queued_ = nullptr;
    std::uint32_t places_ = 0;  // of `in_flight_`, for requests; then ping's, then the other's
    std::vector<Call*> in_flight_;
    std::vector<std::uint32_t> free_indices_;
    std::vector<std::uint32_t> generations_;
    FrameSender sender_;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace dst::nbd
