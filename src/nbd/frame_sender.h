// FrameSender: everything that is ready for a connection goes out in one call, once a turn.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "async/task.h"
#include "async/wait.h"
#include "base/list.h"
#include "base/result.h"
#include "io/net.h"

namespace dst::nbd {

struct FrameTag {};

/// A header and its payload, ready to go. What its slices point to stays until it was sent.
class OutgoingFrame : public ListHook<FrameTag> {
  public:
    [[nodiscard]] std::span<const io::Slice> slices() const { return slices_; }
    [[nodiscard]] std::size_t bytes() const { return bytes_; }

  protected:
    ~OutgoingFrame() = default;
    void set_slices(std::span<const io::Slice> slices) {
        slices_ = slices;
        bytes_ = 0;
        for (const io::Slice& slice : slices) bytes_ += slice.size;
    }

  private:
    friend class FrameSender;
    /// The kernel has all of its bytes (`sent`), or never will: the frame is its owner's again.
    /// Must not suspend.
    virtual void frame_done(bool sent) = 0;

    std::span<const io::Slice> slices_;
    std::size_t bytes_ = 0;
};

class FrameSender {
  public:
    explicit FrameSender(io::Stream& stream);

    /// Queues a frame; it goes at the end of this turn, or when the call before is through.
    void push(OutgoingFrame& frame);
    /// Until `end_exclusive` only `frame` goes out, as often as it is pushed; others wait behind.
    /// For an answer whose parts nothing may come between. One at a time.
    void begin_exclusive(OutgoingFrame& frame);
    void end_exclusive();
    /// True until a frame that was pushed has been sent.
    [[nodiscard]] bool busy() { return !queue_.empty() || !sending_.empty() || !behind_.empty(); }
    /// Suspends until nothing is left to send, or sending failed.
    async::Task<void> drain();
    /// Sends until `close()` was called and all is sent, or sending fails; drops what is left.
    /// Suspends; runs once.
    async::Task<Result<>> run();
    /// No frame comes any more.
    void close();

  private:
    /// One call takes no more than this: who waits for the front of a batch shall not wait for the
    /// end of a long one.
    static constexpr std::size_t kBatchBytes = 1 << 20;

    std::size_t gather();
    void drop_all();

    io::Stream& stream_;
    List<OutgoingFrame, FrameTag> queue_;
    List<OutgoingFrame, FrameTag> sending_;
    List<OutgoingFrame, FrameTag> behind_;  // wait for the end of an exclusive answer
    OutgoingFrame* exclusive_ = nullptr;
    std::vector<io::Slice> slices_;
    async::WaitQueue wanted_;
    async::WaitQueue drained_;
    bool closed_ = false;
    bool failed_ = false;
};

}  // namespace dst::nbd
