// What a server session keeps of a request: private to server_session.cc and server_reply.cc.
#pragma once

#include <array>
#include <vector>

#include "nbd/server_session.h"

namespace dst::nbd {

/// One request from its header to its reply's last byte. Reused; never moves.
struct ServerSession::Slot final : OutgoingFrame {
    /// Holes are looked for in steps of this size: as fine as memory devices and most files are.
    static constexpr std::size_t kHoleBytes = 64 << 10;
    static constexpr std::size_t kRunsMax = 2 * block::kPayloadMaxBytes / kHoleBytes;

    explicit Slot(ServerSession& owner) : session(owner) {}

    ServerSession& session;
    std::uint64_t cookie = 0;
    bool dont_fragment = false;
    bool one_extent = false;
    bool part_of_long_read = false;
    bool counts_as_held = false;  // `buffer`, in the session's share
    block::Request request;
    block::Buffer buffer;
    std::vector<block::Buffer> pieces;  // a long read that is answered as a whole

    /// Header of the first chunk, with an offset or a short body behind it.
    std::array<std::byte, frame_size<ChunkHeader>(true) + kDigestBytes> head{};
    static_assert(data_front_size(true) <= frame_size<ChunkHeader>(true) + kDigestBytes);
    std::array<io::Slice, 2> two_slices;
    /// For an answer of several chunks.
    std::vector<std::array<std::byte, frame_size<ChunkHeader>(true) + OffsetHole::kWireBytes>>
        heads;
    std::vector<io::Slice> slices;

    void take(const ValidRequest& asked);
    /// Sends data, and holes where it is zero, as chunks; the last of them has `last_flags`.
    void reply_data(std::uint64_t offset, std::span<std::byte> data, std::uint16_t last_flags);
    void clear() {
        buffer = {};
        request = {};
        part_of_long_read = counts_as_held = false;
        pieces.clear();
    }
    void send_head(std::size_t bytes) {
        two_slices[0] = io::Slice(head.data(), bytes);
        send_two_slices(1);
    }
    void send_head_and(std::size_t bytes, std::span<std::byte> payload) {
        two_slices = {io::Slice(head.data(), bytes), io::Slice(payload)};
        send_two_slices(2);
    }
    void send_two_slices(std::size_t count) {
        set_slices(std::span(two_slices).first(count));
        session.sender_.push(*this);
    }
    void send_slices() {
        set_slices(slices);
        session.sender_.push(*this);
    }

    async::WaitQueue sent;
    bool was_sent = false;

  private:
    void frame_done(bool was_taken) override {
        if (!part_of_long_read) {
            session.release(*this);
            return;
        }
        was_sent = was_taken;
        sent.wake_all();
    }
};

/// Answers to pings: one frame, used again for each that is owed.
struct ServerSession::Pong final : OutgoingFrame {
    /// More unanswered pings than this end the connection (docs/protocol.md).
    static constexpr std::size_t kOwedMax = 256;

    explicit Pong(ServerSession& owner) : session(owner) {}

    ServerSession& session;
    std::array<std::byte, frame_size<ChunkHeader>(true)> bytes{};
    io::Slice slice;
    bool busy = false;
    std::vector<std::uint64_t> owed;  // cookies, the oldest first

    void send(std::size_t size) {
        busy = true;
        slice = io::Slice(bytes.data(), size);
        set_slices(std::span(&slice, 1));
        session.sender_.push(*this);
    }

  private:
    void frame_done(bool sent) override {
        busy = false;
        if (!sent || owed.empty()) return;
        const std::uint64_t cookie = owed.front();
        owed.erase(owed.begin());
        session.pong(cookie);
    }
};

/// The answer to a command of reservations. One at a time; it needs no slot, so it is read and
/// answered with all of them in use.
struct ServerSession::ReservationReply final : OutgoingFrame {
    async::Semaphore turn{1};
    std::vector<std::byte> bytes;
    io::Slice slice;

    void send(FrameSender& sender) {
        slice = io::Slice(bytes);
        set_slices(std::span(&slice, 1));
        sender.push(*this);
    }

  private:
    void frame_done(bool) override { turn.release(); }
};

/// Counts a change while it may be on its way to the device.
class ServerSession::ChangeInFlight {
  public:
    ChangeInFlight(ServerSession& session, block::Op op)
        : session_(block::is_change(op) ? &session : nullptr) {
        if (session_ != nullptr) ++session_->changes_in_flight_;
    }
    ~ChangeInFlight() {
        if (session_ != nullptr && --session_->changes_in_flight_ == 0)
            session_->served_->has_calmed();
    }
    ChangeInFlight(const ChangeInFlight&) = delete;
    ChangeInFlight& operator=(const ChangeInFlight&) = delete;

  private:
    ServerSession* session_;
};

}  // namespace dst::nbd
