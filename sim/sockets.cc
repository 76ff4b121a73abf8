#include "sim/sockets.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "sim/host.h"
#include "sim/life.h"
#include "sim/network.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

/// As the seam says: a port in use is tried again for 2 s.
constexpr io::Duration kPortPatience = 2s;
constexpr io::Duration kPortPause = 50ms;
/// A client whose machine has vanished is noticed after this time.
constexpr io::Duration kClientSilence = 60s;
/// TCP's first time-out for the answer to a SYN; it doubles.
constexpr io::Duration kSynRetryFirst = 1s;
/// A send that the kernel does not serve at once.
constexpr io::Duration kLateSendMax = 300us;

io::Address address_of(const Host& host, bool through_loopback, std::uint16_t port) {
    io::Address address = through_loopback ? *io::parse_address("127.0.0.1") : host.address();
    address.port = port;
    return address;
}

/// A socket that no handle was made for.
void abandon(Process& process, Socket& socket) {
    if (process.is_dying())
        process.life().remains.sockets.push_back(&socket);
    else
        socket.close();
}

}  // namespace

// Port -------------------------------------------------------------------------------------------

Port::~Port() {
    for (Socket* const socket : backlog_) socket->abort();
}

// SocketStream -----------------------------------------------------------------------------------

/// Waits for bytes, for the end, or for bad news.
class SocketStream::Receive final : public Operation, public SocketWaiter {
  public:
    Receive(SocketStream& stream, std::span<const io::Slice> into)
        : Operation(stream.process_), stream_(stream), into_(into) {}
    ~Receive() override {
        if (is_in_flight() && stream_.socket_.receiver == this) stream_.socket_.receiver = nullptr;
    }
    Receive(const Receive&) = delete;
    Receive& operator=(const Receive&) = delete;
    Result<std::size_t> await_resume() const {
        // What a call that was under way got is not given back.
        if (stream_.is_shut_down_)
            return fail(ErrorCode::cancelled, "receiving on a connection shut down");
        return result_;
    }
    void socket_changed() override {
        if (!look()) return;
        stream_.socket_.receiver = nullptr;
        complete();
    }

  private:
    void begin() override {
        if (look())
            complete();
        else
            stream_.socket_.receiver = this;
    }
    bool look() {
        Socket& socket = stream_.socket_;
        const std::size_t taken = socket.take(into_);
        if (taken == 0 && !stream_.is_shut_down_ && !socket.has_ended() && !socket.is_broken())
            return false;
        result_ = taken;
        if (taken == 0 && !socket.has_ended()) result_ = fail(ErrorCode::node_lost, "receiving");
        return true;
    }

    SocketStream& stream_;
    const std::span<const io::Slice> into_;
    Result<std::size_t> result_;
};

/// Waits for room. The bytes are read when the kernel takes them, not before.
class SocketStream::Send final : public Operation, public SocketWaiter, private Event {
  public:
    Send(SocketStream& stream, std::span<const io::Slice> from)
        : Operation(stream.process_), stream_(stream), from_(from) {}
    ~Send() override {
        if (is_in_flight() && stream_.socket_.sender == this) stream_.socket_.sender = nullptr;
    }
    Send(const Send&) = delete;
    Send& operator=(const Send&) = delete;
    Result<std::size_t> await_resume() const {
        if (stream_.is_shut_down_)
            return fail(ErrorCode::cancelled, "sending on a connection shut down");
        return result_;
    }
    void socket_changed() override {
        if (!look()) return;
        stream_.socket_.sender = nullptr;
        complete();
    }

  private:
    void begin() override {
        World& world = process().world();
        const NetworkSettings& settings = world.network().settings();
        if (settings.short_send_one_in > 0 && world.random().one_in(settings.short_send_one_in))
            most_ = world.random().between(1, 8192);
        if (settings.late_send_one_in > 0 && world.random().one_in(settings.late_send_one_in))
            arm(world.queue(), world.now() + world.random().up_to(kLateSendMax));
        else
            happen();
    }
    void happen() override {
        if (look())
            complete();
        else
            stream_.socket_.sender = this;
    }
    bool look() {
        Socket& socket = stream_.socket_;
        const std::size_t put = socket.put(from_, most_);
        if (put == 0 && !stream_.is_shut_down_ && !socket.is_broken()) return false;
        result_ = put;
        if (put == 0) result_ = fail(ErrorCode::node_lost, "sending");
        return true;
    }

    SocketStream& stream_;
    const std::span<const io::Slice> from_;
    std::size_t most_ = std::numeric_limits<std::size_t>::max();
    Result<std::size_t> result_;
};

SocketStream::SocketStream(Process& process, Socket& socket, io::Address peer)
    : process_(process), socket_(socket), peer_(peer) {
    ++process_.life().handles;
}

SocketStream::~SocketStream() {
    --process_.life().handles;
    if (process_.is_dying()) {
        process_.life().remains.sockets.push_back(&socket_);
        return;
    }
    CHECK(!is_receiving_ && !is_sending_);
    socket_.close();
}

async::Task<Result<std::size_t>> SocketStream::receive(std::span<const io::Slice> into) {
    CHECK(!is_receiving_ && !into.empty() && into.size() <= kSlicesMax);
    is_receiving_ = true;
    const auto result = co_await Receive(*this, into);
    is_receiving_ = false;
    co_return result;
}

async::Task<Result<std::size_t>> SocketStream::send(std::span<const io::Slice> from) {
    CHECK(!is_sending_ && !from.empty() && from.size() <= kSlicesMax);
    is_sending_ = true;
    const auto result = co_await Send(*this, from);
    is_sending_ = false;
    co_return result;
}

void SocketStream::shutdown() {
    if (is_shut_down_) return;
    is_shut_down_ = true;
    socket_.shut();
}

// SocketListener ---------------------------------------------------------------------------------

class AcceptOperation final : public Operation {
  public:
    AcceptOperation(Process& process, Port& port) : Operation(process), port_(&port) {}
    ~AcceptOperation() override {
        if (port_ != nullptr && port_->accepting == this) port_->accepting = nullptr;
        if (socket_ != nullptr) abandon(process(), *socket_);
    }
    AcceptOperation(const AcceptOperation&) = delete;
    AcceptOperation& operator=(const AcceptOperation&) = delete;
    /// Null if the listener was closed.
    Socket* await_resume() { return std::exchange(socket_, nullptr); }

    void look() {
        socket_ = port_->pop();
        if (socket_ == nullptr) return;
        port_->accepting = nullptr;
        complete();
    }
    /// The port is going.
    void cancel() {
        const bool has_begun = port_->accepting == this;
        port_->accepting = nullptr;
        port_ = nullptr;
        if (has_begun) complete();
    }

  private:
    void begin() override {
        if (port_ == nullptr) {
            complete();
            return;
        }
        port_->accepting = this;
        look();
    }

    Port* port_;
    Socket* socket_ = nullptr;
};

void Port::push(Socket& socket) {
    backlog_.push_back(&socket);
    if (accepting != nullptr) accepting->look();
}

Socket* Port::pop() {
    if (backlog_.empty()) return nullptr;
    Socket* const first = backlog_.front();
    backlog_.pop_front();
    return first;
}

SocketListener::SocketListener(Process& process, Port& port)
    : process_(process), port_(&port), endpoint_(port.endpoint()) {
    ++process_.life().handles;
}

SocketListener::~SocketListener() {
    CHECK(calls_ == 0 || process_.is_dying());
    --process_.life().handles;
    if (process_.is_dying() && port_ != nullptr)
        process_.life().remains.ports.push_back(port_);
    else
        close();
}

async::Task<Result<std::unique_ptr<io::Stream>>> SocketListener::accept() {
    CHECK(calls_ == 0);
    Socket* socket = nullptr;
    if (port_ != nullptr) {
        ++calls_;
        AcceptOperation operation(process_, *port_);
        accepting_ = &operation;
        socket = co_await operation;
        accepting_ = nullptr;
        --calls_;
    }
    if (port_ == nullptr) {
        if (socket != nullptr) socket->close();
        co_return fail(ErrorCode::cancelled, "accepting on a listener that is closed");
    }
    CHECK(socket != nullptr);
    socket->set_silence(kClientSilence, false);
    const Socket& far = socket->connection().client();
    co_return std::make_unique<SocketStream>(
        process_, *socket,
        address_of(far.host(), &far.host() == &socket->host(),
                   static_cast<std::uint16_t>(32768 + socket->connection().number() % 28000)));
}

void SocketListener::close() {
    if (port_ == nullptr) return;
    if (accepting_ != nullptr) accepting_->cancel();
    process_.host().close_port(*std::exchange(port_, nullptr));
}

// Sockets ----------------------------------------------------------------------------------------

/// A connection that is being made.
class Sockets::Connect final : public Operation, public io::Interrupt::Hook, private Event {
  public:
    Connect(Process& process, const io::Endpoint& endpoint, io::TimePoint deadline,
            io::Interrupt& interrupt)
        : Operation(process), endpoint_(endpoint), deadline_(deadline) {
        if (interrupt.is_raised())
            is_interrupted_ = true;
        else
            interrupt.add(*this);
    }
    ~Connect() override {
        if (socket_ != nullptr) abandon(process(), *socket_);
    }
    Connect(const Connect&) = delete;
    Connect& operator=(const Connect&) = delete;
    /// The client's socket, or why there is none.
    Result<Socket*> await_resume() {
        if (!result_) return std::unexpected(result_.error());
        return std::exchange(socket_, nullptr);
    }

  private:
    void begin() override {
        if (is_interrupted_) return give_up(ErrorCode::cancelled, "cancelled");
        server_ = process().host().resolve(endpoint_);
        if (server_ == nullptr) return give_up(ErrorCode::not_found, "there is no such host");
        try_after(io::Duration::zero());
    }
    void on_interrupt() override {
        is_interrupted_ = true;
        if (!is_in_flight() || is_submitted_only()) return;
        cancel();
        if (socket_ != nullptr) std::exchange(socket_, nullptr)->close();
        give_up(ErrorCode::cancelled, "cancelled");
    }
    [[nodiscard]] bool is_submitted_only() const {
        return static_cast<const ListHook<SubmittedTag>&>(*this).is_linked();
    }
    void try_after(io::Duration wait) {
        World& world = process().world();
        const io::TimePoint there = world.network().arrival(process().host(), *server_, 0) + wait;
        arm(world.queue(), std::min(there, deadline_));
    }
    void happen() override {
        World& world = process().world();
        if (socket_ != nullptr || is_refused_) return answer();
        if (world.now() >= deadline_) return give_up(ErrorCode::timed_out, "no answer in time");
        Host& client = process().host();
        Port* const port = server_->find_port(endpoint_);
        const bool gets_through =
            world.network().is_open(client, *server_) && world.network().is_open(*server_, client);
        if (!gets_through || (port != nullptr && port->is_full())) {
            retry_after_ = retry_after_ == io::Duration::zero() ? kSynRetryFirst : 2 * retry_after_;
            return try_after(retry_after_);
        }
        is_refused_ = port == nullptr;
        arm(world.queue(), world.network().arrival(*server_, client, 0));
        if (is_refused_) return;
        Connection& made = world.network().connect(client, *server_);
        socket_ = &made.client();
        socket_->has_user = made.server().has_user = true;
        world.trace(process().name(), "connection {}: to {}", made.number(),
                    io::to_string(port->endpoint()));
        port->push(made.server());
    }
    void answer() {
        if (is_refused_) return give_up(ErrorCode::refused, "connection refused");
        complete();
    }
    void give_up(ErrorCode code, const char* why) {
        result_ = fail(code, why);
        complete();
    }

    const io::Endpoint& endpoint_;
    const io::TimePoint deadline_;
    Host* server_ = nullptr;
    Socket* socket_ = nullptr;
    bool is_interrupted_ = false;
    bool is_refused_ = false;
    io::Duration retry_after_{};
    Result<> result_;
};

async::Task<Outcome<std::unique_ptr<io::Stream>>> Sockets::connect(io::Endpoint endpoint,
                                                                   io::TimePoint deadline,
                                                                   io::Duration silence) {
    io::Interrupt never;
    co_return co_await connect_unless(std::move(endpoint), deadline, silence, never);
}

async::Task<Outcome<std::unique_ptr<io::Stream>>> Sockets::connect_unless(
    io::Endpoint endpoint, io::TimePoint deadline, io::Duration silence, io::Interrupt& interrupt) {
    const auto connected = co_await Connect(process_, endpoint, deadline, interrupt);
    if (!connected) {
        if (connected.error().code == ErrorCode::cancelled)
            co_return refuse(ErrorCode::cancelled, "cancelled");
        co_return refuse(connected.error().code,
                         fmt::format("cannot connect to {}: {}; start the server there, or correct "
                                     "the address",
                                     io::to_string(endpoint), connected.error().what));
    }
    Socket& socket = **connected;
    socket.set_silence(silence, true);
    const Host& server = socket.connection().server().host();
    co_return std::make_unique<SocketStream>(
        process_, socket, address_of(server, &server == &process_.host(), endpoint.port));
}

async::Task<Outcome<std::unique_ptr<io::Listener>>> Sockets::listen(io::Endpoint endpoint) {
    io::Clock& clock = process_.life().clock;
    const io::TimePoint give_up = clock.now() + kPortPatience;
    co_await async::yield();
    while (true) {
        if (!process_.host().is_own(endpoint))
            co_return refuse(ErrorCode::invalid,
                             fmt::format("cannot listen on {}: cannot assign requested address; "
                                         "use an address of this machine",
                                         io::to_string(endpoint)));
        if (Port* const port = process_.host().open_port(endpoint); port != nullptr)
            co_return std::make_unique<SocketListener>(process_, *port);
        if (clock.now() >= give_up)
            co_return refuse(ErrorCode::busy,
                             fmt::format("cannot listen on {}: address already in use; end the "
                                         "program that listens there, or choose another port",
                                         io::to_string(endpoint)));
        co_await io::sleep_for(clock, kPortPause);
    }
}

}  // namespace dst::sim
