#include "sim/connection.h"

#include <algorithm>

#include "base/check.h"
#include "sim/host.h"
#include "sim/network.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kSegmentBytesMax = 64 << 10;
/// TCP's first time-out for an acknowledgement; it doubles up to the second.
constexpr io::Duration kRetryFirst = 200ms;
constexpr io::Duration kRetryMax = 120s;
/// The kernel gives up what no process has any more.
constexpr io::Duration kOrphanRetryMax = 30s;
/// Probes in the time of a `silence`, as the keepalive of the real sockets has them.
constexpr int kProbesPerSilence = 4;

}  // namespace

// Socket -----------------------------------------------------------------------------------------

void Socket::set_silence(io::Duration silence, bool bounds_unanswered) {
    if (silence <= io::Duration::zero()) return;
    silence_ = silence;
    bounds_unanswered_ = bounds_unanswered;
    last_heard_ = connection_.world().now();
    silence_event_.arm(connection_.world().queue(), last_heard_ + silence / kProbesPerSilence);
}

std::size_t Socket::put(std::span<const io::Slice> from, std::size_t most) {
    if (is_shut_ || is_broken_ || is_gone_) return 0;
    const std::size_t room = std::min(most, out_.room());
    std::size_t passed = 0;
    for (const io::Slice& slice : from) {
        const std::size_t part = std::min(slice.size, room - passed);
        out_.put({slice.data, part});
        passed += part;
        if (passed == room) break;
    }
    if (passed > 0) out_.pump();
    return passed;
}

std::size_t Socket::take(std::span<const io::Slice> into) {
    if (is_shut_) return 0;
    std::size_t passed = 0;
    for (const io::Slice& slice : into) {
        const std::size_t part = std::min(slice.size, in_.readable());
        if (part == 0) break;
        in_.take({slice.data, part});
        passed += part;
    }
    if (passed > 0) in_.taken();
    return passed;
}

bool Socket::has_ended() const { return in_.readable() == 0 && in_.end_arrived(); }

void Socket::wake() const {
    if (receiver != nullptr) receiver->socket_changed();
    if (sender != nullptr) sender->socket_changed();
}

void Socket::shut() {
    if (is_shut_) return;
    is_shut_ = true;
    if (!is_broken_ && !is_gone_) out_.finish();
    wake();
    connection_.may_be_done();
}

void Socket::close() {
    if (in_.readable() > 0) {
        abort();
        return;
    }
    has_user = false;
    receiver = sender = nullptr;
    shut();
    connection_.may_be_done();
}

void Socket::abort() {
    has_user = false;
    receiver = sender = nullptr;
    if (!is_broken_ && !is_gone_) {
        connection_.send_reset(connection_.direction_from(*this));
        break_now(true);
    }
    shut();
    in_.drop_unread();
    connection_.may_be_done();
}

void Socket::break_now(bool drops) {
    if (is_broken_) return;
    is_broken_ = true;
    out_.stop();
    if (drops) in_.drop_unread();
    silence_event_.cancel();
    wake();
    connection_.may_be_done();
}

void Socket::vanish() {
    is_gone_ = true;
    has_user = false;
    receiver = sender = nullptr;
    out_.stop();
    silence_event_.cancel();
}

void Socket::bytes_arrived() {
    const bool has_bytes = in_.readable() > 0;
    if (is_gone_ || is_broken_ || (is_shut_ && has_bytes)) {
        // Nobody will read this.
        in_.drop_unread();
        connection_.send_reset(connection_.direction_from(*this));
        return;
    }
    if (receiver != nullptr) receiver->socket_changed();
    connection_.may_be_done();
}

void Socket::room_came() const {
    if (sender != nullptr) sender->socket_changed();
    if (is_shut_) connection_.may_be_done();
}

void Socket::heard() { last_heard_ = connection_.world().now(); }

bool Socket::is_done() const {
    if (has_user) return false;
    return is_gone_ || is_broken_ || (is_shut_ && !out_.is_unacknowledged() && in_.end_arrived());
}

void Socket::look_for_silence() {
    World& world = connection_.world();
    const io::TimePoint now = world.now();
    const unsigned out = connection_.direction_from(*this);
    if (connection_.is_open(out) && connection_.is_open(1 - out)) {
        last_heard_ = now;
        if (connection_.reader(out).is_forgotten()) {
            break_now(false);  // the other kernel knows of no such connection, and says so
            return;
        }
    }
    const bool unanswered =
        bounds_unanswered_ && out_.is_unacknowledged() && now - out_.waiting_since() >= silence_;
    if (unanswered || now - last_heard_ >= silence_) {
        world.trace(host_.name(), "connection {}: silent for too long", connection_.number());
        break_now(false);
        return;
    }
    silence_event_.arm(world.queue(), now + silence_ / kProbesPerSilence);
}

// Pipe -------------------------------------------------------------------------------------------

std::size_t Pipe::room() const {
    const std::size_t most = connection_.network().settings().send_buffer_bytes;
    const std::uint64_t used = accepted_ - std::min(acked_, accepted_);
    return used >= most ? 0 : most - used;
}

void Pipe::put(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    if (!is_unacknowledged()) waiting_since_ = connection_.world().now();
    bytes_.put(bytes);
    accepted_ += bytes.size();
}

void Pipe::finish() {
    if (has_end_ || is_stopped_) return;
    if (!is_unacknowledged()) waiting_since_ = connection_.world().now();
    has_end_ = true;
    pump();
}

void Pipe::pump() {
    if (is_stopped_ || is_lost_ || sent_ >= end()) return;
    Network& network = connection_.network();
    const Host& from = connection_.writer(direction_).host();
    const Host& to = connection_.reader(direction_).host();
    const Rate cut = network.link(from, to).settings.cut_in_two;
    Random& random = connection_.world().random();
    const std::uint64_t window_end = read_ + network.settings().receive_buffer_bytes;
    while (sent_ < end() && sent_ < window_end) {
        std::uint64_t bytes = std::min({end() - sent_, window_end - sent_, kSegmentBytesMax});
        if (bytes > 1 && random.happens(cut)) bytes = random.between(1, bytes - 1);
        last_arrival_ = std::max(last_arrival_, network.arrival(from, to, bytes));
        sent_ += bytes;
        wire_.push_back({last_arrival_, sent_});
    }
    if (!wire_.empty() && !arrival_.is_armed())
        arrival_.arm(connection_.world().queue(), wire_.front().arrives);
}

void Pipe::arrive() {
    World& world = connection_.world();
    Socket& reader = connection_.reader(direction_);
    while (!wire_.empty() && wire_.front().arrives <= world.now()) {
        if (!connection_.is_open(direction_)) {
            lose();
            return;
        }
        const std::uint64_t from = arrived_;
        arrived_ = wire_.front().end;
        wire_.pop_front();
        flip_a_bit(from, std::min(arrived_, accepted_));
    }
    if (!wire_.empty()) arrival_.arm(world.queue(), wire_.front().arrives);
    world.trace_sink().mix(connection_.number() << 48 ^ arrived_);
    if (world.is_traced())
        world.trace(reader.host().name(), "connection {}: the {} has got {} bytes{}",
                    connection_.number(), direction_ == 0 ? "server" : "client",
                    std::min(arrived_, accepted_), end_arrived() ? " and the end" : "");
    if (!reader.is_gone()) acknowledge();
    reader.bytes_arrived();
}

void Pipe::flip_a_bit(std::uint64_t from, std::uint64_t until) {
    Network& network = connection_.network();
    const Rate flip =
        network.link(connection_.writer(direction_).host(), connection_.reader(direction_).host())
            .settings.flip;
    from = std::max(from, Network::kNeverFlippedBytes);
    Random& random = connection_.world().random();
    if (from >= until || !random.happens(flip)) return;
    const std::uint64_t at = random.between(from, until - 1);
    bytes_.at(at - read_) ^= static_cast<std::byte>(1U << random.below(8));
    connection_.world().count_flip();
    connection_.world().trace("network", "connection {}: a bit of byte {} is turned over",
                              connection_.number(), at);
}

/// What is on the wire has come to a place where it goes no further.
void Pipe::lose() {
    wire_.clear();
    sent_ = arrived_;
    last_arrival_ = connection_.world().now();
    if (is_stopped_) return;
    is_lost_ = true;
    want_retry();
}

void Pipe::want_retry() {
    if (retry_.is_armed() || is_stopped_) return;
    retry_after_ = std::clamp(2 * retry_after_, kRetryFirst, kRetryMax);
    retry_.arm(connection_.world().queue(), connection_.world().now() + retry_after_);
}

void Pipe::retry() {
    if (is_stopped_ || !is_unacknowledged()) {
        retry_after_ = {};
        return;
    }
    if (connection_.is_open(direction_)) {
        is_lost_ = false;
        if (connection_.reader(direction_).is_forgotten()) {
            connection_.send_reset(1 - direction_);
            return;
        }
        pump();
        if (connection_.is_open(1 - direction_)) {
            acknowledge();
            return;
        }
    }
    if (retry_after_ > kOrphanRetryMax && !connection_.writer(direction_).has_user) {
        connection_.writer(direction_).break_now(true);
        return;
    }
    want_retry();
}

void Pipe::acknowledge() {
    if (!connection_.is_open(1 - direction_)) {
        want_retry();
        return;
    }
    if (arrived_ == acked_) return;
    acked_ = arrived_;
    waiting_since_ = connection_.world().now();
    retry_after_ = {};
    connection_.writer(direction_).heard();
    connection_.writer(direction_).room_came();
}

std::size_t Pipe::readable() const { return std::min(arrived_, accepted_) - read_; }

void Pipe::take(std::span<std::byte> into) {
    bytes_.take(into);
    read_ += into.size();
}

void Pipe::taken() {
    if (sent_ >= end()) return;
    if (connection_.is_open(1 - direction_))
        pump();
    else
        want_retry();
}

void Pipe::stop() {
    is_stopped_ = true;
    retry_.cancel();
}

void Pipe::drop_unread() {
    const std::size_t unread = readable();
    bytes_.drop(unread);
    read_ += unread;
    // The window is as wide as ever: whatever comes is answered by a reset.
    if (unread > 0) taken();
}

// Connection -------------------------------------------------------------------------------------

Connection::Connection(Network& network, std::uint64_t number, Host& client, Host& server)
    : network_(network),
      number_(number),
      pipes_{{{*this, 0}, {*this, 1}}},
      sockets_{{{*this, client, pipes_[0], pipes_[1]}, {*this, server, pipes_[1], pipes_[0]}}},
      resets_{{{*this, 0}, {*this, 1}}} {}

World& Connection::world() const { return network_.world(); }

bool Connection::is_between(const Host& a, const Host& b) const {
    const Host* const client = &sockets_[0].host();
    const Host* const server = &sockets_[1].host();
    return (client == &a && server == &b) || (client == &b && server == &a);
}

bool Connection::is_done() const { return sockets_[0].is_done() && sockets_[1].is_done(); }

bool Connection::is_open(unsigned direction) const {
    return !stalled_[direction] &&
           network_.is_open(sockets_[direction].host(), sockets_[1 - direction].host());
}

void Connection::send_reset(unsigned direction) {
    if (resets_[direction].is_armed()) return;
    resets_[direction].arm(world().queue(),
                           network_.arrival(writer(direction).host(), reader(direction).host(), 0));
}

void Connection::reset_arrives(unsigned direction) {
    if (!is_open(direction) || reader(direction).is_gone()) return;
    world().trace(reader(direction).host().name(), "connection {}: is reset", number_);
    reader(direction).break_now(world().random().one_in(2));
}

void Connection::reset() {
    send_reset(0);
    send_reset(1);
}

void Connection::may_be_done() { network_.look_at(*this); }

}  // namespace dst::sim
