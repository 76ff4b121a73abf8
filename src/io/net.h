// The seam, part three: byte streams.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "async/task.h"
#include "base/result.h"
#include "io/address.h"
#include "io/clock.h"
#include "io/interrupt.h"
#include "io/slice.h"

namespace dst::io {

/// A connected stream. One receive and one send may be in flight at a time. Must not be destroyed
/// while one is: `shutdown()` makes both return.
class Stream {
  public:
    virtual ~Stream() = default;

    /// Receives into `into`, in order; at least one byte. 0: the peer has ended the stream.
    /// `node_lost` if the connection broke. Suspends.
    virtual async::Task<Result<std::size_t>> receive(std::span<const Slice> into) = 0;
    /// How many bytes a receive would find now; 0 if there are none, or it can't be told. Does not
    /// suspend.
    [[nodiscard]] virtual std::size_t readable() const { return 0; }
    /// Sends from the front of `from`; returns how many bytes were taken, at least one. Suspends.
    /// The bytes must stay until it returns. At most `kSlicesMax` slices.
    virtual async::Task<Result<std::size_t>> send(std::span<const Slice> from) = 0;
    /// Ends both directions at once; calls in flight return soon, with an error. Idempotent.
    virtual void shutdown() = 0;
    [[nodiscard]] virtual const Address& peer() const = 0;

    static constexpr std::size_t kSlicesMax = 1024;  // Linux: UIO_MAXIOV
};

/// Sends all of `slices`, which it uses up. Suspends.
async::Task<Result<>> send_all(Stream& stream, std::span<Slice> slices);
/// Sends all of `bytes`. Suspends.
async::Task<Result<>> send_all(Stream& stream, std::span<const std::byte> bytes);

class Listener {
  public:
    virtual ~Listener() = default;
    /// The next connection. `cancelled` after `close()`. Suspends.
    virtual async::Task<Result<std::unique_ptr<Stream>>> accept() = 0;
    /// No more connections; an accept in flight returns `cancelled`. Idempotent.
    virtual void close() = 0;
    /// Where it listens: the port is the one in use, if 0 was asked for.
    [[nodiscard]] virtual Endpoint endpoint() const = 0;
};

class Network {
  public:
    virtual ~Network() = default;
    /// Connects, giving up at `deadline`. A peer that acknowledges nothing for `silence` breaks
    /// the connection (TCP_USER_TIMEOUT and keepalive), so that a pulled cable is seen. Suspends.
    virtual async::Task<Outcome<std::unique_ptr<Stream>>> connect(Endpoint endpoint,
                                                                  TimePoint deadline,
                                                                  Duration silence) = 0;
    /// The same, given up with `cancelled` soon after `interrupt` is raised. (Without an
    /// implementation of its own it waits for `deadline`.)
    virtual async::Task<Outcome<std::unique_ptr<Stream>>> connect_unless(Endpoint endpoint,
                                                                         TimePoint deadline,
                                                                         Duration silence,
                                                                         Interrupt& interrupt);
    /// Listens. A port in use is tried again for 2 s. Suspends.
    virtual async::Task<Outcome<std::unique_ptr<Listener>>> listen(Endpoint endpoint) = 0;
    /// Takes over a stream of another reactor's network, on which no call is in flight; it was
    /// handed to this thread before. From here on it belongs to this network. Does not suspend.
    [[nodiscard]] virtual std::unique_ptr<Stream> adopt(std::unique_ptr<Stream> stream) {
        return stream;
    }
};

}  // namespace dst::io
