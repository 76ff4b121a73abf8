// ReceiveBuffer: what has come in from a stream and is not yet used up.
//
// As much as is there is received at once, so that all requests of a batch are dispatched before
// anything else happens. Long payloads go past it, straight to where they belong. It is small while
// the connection is quiet and grows when it was filled to the brim, so that a thousand idle
// connections cost little. The small one stays at hand: growing is a matter of what memory there
// is, going on is not.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "async/task.h"
#include "base/result.h"
#include "block/buffer.h"
#include "io/net.h"

namespace dst::nbd {

class ReceiveBuffer {
  public:
    static constexpr std::size_t kQuietBytes = 16 << 10;
    static constexpr std::size_t kBusyBytes = 256 << 10;

    /// `account` outlives it. `quiet`: the buffer to begin with, of `kQuietBytes`; without one it
    /// is allocated when it is needed, and that may wait.
    explicit ReceiveBuffer(block::Account& account, block::Buffer quiet = {})
        : account_(account), quiet_(std::move(quiet)) {}

    [[nodiscard]] std::span<const std::byte> readable() const {
        return storage().subspan(begin_, end_ - begin_);
    }
    [[nodiscard]] std::size_t size() const { return end_ - begin_; }
    void consume(std::size_t bytes);

    /// Receives until at least `wanted` bytes are readable (at most `kQuietBytes`). `node_lost` if
    /// the stream ends before; `cancelled` if it ends between frames (nothing readable). Suspends
    /// unless they are there already.
    async::Task<Result<>> fill(io::Stream& stream, std::size_t wanted);
    /// Takes `into.size()` bytes out of the buffer and the stream. Suspends unless they are there.
    async::Task<Result<>> take(io::Stream& stream, std::span<std::byte> into);
    /// Takes what is there already, at most `into.size()`; returns how much.
    std::size_t take_readable(std::span<std::byte> into);
    /// Reads and drops. Suspends.
    async::Task<Result<>> skip(io::Stream& stream, std::size_t bytes);

  private:
    [[nodiscard]] std::span<std::byte> storage() const {
        return buffer_ ? buffer_.bytes() : std::span<std::byte>{};
    }
    async::Task<bool> make_room();
    void move_to(block::Buffer larger);

    block::Account& account_;
    block::Buffer quiet_;
    block::Buffer buffer_;  // that one, or a larger one
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    bool was_filled_ = false;
    unsigned quiet_fills_ = 0;
};

}  // namespace dst::nbd
