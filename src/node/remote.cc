#include "node/remote.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "node/remote_call.h"

namespace dst::node {
namespace {

template <typename Action>
std::unique_ptr<io::Timer> make_timer(Action action) {
    return std::make_unique<io::Deadline<Action>>(std::move(action));
}

/// How long a peer may take to take in a good-bye.
constexpr std::chrono::milliseconds kGoodByeMax{500};

constexpr Error kStopped{ErrorCode::cancelled, "the node is stopped"};

std::uint64_t draw(io::Random& random) {
    std::uint64_t drawn = 0;
    while (drawn == 0) drawn = random.next();
    return drawn;
}

}  // namespace

Remote::Remote(io::World& world, block::BufferPool& pool, block::Account& connections,
               HeadIdentity head, std::uint64_t key, RemoteSettings settings)
    : world_(world),
      pool_(pool),
      connections_(connections),
      head_(head),
      key_(key),
      settings_(std::move(settings)),
      name_(fmt::format("R: {}/{}", io::to_string(settings_.endpoint), settings_.export_name)),
      own_instance_(draw(world.random)),
      since_(world.clock.wall_now()),
      ping_(std::make_unique<PingCall>(*this)),
      hold_timer_(make_timer([this] { hold_is_over(); })),
      settle_timer_(make_timer([this] { settle(); })) {
    pool_.add(*this);
}

Remote::~Remote() = default;

void Remote::start(Observer* observer) {
    CHECK(link_ == LinkState::stopped && !stopping_);
    observer_ = observer;
    become(LinkEvent::start, "connecting for the first time");
    scope_.spawn(keep_connected());
}

async::Task<ByteCount> Remote::stop(io::TimePoint deadline) {
    // What was answered is made durable, if the peer is there or comes back in time.
    is_ending_ = true;
    while (link_ != LinkState::ready && !window_.empty() && !stopping_ &&
           world_.clock.now() < deadline)
        co_await io::wait_until(world_.clock, link_changes_, deadline);
    if (link_ == LinkState::ready && !window_.empty() && !stopping_) {
        auto late = [this] { abandon(); };
        io::Deadline<decltype(late)> timer(late);
        timer.arm(world_.clock, deadline);
        // The window is dropped either way; the log has said why.
        (void)co_await flush(history_, false);
    }
    stopping_ = true;
    become(LinkEvent::stop, "stopped");
    settle_timer_->disarm();
    hold_timer_->disarm();
    stop_connecting_.raise();
    auto cut = [this] {
        if (connection_) connection_->shutdown("stopped");
    };
    io::Deadline<decltype(cut)> cut_timer(cut);
    if (connection_ && connection_->is_running() && connection_->idle()) {
        connection_->disconnect();
        cut_timer.arm(world_.clock, world_.clock.now() + kGoodByeMax);
    } else {
        cut();
    }
    link_changes_.wake_all();
    replay_progress_.wake_all();
    window_room_.wake_all();
    fail_waiting(kStopped);  // among them what the scope waits for
    co_await scope_.join();
    fail_waiting(kStopped);
    const ByteCount dropped(window_bytes_);
    if (dropped.value() > 0)
        log::warning("{}: stopped with {} bytes of changes that may not be durable there", name_,
                     window_bytes_);
    while (Change* const change = window_.front()) leave_window(*change);
    receive_buffer_ = {};
    co_return dropped;
}

void Remote::hurry() {
    if (is_ending_) abandon();
}

/// What is not durable by now may never be.
void Remote::abandon() {
    stopping_ = true;
    if (connection_) connection_->shutdown("stopped before all was flushed");
    fail_waiting(kStopped);
    link_changes_.wake_all();
}

void Remote::fail_waiting(Error why) {
    while (nbd::Call* const call = waiting_.pop_front())
        static_cast<Pending*>(call)->finish(std::unexpected(why));
    waiting_count_ = 0;
}

ByteCount Remote::drop(Error why) {
    if (stopping_ || link_ == LinkState::stopped || !fenced_.empty()) return {};
    const ByteCount dropped = forget_history(why);
    if (connection_) {
        dropping_ = why;
        connection_->shutdown("dropped");
    }
    log::info("{}: dropped, with {} bytes of changes that may not be durable there", name_,
              dropped.value());
    return dropped;
}

/// Everything that was asked up to now fails or is forgotten. What is in flight fails when its
/// connection has ended, which the caller sees to.
ByteCount Remote::forget_history(Error why) {
    ++history_;
    history_ended_ = why;
    std::uint64_t dropped = 0;
    for (Change* at = window_.front(); at != nullptr;) {
        Change* const next = window_.next(*at);
        dropped += at->cost;
        // One that is being replayed is the connection's until that has ended.
        if (!at->is_submitted()) leave_window(*at);
        at = next;
    }
    fail_waiting(why);
    flush_error_.reset();
    replay_wanted_ = false;
    peer_instance_ = 0;
    has_settled_peer_ = false;
    answered_ping_sent_at_.reset();
    ping_->counts = false;
    window_room_.wake_all();
    replay_progress_.wake_all();
    return ByteCount(dropped);
}

void Remote::readmit() {
    fenced_.clear();
    link_changes_.wake_all();
}

SectorCount Remote::accept_size() {
    geometry_.size = std::max(geometry_.size, last_size_);
    return geometry_.size;
}

async::Task<Result<>> Remote::look_anew(io::TimePoint deadline) {
    if (!is_ready()) co_return fail(ErrorCode::node_lost, "not connected");
    const std::uint64_t before = reconnects_;
    is_renewing_ = true;
    connection_->shutdown("connecting anew, to see how large it is");
    while (reconnects_ == before && !stopping_ && fenced_.empty())
        if (!co_await io::wait_until(world_.clock, link_changes_, deadline)) break;
    if (reconnects_ == before) co_return fail(ErrorCode::node_lost, "not connected again");
    accept_size();
    co_return Result<>{};
}

RemoteStatus Remote::status() const {
    std::string reason = reason_;
    if (silent_) reason = "connected, but the server does not answer";
    // What is under way there has to end before the link is broken.
    if (link_ == LinkState::ready && connection_ && connection_->ended())
        reason = connection_->end_reason();
    return {.link = link_,
            .reason = std::move(reason),
            .since = since_,
            .is_ours = is_ours_,
            .checksums = checksums_,
            .read_only = geometry_.read_only,
            .has_flush = has_flag(nbd::kFlagSendFlush),
            .hopeless = hopeless_,
            .silent = silent_,
            .fenced = link_ == LinkState::fenced,
            .reconnects = reconnects_,
            .replayed = replayed_,
            .waiting = waiting_count_,
            .window_bytes = window_bytes_};
}

}  // namespace dst::node
