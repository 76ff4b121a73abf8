// Remote: the connection: connecting, comparing, replaying, watching, again.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "node/remote_call.h"

namespace dst::node {
namespace {

using namespace std::chrono_literals;

constexpr io::Duration kBackoffFirst = 100ms;  // design §5
constexpr io::Duration kBackoffMax = 5s;
/// The most while somebody waits for the node (docs/decisions.md).
constexpr io::Duration kBackoffAwaited = 500ms;
constexpr io::Duration kConnectMax = 5s;
/// Requests are out and nothing comes: who counts on pings asks sooner than else.
constexpr io::Duration kQuietUnderLoad = 250ms;
/// Longer than a server of our kind lets GO wait for a storage that is still forming (30 s).
constexpr io::Duration kHandshakeMax = 40s;
/// The kernel's own patience. Longer than ours: it also counts a peer that is alive, busy, and
/// reads nothing meanwhile.
constexpr io::Duration kTcpSilenceMax = 20s;
constexpr Error kLinkLost{ErrorCode::node_lost, "the connection was lost"};
constexpr std::size_t kReplaysInFlightMax = 64;
constexpr unsigned kReplayTries = 3;

}  // namespace

void Remote::become(LinkEvent event, std::string reason) {
    const auto after = next(link_, event);
    CHECK(after.has_value());
    const bool was_ready = link_ == LinkState::ready;
    // Away is away, however often it was tried since.
    const bool flips = was_ready != (*after == LinkState::ready);
    const bool is_news = flips || link_ == LinkState::stopped || event == LinkEvent::fenced;
    if (is_news) since_ = world_.clock.wall_now();
    link_ = *after;
    reason_ = std::move(reason);
    link_changes_.wake_all();
    if (was_ready && link_ != LinkState::ready) {
        away_since_ = world_.clock.now();
        window_room_.wake_all();  // who waits for it looks at the clock from now on
    }
    if (observer_ != nullptr && was_ready && link_ != LinkState::ready) observer_->node_lost();
    if (observer_ != nullptr && !was_ready && event == LinkEvent::broken) observer_->node_refused();
    if (observer_ != nullptr && event == LinkEvent::fenced) observer_->node_fenced();
    if (observer_ != nullptr && !was_ready && link_ == LinkState::ready) observer_->node_ready();
}

async::Task<void> Remote::keep_connected() {
    io::Duration backoff = kBackoffFirst;
    std::string last_logged;
    while (!stopping_) {
        const std::uint64_t connections_before = reconnects_;
        std::string ended = co_await connect_once();
        if (stopping_) break;
        if (!fenced_.empty()) {
            log::error("{}: fenced: {}", name_, ended);
            become(LinkEvent::fenced, ended);
            while (!fenced_.empty() && !stopping_) co_await link_changes_.wait();
            if (stopping_) break;
            become(LinkEvent::readmitted, "connecting anew, without history");
            backoff = kBackoffFirst;
            last_logged.clear();
            continue;
        }
        const bool was_ready = reconnects_ != connections_before;
        // Who connected only to fail another flush is not well yet.
        if (was_ready && !replay_wanted_) backoff = kBackoffFirst;
        become(LinkEvent::broken, ended);
        if (std::exchange(is_renewing_, false)) {
            was_renewed_ = true;
            become(LinkEvent::retry, reason_);
            continue;
        }
        was_renewed_ = false;
        // The same complaint each five seconds helps nobody.
        if (was_ready || ended != last_logged)
            log::warning("{}: {}: {}", name_, was_ready ? "lost" : "not connected", ended);
        last_logged = std::move(ended);
        arm_hold();
        co_await back_off(backoff);
        backoff = std::min(backoff * 2, kBackoffMax);
        if (!stopping_) become(LinkEvent::retry, reason_);
    }
}

/// Until it is time to try again, or something happens.
async::Task<void> Remote::back_off(io::Duration time) {
    // Between three and five quarters, so that many heads don't come in step.
    const auto quarter = static_cast<std::uint64_t>(time.count()) / 4;
    const auto jitter = io::Duration(
        static_cast<io::Duration::rep>(3 * quarter + world_.random.below(2 * quarter)));
    const io::TimePoint begun = world_.clock.now();
    // Who begins to wait meanwhile tells nobody.
    for (io::TimePoint now = begun; now < begun + jitter; now = world_.clock.now()) {
        if (is_awaited() && now >= begun + kBackoffAwaited) break;
        const io::TimePoint until = std::min(begun + jitter, now + kBackoffAwaited);
        if (co_await io::wait_until(world_.clock, link_changes_, until)) break;
    }
}

bool Remote::is_awaited() const {
    return waiting_count_ > 0 || (observer_ != nullptr && observer_->is_awaited());
}

/// One connection from its first packet to its end; returns why it ended, or did not come about.
async::Task<std::string> Remote::connect_once() {
    // Kept for life: who waits for this node may hold all other memory there is.
    if (!receive_buffer_)
        receive_buffer_ = connections_.try_allocate(nbd::ReceiveBuffer::kQuietBytes);
    if (!receive_buffer_) co_return "there is no memory for its connection now: raise 'memory'";
    auto stream = co_await world_.network.connect_unless(
        settings_.endpoint, world_.clock.now() + kConnectMax, kTcpSilenceMax, stop_connecting_);
    if (stopping_) co_return "stopped";
    if (!stream) co_return stream.error().text;
    connection_ = std::make_unique<nbd::ClientConnection>(world_, std::move(*stream), connections_,
                                                          receive_buffer_);
    become(LinkEvent::connected, "shaking hands");

    auto late = [this] {
        connection_->shutdown("the server did not finish the handshake in 40 s");
    };
    io::Deadline<decltype(late)> timer(late);
    timer.arm(world_.clock, world_.clock.now() + kHandshakeMax);
    // A higher number for each connection, whichever storage made it: the peer closes the older
    // ones before it answers. Time only grows while this process lives, and the next one has
    // another incarnation.
    session_ = static_cast<std::uint64_t>(world_.clock.now().time_since_epoch().count());
    nbd::Wanted wanted{
        .export_name = settings_.export_name,
        .hello = nbd::Hello{.export_name = settings_.export_name,
                            .wants_checksums = settings_.checksums,
                            .session = nbd::SessionId{.head = head_.id,
                                                      .node = key_,
                                                      .incarnation = head_.incarnation,
                                                      .number = session_}}};
    const Outcome<> agreed = co_await connection_->handshake(wanted);
    timer.disarm();
    std::string ended;
    hopeless_ = false;
    if (stopping_) {
        ended = "stopped";
    } else if (!agreed) {
        hopeless_ =
            !connection_->may_succeed_later() || agreed.error().code == ErrorCode::not_found;
        ended = agreed.error().text;
    } else if (const Outcome<> accepted = accept_server(); !accepted) {
        hopeless_ = geometry_.size.value() == 0;
        connection_->shutdown("refused");
        ended = accepted.error().text;
    } else {
        ended = co_await serve_connection();
    }
    connection_.reset();
    dropping_.reset();
    co_return ended;
}

/// Compares what the server is with what it was. Every reconnect asks again (design §5).
Outcome<> Remote::accept_server() {
    const nbd::ServerFacts& facts = connection_->facts();
    const std::uint64_t identity = facts.hello ? facts.hello->identity : 0;
    const SectorCount size = sectors_floor(facts.info.size);
    const bool read_only = facts.has_flag(nbd::kFlagReadOnly);
    const bool is_first = geometry_.size.value() == 0;
    if (size.value() == 0)
        return refuse(fmt::format("{} has no sectors: give its device a size", name_));
    if (!is_first) {
        if (size < geometry_.size)
            return refuse(
                fmt::format("refused: {} shrank from {} to {} sectors: restore the disk that "
                            "was there",
                            name_, geometry_.size.value(), size.value()));
        if (identity != 0 && identity_ != 0 && identity != identity_)
            return refuse(fmt::format(
                "refused: {} is another disk than before (identity {:016x}, was "
                "{:016x}): put the old one back; or say that this one is to be used: 'dst "
                "node replace' in a mirror, else stop and start the storage",
                name_, identity, identity_));
        if (read_only && !geometry_.read_only)
            return refuse(
                fmt::format("refused: {} is read-only now: check its access list", name_));
        if (facts.info.block_min > geometry_.block_bytes)
            return refuse(fmt::format("refused: {} now has blocks of {} bytes, had {}", name_,
                                      facts.info.block_min, geometry_.block_bytes));
    } else {
        geometry_.size = std::min(size, settings_.size_max.value_or(size));
        geometry_.block_bytes = std::max<std::uint32_t>(facts.info.block_min, 512);
        geometry_.preferred_bytes = std::max<std::uint32_t>(facts.info.block_preferred, 4096);
        geometry_.read_only = read_only;
        geometry_.can_trim = facts.has_flag(nbd::kFlagSendTrim);
        geometry_.can_zero_fast = facts.has_flag(nbd::kFlagSendFastZero);
        geometry_.rotational = facts.has_flag(nbd::kFlagRotational);
    }
    if (identity != 0) identity_ = identity;
    server_flags_ = facts.info.flags;
    // Whole blocks, or parts of a longer request would not be aligned.
    payload_max_ = std::min(facts.info.payload_max, block::kPayloadMaxBytes) /
                   geometry_.block_bytes * geometry_.block_bytes;
    if (payload_max_ == 0)
        return refuse(fmt::format("{} takes less at a time than one of its blocks", name_));
    base_allocation_ = facts.base_allocation;
    is_ours_ = facts.hello.has_value();
    checksums_ = facts.checksums;
    reservations_ = facts.hello && facts.hello->reservations;
    digests_ = facts.hello && facts.hello->digests;
    told_instance_ = facts.hello ? facts.hello->instance : 0;
    last_size_ = std::min(size, settings_.size_max.value_or(size));
    if (last_size_ > largest_size_) {
        largest_size_ = last_size_;
        if (!is_first && observer_ != nullptr) observer_->node_grew();
    }
    return {};
}

async::Task<std::string> Remote::serve_connection() {
    const nbd::ServerFacts& facts = connection_->facts();
    // A plain server can't tell that it was restarted: each reconnect counts as that.
    const bool same_instance = facts.hello && facts.hello->instance == peer_instance_;
    std::string ended;
    async::Scope running;
    running.spawn(run_connection(ended));
    running.spawn(watch());
    bool goes_on = co_await pass_gate(same_instance);
    const bool has_cache = has_flag(nbd::kFlagSendFlush) && !geometry_.read_only;
    if (goes_on && has_cache && !has_settled_peer_) goes_on = co_await settle_peer();
    if (goes_on) {
        become(LinkEvent::accepted, "replaying what may be lost");
        if ((!same_instance || replay_wanted_) && !window_.empty()) goes_on = co_await replay();
    }
    if (goes_on && !connection_->ended() && !stopping_) become_ready();
    co_await running.join();
    if (connection_->had_wrong_checksum()) ++measures_.checksum_errors;
    co_return fenced_.empty() ? ended : fenced_;
}

/// False if the connection is not to be used: it has ended, or the node is fenced.
async::Task<bool> Remote::pass_gate(bool same_instance) {
    if (settings_.gate != nullptr && !connection_->ended()) {
        OpenVisit visit(*this, same_instance);
        const Outcome<> admitted = co_await settings_.gate->admit(visit);
        // What a visit saw of a connection that broke is no judgement.
        const bool is_judged = !connection_->ended() && !stopping_;
        if (!admitted && is_judged) {
            if (admitted.error().code == ErrorCode::node_lost) {
                gate_said_ = admitted.error().text;
                connection_->shutdown(gate_said_.c_str());
            } else {
                fence(admitted.error().text);
            }
        }
    }
    co_return !connection_->ended() && !stopping_;
}

void Remote::fence(std::string why) {
    fenced_ = why.empty() ? "another head has it" : std::move(why);
    const Error error{ErrorCode::io_error, "the node is fenced"};
    const ByteCount dropped = forget_history(error);
    if (dropped.value() > 0)
        log::warning("{}: fenced with {} bytes of changes that may not be durable there", name_,
                     dropped.value());
    dropping_ = error;
    connection_->shutdown("fenced");
}

void Remote::become_ready() {
    replay_wanted_ = false;
    peer_instance_ = told_instance_;
    ++reconnects_;
    silent_ = false;
    flush_error_.reset();  // all is written again: the next flush may succeed
    become(LinkEvent::replayed, "connected");
    std::string told = fmt::format("{}: connected{}{}, {} sectors", name_,
                                   is_ours_ ? "" : " (plain NBD: unprotected)",
                                   checksums_ ? " with checksums" : "", geometry_.size.value());
    // Who is asked again and again how large he is has the log told once.
    if (!std::exchange(was_renewed_, false) || told != told_) log::info("{}", told);
    told_ = std::move(told);
    hold_timer_->disarm();
    while (nbd::Call* const call = waiting_.pop_front()) connection_->submit(*call);
    waiting_count_ = 0;
    if (pool_.has_waiters()) reclaim();
    window_room_.wake_all();
}

async::Task<void> Remote::run_connection(std::string& ended) {
    ended = co_await connection_->run();
    take_back_calls();
    silent_ = false;
    replay_progress_.wake_all();
    link_changes_.wake_all();
    window_room_.wake_all();
}

/// What was not answered waits again, in front of what came later.
void Remote::take_back_calls() {
    List<nbd::Call, nbd::CallTag> back;
    while (nbd::Call* const call = connection_->unanswered().pop_front()) {
        if (call->is_ping()) {
            ping_->is_out = false;
            continue;
        }
        auto& pending = static_cast<Pending&>(*call);
        if (pending.ends_with_connection) {
            pending.finish(fail(ErrorCode::node_lost, "connection lost"));
            continue;
        }
        if (block::is_change(call->request.op) && static_cast<Change&>(pending).is_replay) {
            // Still in the window, at its place.
            auto& change = static_cast<Change&>(pending);
            change.is_replay = false;
            --replays_in_flight_;
            if (dropping_) leave_window(change);
            continue;
        }
        if (dropping_ || call->request.if_connected) {
            pending.finish(std::unexpected(dropping_.value_or(kLinkLost)));
            continue;
        }
        pending.since = world_.clock.now();  // hold counts from when nobody could answer
        ++waiting_count_;
        back.push_back(*call);
    }
    back.append(waiting_);
    waiting_.append(back);
    if (stopping_)
        fail_waiting({ErrorCode::cancelled, "the node is stopped"});
    else
        arm_hold();
}

/// What an earlier life of this head left in the peer's cache is seen from now on, and nobody keeps
/// it: made durable before anything is answered, it can't be lost later. False if the connection
/// ended.
async::Task<bool> Remote::settle_peer() {
    FlushCall call(*this);
    call.request.op = block::Op::flush;
    call.ends_with_connection = true;
    connection_->submit(call);
    const Result<> done = co_await call.wait();
    if (connection_->ended() || stopping_) co_return false;
    if (!done) connection_->shutdown("what was there before can't be made durable: a flush failed");
    has_settled_peer_ = done.has_value();
    co_return has_settled_peer_;
}

/// Writes again what was answered and is not durable. False if the connection ended.
async::Task<bool> Remote::replay() {
    cut_window();
    std::size_t count = 0;
    for (Change* at = window_.front(); at != nullptr; at = window_.next(*at)) {
        while (replays_in_flight_ >= kReplaysInFlightMax && !connection_->ended())
            co_await replay_progress_.wait();
        if (connection_->ended() || stopping_) co_return false;
        at->is_replay = true;
        at->failed_replays = 0;
        ++replays_in_flight_;
        ++count;
        connection_->submit(*at);
    }
    while (replays_in_flight_ > 0 && !connection_->ended()) co_await replay_progress_.wait();
    if (connection_->ended() || stopping_) co_return false;
    replayed_ += count;
    log::info("{}: replayed {} changes that were not durable yet", name_, count);
    co_return true;
}

void Remote::replayed(Change& change, Result<> answer) {
    if (!answer && ++change.failed_replays < kReplayTries) {
        connection_->submit(change);
        return;
    }
    change.is_replay = false;
    --replays_in_flight_;
    if (change.is_unwritable) --unwritable_;
    change.is_unwritable = !answer;
    if (!answer) {
        ++unwritable_;
        change.replay_error = answer.error();
        log::error(
            "{}: sectors {}+{} were acknowledged, got lost with the peer and can't be written "
            "again ({}): reads of them and flushes fail until they can",
            name_, change.request.range.first.value(), change.request.range.count.value(),
            to_string(answer.error().code));
    }
    replay_progress_.wake_all();
}

/// Notices a peer that is connected and silent: stopped, hung, or behind a pulled cable.
async::Task<void> Remote::watch() {
    const io::Duration silence = settings_.silence_max;
    // Of a peer that was quiet before it was asked.
    const io::Duration patience = silence - std::min(silence, settings_.ping_after);
    std::optional<io::TimePoint> last_ping;
    while (!connection_->ended() && !stopping_) {
        const io::TimePoint now = world_.clock.now();
        const io::Duration quiet = now - connection_->last_received();
        const bool is_idle = connection_->idle();
        if (is_idle) idle_at_ = now;
        if (!is_ours_) {
            // Can't be asked. A slow disk looks the same, and a plain server promises nothing about
            // an old connection's requests: it is waited for.
            silent_ = now - plain_asked_since() >= silence;
        } else if (ping_->is_out && quiet >= silence && now >= ping_->sent_at + patience) {
            connection_->shutdown("silent: no answer to a ping in time");
            break;
        } else if (!ping_->is_out && is_ping_due(last_ping, is_idle)) {
            last_ping = now;
            send_ping();
        }
        io::Duration pause = settings_.ping_after;
        if (settings_.ping_each) {
            pause = std::min(pause, *settings_.ping_each);
            if (!is_idle) pause = std::min(pause, kQuietUnderLoad);
        }
        co_await io::wait_for(world_.clock, link_changes_, pause);
    }
}

/// Whoever counts on pings is to have one as soon as the link is there, and often enough, and soon
/// when requests are not answered.
bool Remote::is_ping_due(std::optional<io::TimePoint> last_ping, bool is_idle) const {
    const io::TimePoint now = world_.clock.now();
    const io::Duration quiet = now - connection_->last_received();
    if (!settings_.ping_each) return quiet >= settings_.ping_after;
    const bool has_none = link_ == LinkState::ready && !ping_->counts;
    return !last_ping || has_none || now >= *last_ping + *settings_.ping_each ||
           (!is_idle && quiet >= kQuietUnderLoad);
}

/// Since when a plain server has had something to answer and has answered nothing.
io::TimePoint Remote::plain_asked_since() const {
    return std::max(connection_->last_received(), idle_at_);
}

std::optional<io::TimePoint> Remote::silent_since() const {
    if (link_ != LinkState::ready) return std::nullopt;
    if (!is_ours_) return silent_ ? std::optional(plain_asked_since()) : std::nullopt;
    if (!ping_->is_out) return std::nullopt;
    return std::max(ping_->sent_at, connection_->last_received());
}

void Remote::send_ping() {
    ping_->is_out = true;
    ping_->sent_at = world_.clock.now();  // asked; it may have to wait for room
    ping_->counts = link_ == LinkState::ready;
    connection_->submit(*ping_);
}

}  // namespace dst::node
