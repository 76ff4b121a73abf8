// Connection: a TCP connection as the two kernels and the wire between them have it.
//
// It keeps TCP's promises: bytes arrive in order, once, unchanged (unless a link flips bits), but
// cut anywhere. What is lost on a cut link or at a dead host is sent again, with a back-off that
// doubles; buffers are finite, so a reader who does not read stops the writer. A socket belongs to
// a kernel, not to a process: it lives on when its process is paused or dead.
//
//     put() -> |accepted| -> on the wire -> |arrived| -> take()
//              \________ not acknowledged __/
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>

#include "io/net.h"
#include "sim/byte_fifo.h"
#include "sim/event_queue.h"

namespace dst::sim {

class Connection;
class Host;
class Network;
class Pipe;
class World;

/// What waits for a socket: of a process.
class SocketWaiter {
  public:
    /// The socket may have more to say now.
    virtual void socket_changed() = 0;

  protected:
    ~SocketWaiter() = default;
};

/// One end of a connection.
class Socket {
  public:
    Socket(Connection& connection, Host& host, Pipe& out, Pipe& in)
        : connection_(connection), host_(host), out_(out), in_(in) {}
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    [[nodiscard]] Host& host() const { return host_; }
    [[nodiscard]] Connection& connection() const { return connection_; }

    // For the process that has it.

    /// Nobody acknowledging anything for so long breaks it; `bounds_unanswered`: although probes
    /// are answered, too.
    void set_silence(io::Duration silence, bool bounds_unanswered);
    /// Bytes taken; 0: there is no room. A broken socket takes nothing.
    std::size_t put(std::span<const io::Slice> from, std::size_t most);
    /// Bytes given; 0: there are none yet, or (`has_ended`) any more.
    std::size_t take(std::span<const io::Slice> into);
    [[nodiscard]] bool has_ended() const;
    [[nodiscard]] bool is_broken() const { return is_broken_; }
    /// Ends both directions; what was put is still delivered.
    void shut();
    /// The process has no handle any more: `shut`, or a reset if there is something to read.
    void close();
    /// The same, with a reset.
    void abort();

    SocketWaiter* receiver = nullptr;
    SocketWaiter* sender = nullptr;
    bool has_user = false;

    // For the connection.

    /// The connection is gone, as this end learns now. `drops`: unread bytes, too.
    void break_now(bool drops);
    /// The host has lost its power: nobody is told.
    void vanish();
    void bytes_arrived();
    void room_came() const;
    void heard();
    [[nodiscard]] bool is_shut() const { return is_shut_; }
    [[nodiscard]] bool is_gone() const { return is_gone_; }
    /// Its kernel answers with a reset whatever comes.
    [[nodiscard]] bool is_forgotten() const { return is_gone_ || is_broken_; }
    /// Nobody will ever ask anything of it.
    [[nodiscard]] bool is_done() const;

  private:
    void wake() const;
    void look_for_silence();

    Connection& connection_;
    Host& host_;
    Pipe& out_;
    Pipe& in_;
    bool is_shut_ = false;    // by its own process
    bool is_broken_ = false;  // reset, or silent for too long
    bool is_gone_ = false;    // its kernel knows nothing of it any more
    io::Duration silence_{};
    bool bounds_unanswered_ = false;
    io::TimePoint last_heard_;

    struct SilenceEvent final : Event {
        explicit SilenceEvent(Socket& watched) : socket(watched) {}
        void happen() override { socket.look_for_silence(); }
        Socket& socket;
    };
    SilenceEvent silence_event_{*this};
};

/// One direction. Offsets count bytes from the begin of the stream; its end counts as one more.
class Pipe {
  public:
    Pipe(Connection& connection, unsigned direction)
        : connection_(connection), direction_(direction) {}
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;

    [[nodiscard]] std::size_t room() const;
    void put(std::span<const std::byte> bytes);
    /// Everything that was put since goes out.
    void pump();
    void finish();
    [[nodiscard]] std::size_t readable() const;
    void take(std::span<std::byte> into);
    /// The reader has taken what it wanted: the window may have opened.
    void taken();
    [[nodiscard]] bool end_arrived() const { return has_end_ && arrived_ > accepted_; }
    [[nodiscard]] bool is_unacknowledged() const { return acked_ < end(); }
    [[nodiscard]] io::TimePoint waiting_since() const { return waiting_since_; }
    /// What the writer's kernel had is gone; what is on the wire arrives.
    void stop();
    /// What the reader has not read is gone.
    void drop_unread();

  private:
    struct Segment {
        io::TimePoint arrives;
        std::uint64_t end;
    };
    template <void (Pipe::*method)()>
    struct Happening final : Event {
        explicit Happening(Pipe& of) : pipe(of) {}
        void happen() override { (pipe.*method)(); }
        Pipe& pipe;
    };

    [[nodiscard]] std::uint64_t end() const { return accepted_ + (has_end_ ? 1 : 0); }
    void arrive();
    void lose();
    void acknowledge();
    void retry();
    void want_retry();
    void flip_a_bit(std::uint64_t from, std::uint64_t until);

    Connection& connection_;
    const unsigned direction_;
    ByteFifo bytes_;  // from read_ to accepted_
    bool has_end_ = false;
    bool is_stopped_ = false;
    bool is_lost_ = false;  // nothing gets through: `retry` will find out when it does
    std::uint64_t accepted_ = 0;
    std::uint64_t sent_ = 0;
    std::uint64_t arrived_ = 0;
    std::uint64_t acked_ = 0;
    std::uint64_t read_ = 0;
    std::deque<Segment> wire_;
    io::TimePoint last_arrival_;
    io::TimePoint waiting_since_;
    io::Duration retry_after_{};
    Happening<&Pipe::arrive> arrival_{*this};
    Happening<&Pipe::retry> retry_{*this};
};

class Connection {
  public:
    /// Established: from a client on one host to a server on another (or the same).
    Connection(Network& network, std::uint64_t number, Host& client, Host& server);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    [[nodiscard]] Socket& client() { return sockets_[0]; }
    [[nodiscard]] Socket& server() { return sockets_[1]; }
    [[nodiscard]] std::uint64_t number() const { return number_; }
    [[nodiscard]] bool is_between(const Host& a, const Host& b) const;
    [[nodiscard]] bool is_done() const;

    // Faults.

    /// Both ends get a reset, each some time.
    void reset();
    /// From now on nothing gets through (0: from client to server, 1: back), and nobody is told.
    void stall(unsigned direction) { stalled_[direction] = true; }
    void unstall() { stalled_ = {}; }
    [[nodiscard]] bool is_stalled() const { return stalled_[0] || stalled_[1]; }

    // For its parts.

    [[nodiscard]] Network& network() const { return network_; }
    [[nodiscard]] World& world() const;
    /// Bytes of that direction get through, as things are now.
    [[nodiscard]] bool is_open(unsigned direction) const;
    [[nodiscard]] Socket& writer(unsigned direction) { return sockets_[direction]; }
    [[nodiscard]] Socket& reader(unsigned direction) { return sockets_[1 - direction]; }
    [[nodiscard]] const Socket& reader(unsigned direction) const { return sockets_[1 - direction]; }
    /// A reset that `direction`'s writer sends, to its reader.
    void send_reset(unsigned direction);
    [[nodiscard]] unsigned direction_from(const Socket& socket) const {
        return &socket == &sockets_[0] ? 0 : 1;
    }
    void may_be_done();

  private:
    struct ResetEvent final : Event {
        ResetEvent(Connection& of, unsigned along) : connection(of), direction(along) {}
        void happen() override { connection.reset_arrives(direction); }
        Connection& connection;
        unsigned direction;
    };
    void reset_arrives(unsigned direction);

    Network& network_;
    const std::uint64_t number_;
    std::array<Pipe, 2> pipes_;
    std::array<Socket, 2> sockets_;
    std::array<bool, 2> stalled_{};
    std::array<ResetEvent, 2> resets_;
};

}  // namespace dst::sim
