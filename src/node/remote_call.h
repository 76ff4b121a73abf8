// What a remote node has on its way: private to remote*.cc.
#pragma once

#include <coroutine>

#include "node/remote.h"

namespace dst::node {

inline constexpr Error kNoLink{ErrorCode::node_lost, "there is no connection"};

/// A call that a request of this node waits for.
struct Remote::Pending : nbd::Call {
    explicit Pending(Remote& remote) : owner(remote) {}

    Remote& owner;
    io::TimePoint since;
    io::TimePoint sent_at;              // the last time
    bool held_out = false;              // failed because nothing could answer for too long
    bool ends_with_connection = false;  // is not sent again on another one
    bool is_done = false;
    Result<> result;
    async::WaitQueue done;

    async::Task<Result<>> wait() {
        while (!is_done) co_await done.wait();
        co_return result;
    }
    void finish(Result<> answer) {
        result = answer;
        is_done = true;
        done.wake_all();
    }

  protected:
    ~Pending() = default;

    void on_send() override { sent_at = owner.world_.clock.turn_time(); }

  private:
    void on_answer(Result<> answer) override { owner.answered(*this, answer); }
};

/// Reads and block status: nothing is left of them when they are answered.
struct Remote::PlainCall final : Pending {
    using Pending::Pending;
};

/// A flush covers what this instance of the peer had answered when the flush was sent.
struct Remote::FlushCall final : Pending {
    using Pending::Pending;
    std::uint64_t covers = 0;

  private:
    void on_send() override {
        Pending::on_send();
        covers = owner.answer_sequence_;
    }
};

/// A change: in flight, then kept in the window until it is durable. Reused.
struct Remote::Change final : Pending, ListHook<Remote::WindowTag> {
    using Pending::Pending;
    block::Buffer buffer;        // keeps `request.data`
    std::uint64_t cost = 0;      // bytes of the window that it takes
    std::uint64_t sequence = 0;  // of its answer
    bool is_awaited = false;     // its request has not seen the answer yet
    bool is_replay = false;      // in flight a second time
    unsigned failed_replays = 0;
    bool is_unwritable = false;  // the peer failed to take it again
    Error replay_error;
};

struct Remote::PingCall final : Pending {
    explicit PingCall(Remote& remote) : Pending(remote) { own = &command; }
    nbd::OwnCommand command;
    bool is_out = false;
    bool counts = false;  // over a connection that the gate had let in

  private:
    void on_send() override { sent_at = owner.world_.clock.now(); }
    void on_answer(Result<>) override {
        is_out = false;
        if (counts) owner.answered_ping_sent_at_ = sent_at;
    }
};

/// One of our own commands: it waits for no link.
struct Remote::OwnCall final : Pending {
    OwnCall(Remote& remote, nbd::OwnCommand asked) : Pending(remote), command(std::move(asked)) {
        own = &command;
        request.if_connected = true;
    }
    nbd::OwnCommand command;
};

/// What the gate sees of a new connection.
class Remote::OpenVisit final : public Visit {
  public:
    OpenVisit(Remote& remote, bool is_same_instance)
        : owner_(remote), is_same_instance_(is_same_instance) {}

    [[nodiscard]] bool is_ours() const override { return owner_.is_ours_; }
    [[nodiscard]] std::uint64_t instance() const override { return owner_.told_instance_; }
    [[nodiscard]] bool is_same_instance() const override { return is_same_instance_; }
    [[nodiscard]] SectorCount size() const override { return owner_.last_size_; }
    async::Task<Result<>> read(SectorRange range, std::span<std::byte> into) override;
    async::Task<Result<nbd::Reservation>> read_reservation() override;

  private:
    Remote& owner_;
    bool is_same_instance_;
};

}  // namespace dst::node
