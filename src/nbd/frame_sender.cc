#include "nbd/frame_sender.h"

#include "async/run_queue.h"

namespace dst::nbd {
namespace {

/// Room for the slices of a quiet connection; doubles up to `Stream::kSlicesMax` with the load.
constexpr std::size_t kSlicesAtFirst = 64;

}  // namespace

FrameSender::FrameSender(io::Stream& stream) : stream_(stream), slices_(kSlicesAtFirst) {}

void FrameSender::push(OutgoingFrame& frame) {
    if (failed_) {
        frame.frame_done(false);
        return;
    }
    if (exclusive_ != nullptr && exclusive_ != &frame) {
        behind_.push_back(frame);
        return;
    }
    queue_.push_back(frame);
    wanted_.wake_one();
}

void FrameSender::begin_exclusive(OutgoingFrame& frame) {
    CHECK(exclusive_ == nullptr);
    exclusive_ = &frame;
}

void FrameSender::end_exclusive() {
    exclusive_ = nullptr;
    queue_.append(behind_);
    wanted_.wake_one();
}

void FrameSender::close() {
    closed_ = true;
    wanted_.wake_one();
}

async::Task<void> FrameSender::drain() {
    while (busy() && !failed_) co_await drained_.wait();
}

/// Moves the front of the queue to `sending_`, its slices to `slices_`; returns how many.
std::size_t FrameSender::gather() {
    std::size_t count = 0;
    std::size_t bytes = 0;
    while (OutgoingFrame* const frame = queue_.front()) {
        const auto more = frame->slices();
        CHECK(!more.empty() && more.size() <= kSlicesAtFirst);
        if (bytes >= kBatchBytes) break;
        if (count + more.size() > slices_.size()) {
            if (slices_.size() >= io::Stream::kSlicesMax) break;
            slices_.resize(slices_.size() * 2);
        }
        for (const io::Slice& slice : more) slices_[count++] = slice;
        bytes += frame->bytes();
        queue_.pop_front();
        sending_.push_back(*frame);
    }
    return count;
}

async::Task<Result<>> FrameSender::run() {
    while (true) {
        if (queue_.empty()) {
            drained_.wake_all();
            if (closed_) co_return Result<>{};
            co_await wanted_.wait();
            // Whatever else this turn makes ready goes along.
            co_await async::end_of_turn();
            continue;
        }
        const std::size_t count = gather();
        const auto sent = co_await io::send_all(stream_, std::span(slices_).first(count));
        if (!sent) {
            drop_all();
            co_return sent;
        }
        while (OutgoingFrame* const frame = sending_.pop_front()) frame->frame_done(true);
    }
}

void FrameSender::drop_all() {
    failed_ = true;
    while (OutgoingFrame* const frame = sending_.pop_front()) frame->frame_done(false);
    while (OutgoingFrame* const frame = queue_.pop_front()) frame->frame_done(false);
    while (OutgoingFrame* const frame = behind_.pop_front()) frame->frame_done(false);
    drained_.wake_all();
}

}  // namespace dst::nbd
