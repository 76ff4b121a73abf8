// For tests: a stream whose other end is a script. What comes in is cut as the script says, what
// goes out is kept, sends can be held, and either direction fails when it is told to.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <random>
#include <vector>

#include "async/wait.h"
#include "base/bytes.h"
#include "io/net.h"
#include "nbd/test_support.h"

namespace dst::nbd::test {

/// The other end. Outlives the stream.
class Script {
  public:
    // What comes in.
    void feed(std::span<const std::byte> bytes) {
        incoming_.insert(incoming_.end(), bytes.begin(), bytes.end());
        changed_.wake_all();
    }
    void end() { set(ended_); }
    /// After what was fed.
    void fail_receiving() { set(receiving_fails_); }
    /// How many bytes the next receive takes at most; at least 1. None: all that fit.
    std::function<std::size_t()> receive_most;

    // What goes out.
    /// How many bytes the next send takes at most; at least 1. None: all.
    std::function<std::size_t()> send_most;
    /// Sends take nothing until `release_sends`.
    bool holds_sends = false;
    void release_sends() {
        holds_sends = false;
        changed_.wake_all();
    }
    /// Sending fails once so many bytes were taken.
    std::optional<std::size_t> sending_fails_after;

    // What happened.
    Bytes sent;
    /// Bytes that each send was given and that it took, and how many slices it had.
    struct Send {
        std::size_t asked = 0;
        std::size_t taken = 0;
        std::size_t slices = 0;
    };
    std::vector<Send> sends;
    /// Room that each receive was given: its slices' sizes.
    std::vector<std::vector<std::size_t>> rooms;
    bool is_shut_down = false;

    /// Takes `count` bytes off the front of what was sent.
    Bytes take(std::size_t count) {
        EXPECT_GE(sent.size(), count);
        count = std::min(count, sent.size());
        Bytes front(sent.begin(), sent.begin() + static_cast<std::ptrdiff_t>(count));
        sent.erase(sent.begin(), sent.begin() + static_cast<std::ptrdiff_t>(count));
        return front;
    }
    /// Suspends until `holds()`; a failure of the test if that takes 5 s.
    template <typename Condition>
    async::Task<bool> until(io::Clock& clock, Condition holds) {
        const io::TimePoint deadline = clock.now() + std::chrono::seconds(5);
        while (!holds()) {
            if (!co_await io::wait_until(clock, changed_, deadline)) break;
        }
        EXPECT_TRUE(holds()) << "not within 5 s";
        co_return holds();
    }
    async::Task<bool> until_sent(io::Clock& clock, std::size_t count) {
        co_return co_await until(clock, [this, count] { return sent.size() >= count; });
    }
    /// For what else a test waits for with `until`.
    void notice() { changed_.wake_all(); }

  private:
    friend class ScriptedStream;
    void set(bool& flag) {
        flag = true;
        changed_.wake_all();
    }

    std::deque<std::byte> incoming_;
    bool ended_ = false;
    bool receiving_fails_ = false;
    async::WaitQueue changed_;
};

class ScriptedStream final : public io::Stream {
  public:
    explicit ScriptedStream(Script& script) : script_(script) {
        peer_ = *io::parse_address("127.0.0.1");
    }

    async::Task<Result<std::size_t>> receive(std::span<const io::Slice> into) override {
        CHECK(!receiving_);
        receiving_ = true;
        auto& rooms = script_.rooms.emplace_back();
        for (const io::Slice& slice : into) rooms.push_back(slice.size);
        while (script_.incoming_.empty() && !script_.is_shut_down && !script_.ended_ &&
               !script_.receiving_fails_)
            co_await script_.changed_.wait();
        receiving_ = false;
        if (script_.is_shut_down) co_return fail(ErrorCode::node_lost, "shut down");
        if (script_.incoming_.empty() && script_.receiving_fails_)
            co_return fail(ErrorCode::node_lost, "receiving fails");
        if (script_.incoming_.empty()) co_return std::size_t{0};
        std::size_t most = script_.receive_most ? script_.receive_most() : ~std::size_t{0};
        std::size_t received = 0;
        for (const io::Slice& slice : into) {
            const std::size_t part = std::min({slice.size, most, script_.incoming_.size()});
            const auto end = script_.incoming_.begin() + static_cast<std::ptrdiff_t>(part);
            std::copy(script_.incoming_.begin(), end, slice.data);
            script_.incoming_.erase(script_.incoming_.begin(), end);
            received += part;
            most -= part;
        }
        CHECK(received > 0);
        co_return received;
    }

    async::Task<Result<std::size_t>> send(std::span<const io::Slice> from) override {
        CHECK(!sending_ && from.size() <= kSlicesMax);
        sending_ = true;
        Script::Send call{.slices = from.size()};
        for (const io::Slice& slice : from) call.asked += slice.size;
        while (script_.holds_sends && !script_.is_shut_down) co_await script_.changed_.wait();
        sending_ = false;
        if (script_.is_shut_down) co_return fail(ErrorCode::node_lost, "shut down");
        std::size_t most = script_.send_most ? script_.send_most() : ~std::size_t{0};
        if (script_.sending_fails_after) {
            if (*script_.sending_fails_after == 0)
                co_return fail(ErrorCode::node_lost, "sending fails");
            most = std::min(most, *script_.sending_fails_after);
        }
        for (const io::Slice& slice : from) {
            const std::size_t part = std::min(slice.size, most);
            script_.sent.insert(script_.sent.end(), slice.data, slice.data + part);
            call.taken += part;
            most -= part;
        }
        if (script_.sending_fails_after) *script_.sending_fails_after -= call.taken;
        script_.sends.push_back(call);
        script_.changed_.wake_all();
        co_return call.taken;
    }

    void shutdown() override {
        script_.is_shut_down = true;
        script_.changed_.wake_all();
    }
    [[nodiscard]] const io::Address& peer() const override { return peer_; }

  private:
    Script& script_;
    io::Address peer_;
    bool receiving_ = false;
    bool sending_ = false;
};

/// Cuts of 1 to `most` bytes, from a seed.
inline std::function<std::size_t()> random_cuts(std::uint64_t seed, std::size_t most) {
    return [random = std::mt19937_64(seed), most]() mutable { return 1 + random() % most; };
}

/// Bytes that differ from place to place.
inline Bytes pattern(std::size_t size, std::uint64_t seed = 1) {
    std::mt19937_64 random(seed);
    Bytes bytes(size);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() | 1);
    return bytes;
}

inline void append(Bytes& to, std::span<const std::byte> bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
}

}  // namespace dst::nbd::test
