// ServerSession: one client's connection to one of our exports, from its first byte to its last.
//
// All requests found in what was received are dispatched before anything is sent; replies go out
// once a turn. Requests run at the same time, bounded in number by `kRequestsMax` and in memory by
// the export's account: at either bound the session stops reading, and TCP pushes back.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "async/scope.h"
#include "async/task.h"
#include "block/buffer.h"
#include "block/device.h"
#include "block/measures.h"
#include "io/world.h"
#include "nbd/codec.h"
#include "nbd/frame_sender.h"
#include "nbd/gathering.h"
#include "nbd/receive_buffer.h"
#include "nbd/reservation.h"
#include "nbd/server_handshake.h"

namespace dst::nbd {

class ServerSession;

/// A device as one client gets it. Lives as long as its session.
class Served {
  public:
    virtual ~Served() = default;
    [[nodiscard]] virtual block::Device& device() = 0;
    /// Where payloads are taken from.
    [[nodiscard]] virtual block::Account& account() = 0;
    [[nodiscard]] virtual ExportInfo info() const = 0;

    /// May this client change the device now? Asked for each change, when it is to be executed.
    [[nodiscard]] virtual Result<> may_change() const { return {}; }
    // The device's reservation, for a client whose hello granted it.
    [[nodiscard]] virtual Reservation reservation() const { return {}; }
    /// For this client's session. Granted only once nobody else's change is in flight. Suspends.
    virtual async::Task<Ruling> claim(Claim claim);
    [[nodiscard]] virtual Ruling release(std::uint64_t number);
    /// Where to note what was asked, and how long it took; null: nowhere.
    [[nodiscard]] virtual block::Measures* measures() { return nullptr; }
    /// A frame of this client did not hold what its checksum says.
    virtual void has_wrong_checksum() {}
    /// The last change of this client that was in flight is done, or its connection has ended.
    virtual void has_calmed() {}
    /// False once the device has lost changes: what it reads then may be older than what its client
    /// was told, so nothing is answered any more, and the session ends.
    [[nodiscard]] virtual bool is_current() const { return true; }
};

/// Where sessions find what clients ask for. Outlives them.
class ExportSource {
  public:
    virtual ~ExportSource() = default;
    [[nodiscard]] virtual std::vector<ExportListing> list(const io::Address& peer) = 0;
    /// What `name` is for this client, who uses it from now on. May wait for a storage that is
    /// still forming. Suspends.
    virtual async::Task<std::expected<std::unique_ptr<Served>, Refusal>> select(
        std::string name, ServerSession& session) = 0;
    /// What it would be, for who only asks. Suspends.
    virtual async::Task<std::expected<ExportInfo, Refusal>> describe(std::string name,
                                                                     ServerSession& session);
    /// Opens a session of a peer of our kind, after all older ones of the same owner are closed
    /// and their requests finished (docs/protocol.md). Suspends.
    virtual async::Task<std::expected<HelloAnswer, Refusal>> hello(Hello hello,
                                                                   ServerSession& session) = 0;
};

class ServerSession {
  public:
    /// Requests in flight at most.
    static constexpr std::uint32_t kRequestsMax = 256;
    /// How long a handshake may take, not counting what it waits for here; and how long a frame
    /// that has begun may go without another byte.
    static constexpr std::chrono::seconds kHandshakeMax{30};
    static constexpr std::chrono::seconds kStallMax{60};
    /// The same while others wait for memory.
    static constexpr std::chrono::seconds kStallCheck{2};
    /// So much of a payload must have come before it gets a buffer, in bytes.
    static constexpr std::size_t kBegunBytes = 4096;

    /// `connections`: the account that the receive buffer is taken from. `quiet`: the one to begin
    /// with, as in `ReceiveBuffer`.
    ServerSession(io::World& world, std::unique_ptr<io::Stream> stream, ExportSource& source,
                  block::Account& connections, block::Buffer quiet = {});
    ~ServerSession();

    /// Serves until the client goes, breaks a rule, or `close()`; then waits for the requests in
    /// flight. Suspends; runs once.
    async::Task<void> run();
    /// Reads no more: what was not dispatched is discarded. `run()` returns when the rest is done.
    /// `reason` must be a literal.
    void close(const char* reason);
    /// Reads no more, but answers all that was dispatched before it closes.
    void finish(const char* reason);

    [[nodiscard]] const io::Address& peer() const { return stream_->peer(); }
    [[nodiscard]] const std::string& export_name() const { return negotiated_.export_name; }
    /// In the transmission phase.
    [[nodiscard]] bool is_transmitting() const { return served_ != nullptr; }
    /// Why it ended, for the log.
    [[nodiscard]] const std::string& end_reason() const { return end_reason_; }
    [[nodiscard]] std::uint64_t requests() const { return requests_; }
    /// Its client may still ask for something: the connection has not ended.
    [[nodiscard]] bool is_connected() const { return !closing_ && !has_ended_; }
    /// When the last byte came from the client, as far as it is known without reading more.
    [[nodiscard]] io::TimePoint last_heard() const;
    /// Changes that may have reached the device and are not done.
    [[nodiscard]] bool has_changes_in_flight() const { return changes_in_flight_ > 0; }

  private:
    struct Slot;
    struct Pong;
    struct ReservationReply;
    class ChangeInFlight;
    struct LongWrite;

    async::Task<bool> handshake();
    async::Task<void> answer_question(ServerHandshake& handshake);
    [[nodiscard]] ExportInfo shown(ExportInfo info) const;
    async::Task<Result<>> transmit();
    async::Task<Result<>> next_request();
    async::Task<Result<>> dispatch(const Verdict& verdict, std::uint32_t payload_crc);
    async::Task<Result<>> receive_write(const ValidRequest& asked, std::uint32_t payload_crc);
    async::Task<Result<>> receive_long_write(const ValidRequest& asked);
    async::Task<Slot*> free_slot();
    async::Task<block::Buffer> allocate(std::uint64_t bytes);
    async::Task<Result<>> execute(block::Request& request);
    async::Task<Result<>> refuse(Error error);
    void note(const block::Request& request, const Result<>& done, io::TimePoint asked_at);
    [[nodiscard]] bool may_answer(const Result<>& done);
    async::Task<void> serve(Slot& slot);
    async::Task<void> serve_long_read(Slot& slot);
    async::Task<void> serve_whole_read(Slot& slot);
    async::Task<void> send_long_read(Slot& slot);
    bool gather_pieces(Slot& slot);
    async::Task<void> serve_block_status(Slot& slot);
    async::Task<void> serve_digest(Slot& slot);
    async::Task<void> serve_reservation(ValidRequest asked);
    async::Task<void> serve_piece(std::shared_ptr<LongWrite> all, block::Request request,
                                  block::Buffer buffer);
    async::Task<void> send_all_frames();
    async::Task<void> close_when_answered(const char* reason);
    async::Task<Result<>> fill(std::size_t bytes);
    async::Task<Result<>> gather(std::size_t bytes);
    async::Task<Result<>> take_payload(std::span<std::byte> into);

    void reply(Slot& slot, Result<> done);
    void reply_error(Slot& slot, Error error);
    void reply_read(Slot& slot);
    void reply_nothing(Slot& slot);
    void reply_block_status(Slot& slot, std::span<const block::Extent> extents);
    void reply_digest(Slot& slot);
    void reply_ruling(std::uint64_t cookie, const Ruling& ruling);
    void pong(std::uint64_t cookie);
    void release(Slot& slot);
    Result<> no_memory(Slot& slot);
    void end(std::string reason);
    void expect_within(io::Duration most);
    void on_stall();

    io::World& world_;
    std::unique_ptr<io::Stream> stream_;
    ExportSource& source_;
    ReceiveBuffer incoming_;
    Gathering gathering_;
    Negotiated negotiated_;
    ServedLimits limits_;
    std::unique_ptr<Served> served_;
    std::string end_reason_;
    bool checksums_agreed_ = false;
    bool closing_ = false;
    bool finishing_ = false;
    bool has_ended_ = false;
    std::uint64_t requests_ = 0;
    std::uint32_t changes_in_flight_ = 0;
    io::TimePoint last_received_;

    std::vector<std::unique_ptr<Slot>> slots_;
    std::vector<Slot*> free_slots_;
    async::WaitQueue slot_freed_;
    std::size_t bytes_held_ = 0;  // of payload, by requests in flight
    async::Semaphore exclusive_reply_{1};
    std::unique_ptr<Pong> pong_;
    std::unique_ptr<ReservationReply> reservation_reply_;
    std::unique_ptr<io::Timer> stall_timer_;
    io::TimePoint stalled_since_;
    io::Duration stall_max_{};
    FrameSender sender_;
    async::Scope requests_scope_;
    async::Scope sender_scope_;
};

}  // namespace dst::nbd
