// The frame sender over a scripted stream: order and contents whatever a send takes, one call for
// all of a turn, bounds of a call, and every frame given back once.
#include "nbd/frame_sender.h"

#include <gtest/gtest.h>

#include <deque>

#include "async/scope.h"
#include "nbd/scripted_stream.h"

namespace dst::nbd {
namespace {

using async::Task;
using test::Bytes;
using test::pattern;
using test::Script;
using test::ScriptedStream;

struct TestFrame final : OutgoingFrame {
    TestFrame(std::size_t size, std::size_t parts, std::uint64_t seed)
        : bytes_of(pattern(size, seed)) {
        for (std::size_t part = 0; part < parts; ++part) {
            const std::size_t from = size * part / parts;
            slices_of.emplace_back(
                std::span(bytes_of).subspan(from, size * (part + 1) / parts - from));
        }
        set_slices(slices_of);
    }
    Bytes bytes_of;
    std::vector<io::Slice> slices_of;
    std::vector<bool> done;
    std::function<void()> when_done;

  private:
    void frame_done(bool sent) override {
        done.push_back(sent);
        if (when_done) when_done();
    }
};

class FrameSenderTest : public testing::Test {
  protected:
    async::RunQueue queue_;
    async::RunQueue::Enter enter_{queue_};
    Script script_;
    ScriptedStream stream_{script_};
    std::deque<TestFrame> frames_;
    FrameSender sender_{stream_};
    std::optional<Result<>> ended_;
    async::Scope scope_;

    static Task<void> run_sender(FrameSender& sender, std::optional<Result<>>& ended) {
        ended = co_await sender.run();
    }
    void start() { scope_.spawn(run_sender(sender_, ended_)); }
    TestFrame& push(std::size_t size, std::size_t parts = 2) {
        frames_.emplace_back(size, parts, frames_.size());
        sender_.push(frames_.back());
        return frames_.back();
    }
    Bytes all_bytes() const {
        Bytes all;
        for (const TestFrame& frame : frames_) test::append(all, frame.bytes_of);
        return all;
    }
    void expect_all_done(bool sent) {
        for (const TestFrame& frame : frames_) EXPECT_EQ(frame.done, std::vector<bool>{sent});
    }
    ~FrameSenderTest() override {
        stream_.shutdown();
        queue_.run();
    }
};

TEST_F(FrameSenderTest, what_is_pushed_in_one_turn_goes_out_in_one_send) {
    start();
    queue_.run();
    push(30);
    push(4096);
    push(16, 1);
    EXPECT_TRUE(script_.sends.empty()) << "not before the end of the turn";
    queue_.run();
    ASSERT_EQ(script_.sends.size(), 1U);
    EXPECT_EQ(script_.sends[0].slices, 5U);
    EXPECT_TRUE(script_.sent == all_bytes());
    expect_all_done(true);
    EXPECT_FALSE(sender_.busy());
}

Task<void> push_after(FrameSender& sender, TestFrame& frame, int turns) {
    for (; turns > 0; --turns) co_await async::yield();
    sender.push(frame);
}

TEST_F(FrameSenderTest, what_others_make_ready_later_in_the_turn_goes_along) {
    start();
    queue_.run();
    for (int turns = 0; turns < 4; ++turns) {
        frames_.emplace_back(100, 2, turns);
        scope_.spawn(push_after(sender_, frames_.back(), turns));
    }
    queue_.run();
    EXPECT_EQ(script_.sends.size(), 1U);
    EXPECT_TRUE(script_.sent == all_bytes());
}

TEST_F(FrameSenderTest, what_is_pushed_during_a_send_goes_out_together_after_it) {
    start();
    script_.holds_sends = true;
    push(10);
    queue_.run();
    push(20);
    push(30);
    queue_.run();
    EXPECT_TRUE(sender_.busy());
    EXPECT_TRUE(frames_[0].done.empty()) << "the kernel has not got it";
    script_.release_sends();
    queue_.run();
    ASSERT_EQ(script_.sends.size(), 2U);
    EXPECT_EQ(script_.sends[1].asked, 50U);
    expect_all_done(true);
}

TEST_F(FrameSenderTest, order_and_contents_are_right_whatever_a_send_takes) {
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    start();
    for (int round = 0; round < 200; ++round) {
        frames_.clear();
        script_.sent.clear();
        script_.send_most = test::random_cuts(random(), std::size_t{1} << (2 + random() % 14));
        const std::size_t count = 1 + random() % 90;
        for (std::size_t i = 0; i < count; ++i) push(1 + random() % 500, 1 + random() % 3);
        queue_.run();
        ASSERT_TRUE(script_.sent == all_bytes()) << "round " << round;
        expect_all_done(true);
    }
}

TEST_F(FrameSenderTest, one_send_never_has_more_slices_than_the_kernel_takes) {
    start();
    for (int i = 0; i < 900; ++i) push(8, 1 + static_cast<std::size_t>(i) % 3);
    for (int i = 0; i < 5; ++i) push(640, 64);
    queue_.run();
    EXPECT_TRUE(script_.sent == all_bytes());
    EXPECT_LE(script_.sends.size(), 4U);
    for (const auto& send : script_.sends) EXPECT_LE(send.slices, io::Stream::kSlicesMax);
    expect_all_done(true);
}

TEST_F(FrameSenderTest, who_is_in_front_does_not_wait_for_the_end_of_a_long_batch) {
    start();
    for (int i = 0; i < 6; ++i) push(512 << 10);
    queue_.run();
    EXPECT_TRUE(script_.sent == all_bytes());
    EXPECT_EQ(script_.sends.size(), 3U);
}

TEST_F(FrameSenderTest, after_an_error_each_frame_is_reported_dropped_once) {
    script_.sending_fails_after = 150;
    push(100);
    push(100);
    start();
    push(100);
    queue_.run();
    ASSERT_TRUE(ended_.has_value());
    EXPECT_FALSE(ended_->has_value());
    expect_all_done(false);
    push(100);
    EXPECT_EQ(frames_.back().done, std::vector<bool>{false}) << "later ones at once";
    EXPECT_FALSE(sender_.busy());
    queue_.run();
    expect_all_done(false);
}

TEST_F(FrameSenderTest, what_was_queued_behind_a_failing_send_is_dropped_too) {
    start();
    script_.holds_sends = true;
    push(100);
    queue_.run();
    push(100);
    push(100);
    stream_.shutdown();
    queue_.run();
    expect_all_done(false);
    ASSERT_TRUE(ended_.has_value());
}

Task<void> drain(FrameSender& sender, bool& drained) {
    co_await sender.drain();
    drained = true;
}

TEST_F(FrameSenderTest, drain_waits_for_all_and_ends_when_sending_fails) {
    start();
    bool drained = false;
    scope_.spawn(drain(sender_, drained));
    EXPECT_TRUE(drained) << "there is nothing to send";
    script_.holds_sends = true;
    push(10);
    drained = false;
    scope_.spawn(drain(sender_, drained));
    queue_.run();
    EXPECT_FALSE(drained);
    script_.release_sends();
    queue_.run();
    EXPECT_TRUE(drained);
    script_.holds_sends = true;
    push(10);
    drained = false;
    scope_.spawn(drain(sender_, drained));
    stream_.shutdown();
    queue_.run();
    EXPECT_TRUE(drained);
}

TEST_F(FrameSenderTest, close_ends_it_once_all_is_sent) {
    start();
    push(10);
    push(20);
    sender_.close();
    queue_.run();
    ASSERT_TRUE(ended_.has_value());
    EXPECT_TRUE(ended_->has_value());
    expect_all_done(true);
}

TEST_F(FrameSenderTest, a_frame_may_be_pushed_again_when_it_is_done) {
    start();
    TestFrame& frame = push(10);
    int again = 3;
    frame.when_done = [&] {
        if (again-- > 0) sender_.push(frame);
    };
    queue_.run();
    EXPECT_EQ(frame.done.size(), 4U);
    EXPECT_EQ(script_.sent.size(), 40U);
}

}  // namespace
}  // namespace dst::nbd
