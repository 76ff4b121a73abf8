// Remote: a device behind an NBD server, of our kind or any other, that fails no request because
// its link broke (design §5).
//
// Requests wait while there is no connection, and those that were sent and not answered are sent
// again. Every change stays here, its buffer too, until a flush made it durable on the peer; when
// the peer comes back as another instance (it crashed, or may have), what was answered is written
// again before anything else goes out. So while this process lives, a crash of the peer loses
// nothing and fails nothing. What an earlier life left in the peer's cache is made durable first of
// all, because from then on it is seen.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/scope.h"
#include "async/wait.h"
#include "block/buffer.h"
#include "block/device.h"
#include "block/measures.h"
#include "io/interrupt.h"
#include "io/world.h"
#include "nbd/client_connection.h"
#include "node/gate.h"
#include "node/link_state.h"

namespace dst::node {

/// Who we are, to peers of our kind. Same for all nodes of one daemon.
struct HeadIdentity {
    std::uint64_t id = 0;           // kept in state_dir
    std::uint64_t incarnation = 0;  // one more at each start
};

struct RemoteSettings {
    io::Endpoint endpoint;
    std::string export_name;
    /// Largest size to use; the peer's, if that is less. None: the peer's.
    std::optional<SectorCount> size_max;
    /// Bound on the changes that are kept for replay, in bytes.
    ByteCount replay_window{64 << 20};
    /// How long requests wait while nothing can answer them; none: for ever.
    std::optional<io::Duration> hold;
    /// Ask peers of our kind for checksums.
    bool checksums = true;
    /// Asked at each new connection; null: everything is let in. Outlives the node.
    Gate* gate = nullptr;

    /// A peer of our kind that is quiet for so long is asked for a sign of life.
    io::Duration ping_after = std::chrono::seconds(1);
    /// It is asked this often in any case, so that `answered_ping_sent_at` is never older for
    /// longer; none: only when it is quiet.
    std::optional<io::Duration> ping_each{};
    /// Nothing heard for so long, although asked: the link counts as lost.
    io::Duration silence_max = std::chrono::seconds(3);
};

/// What can be seen of a remote node.
/// Of a remote node, from its making on.
struct RemoteMeasures {
    /// From when it was asked to the answer, links lost and found included.
    block::Measures requests;
    /// The part of that from when it was sent last: what the wire and the peer take.
    block::ByOp<Latency> wire;
    /// Frames that did not hold what their checksum says.
    std::uint64_t checksum_errors = 0;
};

struct RemoteStatus {
    LinkState link = LinkState::stopped;
    /// Why it is in this state, for a person.
    std::string reason;
    io::WallTime since;
    bool is_ours = false;  // speaks our extension: has sessions and an instance id
    bool checksums = false;
    bool read_only = false;
    bool has_flush = true;
    bool hopeless = false;  // the server said no, and will say so again
    bool silent = false;    // connected, but has not answered for a while
    bool fenced = false;    // the gate said no
    std::uint64_t reconnects = 0;
    std::uint64_t replayed = 0;
    std::size_t waiting = 0;  // requests that wait for the link
    std::uint64_t window_bytes = 0;
};

/// Told about a node. Called between coroutines; must not suspend or destroy the node.
class Observer {
  public:
    virtual void node_ready() = 0;
    virtual void node_lost() = 0;
    /// An attempt to connect has failed; `status()` says why.
    virtual void node_refused() = 0;
    /// The gate said no: what was kept is dropped, and requests fail until `readmit`.
    virtual void node_fenced() {}
    /// The peer has more sectors than before: `largest_size_seen`.
    virtual void node_grew() {}
    /// Somebody waits for this node, other than requests that it has: it tries to connect sooner.
    [[nodiscard]] virtual bool is_awaited() const { return false; }

  protected:
    ~Observer() = default;
};

class Remote final : public block::Device, public block::Reclaimable {
  public:
    /// `pool` and `connections` (the account that receive buffers are taken from; those of clients
    /// should have another one, for they may wait for this node) outlive it.
    /// `key` tells this node from others of the same head (its cookie).
    Remote(io::World& world, block::BufferPool& pool, block::Account& connections,
           HeadIdentity head, std::uint64_t key, RemoteSettings settings);
    ~Remote() override;

    /// Begins to connect. `observer` may be null, else it outlives the node.
    void start(Observer* observer);
    /// Flushes what can be flushed until `deadline`, then drops the connection, the queue and the
    /// window: what waits fails with `cancelled`. How many bytes of changes were acknowledged and
    /// may not be durable there. Suspends.
    async::Task<ByteCount> stop(io::TimePoint deadline);

    /// A stop under way gives up what it still waits for.
    void hurry();
    /// Drops the connection and fails what waits, now; `stop` has to follow.
    void abandon();

    /// Gives the peer up as it is: closes the connection, fails with `why` all that waits or was
    /// not answered, and forgets what was kept for replay. How many bytes that was: acknowledged,
    /// and maybe not durable there. Then it connects again, as a node without history. What is
    /// asked from now on waits for that. Does not suspend.
    ByteCount drop(Error why = {ErrorCode::node_lost, "the node was dropped"});
    /// A server that shows another disk than before is not refused for that any more.
    void take_another_disk() {
        identity_ = 0;
        link_changes_.wake_all();
    }
    /// A fenced node connects again, without history; the gate is asked again.
    void readmit();

    /// Of no size before the first connection.
    [[nodiscard]] block::Geometry geometry() const override { return geometry_; }
    async::Task<Result<>> execute(block::Request& request) override;
    async::Task<Result<Digest>> digest(SectorRange range) override;

    // The reservation of the far device. All fail with `node_lost` without a link, at once and when
    // it is lost, and with `unsupported` at a plain server; they never wait in the queue. Suspend.
    async::Task<Result<nbd::Reservation>> read_reservation();
    /// A ruling whose `done` is an error speaks of `now` only if that is `not_permitted`.
    async::Task<nbd::Ruling> claim(nbd::Claim claim);
    async::Task<nbd::Ruling> release(std::uint64_t number);

    /// When the latest ping that was answered had been sent, over connections that the gate let in;
    /// none since the node has a history, or ever.
    [[nodiscard]] std::optional<io::TimePoint> answered_ping_sent_at() const {
        return answered_ping_sent_at_;
    }
    /// Since when the peer has been asked over the link that there is and has answered nothing at
    /// all; nothing: it answers, or the link is lost. That of a plain server counts from
    /// `silence_max` on only: it may be slow.
    [[nodiscard]] std::optional<io::TimePoint> silent_since() const;
    /// Which instance of the exporter the current connection, or the last one, speaks with; 0: a
    /// plain server, or none yet.
    [[nodiscard]] std::uint64_t peer_instance() const { return told_instance_; }
    /// The most sectors that the peer had at any connection, cut to `size_max`.
    [[nodiscard]] SectorCount largest_size_seen() const { return largest_size_; }
    /// The node takes the size that its peer had at the last connection; never less than before.
    SectorCount accept_size();
    /// Asks the peer anew how large it is, with a new connection, and takes that size. Requests
    /// wait meanwhile, as when a link is lost. Fails with `node_lost` if it is not connected again
    /// by `deadline`. Suspends.
    async::Task<Result<>> look_anew(io::TimePoint deadline);

    /// Stays the same over reconnects: no acknowledged change is lost here.
    [[nodiscard]] std::uint64_t instance() const override { return own_instance_; }
    [[nodiscard]] std::uint64_t identity() const override { return identity_; }

    [[nodiscard]] RemoteStatus status() const;
    [[nodiscard]] const RemoteMeasures& measures() const { return measures_; }
    [[nodiscard]] bool is_ready() const {
        return link_ == LinkState::ready && connection_ && !connection_->ended();
    }
    [[nodiscard]] const RemoteSettings& settings() const { return settings_; }

    void reclaim() override;

  private:
    struct Pending;
    struct PlainCall;
    struct FlushCall;
    struct Change;
    struct PingCall;
    struct OwnCall;
    class OpenVisit;
    struct WindowTag {};

    // remote_requests.cc: requests
    async::Task<Result<>> execute_long(block::Request& request, SectorCount most);
    async::Task<Result<>> execute_part(block::Request& request);
    async::Task<Result<>> describe_all(block::Request& request);
    async::Task<Result<>> ignore();
    async::Task<Result<>> execute_change(const block::Request& request);
    async::Task<Result<>> execute_zeroes(const block::Request& request);
    async::Task<Result<>> flush(std::uint64_t history, bool if_connected);
    async::Task<Result<>> flush_now(std::uint64_t history, bool if_connected);
    async::Task<Result<>> ask(const block::Request& request);
    void submit(Pending& call);
    void answered(Pending& call, Result<> answer);
    ByteCount forget_history(Error why);
    void fail_waiting(Error why);
    void arm_hold();
    void hold_is_over();
    [[nodiscard]] bool has_flag(std::uint16_t flag) const { return (server_flags_ & flag) != 0; }

    // remote_own.cc: our own commands
    async::Task<Result<>> ask_own(OwnCall& call);
    async::Task<nbd::Ruling> ask_ruling(nbd::OwnCommand command);

    // remote_window.cc: what is kept until it is durable
    async::Task<Result<>> room_in_window(std::uint64_t bytes, bool if_connected);
    Change& new_change();
    void leave_window(Change& change);
    void recycle(Change& change);
    void keep(Change& change);
    void forget_until(std::uint64_t sequence);
    async::Task<void> flush_by_itself();
    void settle();
    void cut_window();
    void split_off(Change& change, SectorRange range);
    [[nodiscard]] const Change* unwritable_in(SectorRange range);

    // remote_link.cc: the connection
    async::Task<void> keep_connected();
    async::Task<void> back_off(io::Duration time);
    [[nodiscard]] bool is_awaited() const;
    async::Task<std::string> connect_once();
    async::Task<std::string> serve_connection();
    async::Task<void> run_connection(std::string& ended);
    async::Task<void> watch();
    [[nodiscard]] bool is_ping_due(std::optional<io::TimePoint> last_ping, bool is_idle) const;
    [[nodiscard]] io::TimePoint plain_asked_since() const;
    void send_ping();
    async::Task<bool> pass_gate(bool same_instance);
    void fence(std::string why);
    async::Task<bool> settle_peer();
    async::Task<bool> replay();
    void replayed(Change& change, Result<> answer);
    void become_ready();
    Outcome<> accept_server();
    void take_back_calls();
    void become(LinkEvent event, std::string reason);

    io::World& world_;
    block::BufferPool& pool_;
    block::Account& connections_;
    const HeadIdentity head_;
    const std::uint64_t key_;
    const RemoteSettings settings_;
    const std::string name_;
    const std::uint64_t own_instance_;
    Observer* observer_ = nullptr;

    LinkState link_ = LinkState::stopped;
    std::string reason_ = "not started";
    io::WallTime since_;
    io::TimePoint away_since_;  // when it was ready last
    bool is_ending_ = false;    // a stop has begun: what can be flushed is flushed
    bool stopping_ = false;     // nothing is sent any more
    bool is_renewing_ = false;  // the connection is made anew at once, to learn the size
    bool was_renewed_ = false;  // the connection before ended for that
    std::string told_;          // to the log, of the last connection
    io::Interrupt stop_connecting_;
    async::WaitQueue link_changes_;
    block::Buffer receive_buffer_;
    std::unique_ptr<nbd::ClientConnection> connection_;
    std::optional<Error> dropping_;  // why what this connection carries fails instead of waiting
    std::string fenced_;             // why the node is; empty: it is not
    std::string gate_said_;          // why the connection is to be made anew
    std::uint64_t session_ = 0;
    std::uint64_t reconnects_ = 0;
    RemoteMeasures measures_;

    // What the peer is. Taken at the first connection, compared at each later one.
    block::Geometry geometry_;
    std::uint64_t identity_ = 0;
    std::uint64_t peer_instance_ = 0;  // of the last connection that got ready
    std::uint64_t told_instance_ = 0;
    SectorCount last_size_;
    SectorCount largest_size_;
    bool digests_ = false;
    bool reservations_ = false;
    std::uint16_t server_flags_ = 0;
    std::uint32_t payload_max_ = block::kPayloadMaxBytes;
    bool base_allocation_ = false;
    bool is_ours_ = false;
    bool checksums_ = false;
    bool silent_ = false;
    io::TimePoint idle_at_;  // when it was seen last that nothing was to be answered
    bool hopeless_ = false;
    bool has_settled_peer_ = false;

    // Requests that wait for the link, in order.
    List<nbd::Call, nbd::CallTag> waiting_;
    std::size_t waiting_count_ = 0;

    /// One more whenever what was kept is dropped: what was asked before must not succeed after.
    std::uint64_t history_ = 0;
    Error history_ended_;
    // The replay window: changes that were answered and are not durable yet, in order of answers.
    List<Change, WindowTag> window_;
    SectorRange window_hull_;  // all that is in the window lies within
    std::uint64_t window_bytes_ = 0;
    std::uint64_t answer_sequence_ = 0;
    std::size_t unwritable_ = 0;
    async::WaitQueue window_room_;
    bool flushing_by_itself_ = false;
    async::Semaphore flush_turn_{1};
    std::uint64_t covered_ = 0;  // changes answered up to here are durable
    std::optional<Error> flush_error_;
    bool replay_wanted_ = false;  // whatever instance comes next
    std::size_t replays_in_flight_ = 0;
    std::uint64_t replayed_ = 0;
    async::WaitQueue replay_progress_;

    std::vector<std::unique_ptr<Change>> changes_;
    std::vector<Change*> free_changes_;
    std::unique_ptr<PingCall> ping_;
    std::optional<io::TimePoint> answered_ping_sent_at_;
    async::Semaphore reservation_turn_{1};
    std::unique_ptr<io::Timer> hold_timer_;
    std::unique_ptr<io::Timer> settle_timer_;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace dst::node
