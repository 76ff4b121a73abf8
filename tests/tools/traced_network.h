// TracedNetwork: a network whose accepted connections tell a trace what becomes of them.
//
//   1 accepted | 1 hello answered, N changes in flight | 1 gone
//
// numbered in the order of their coming. `gone`: the stream was destroyed, and with it the session
// that owned it, so nothing can come of that connection any more.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "io/net.h"
#include "nbd/protocol.h"

namespace dst::tools {

/// Lines in a file, in the order in which things happened; written at once, so a killed process
/// loses none.
class Trace {
  public:
    explicit Trace(const std::string& path) {
        if (path.empty()) return;
        fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        CHECK(fd_ >= 0);
    }
    [[nodiscard]] bool is_on() const { return fd_ >= 0; }
    template <typename... Args>
    void line(fmt::format_string<Args...> format, Args&&... args) const {
        if (!is_on()) return;
        const std::string text = fmt::format(format, std::forward<Args>(args)...) + "\n";
        CHECK(::write(fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }

  private:
    int fd_ = -1;
};

/// What the trace of a connection needs. All of it outlives the network.
struct Tracing {
    const Trace& trace;
    const std::uint64_t& changes_in_flight;
};

class TracedStream final : public io::Stream {
  public:
    TracedStream(std::unique_ptr<io::Stream> below, Tracing tracing, unsigned number)
        : below_(std::move(below)), tracing_(tracing), number_(number) {
        tracing_.trace.line("{} accepted", number_);
    }
    ~TracedStream() override { tracing_.trace.line("{} gone", number_); }

    async::Task<Result<std::size_t>> receive(std::span<const io::Slice> into) override {
        return below_->receive(into);
    }
    async::Task<Result<std::size_t>> send(std::span<const io::Slice> from) override {
        // Handshake replies are short and come first.
        if (!has_answered_ && std::ranges::any_of(from, answers_hello)) {
            has_answered_ = true;
            tracing_.trace.line("{} hello answered, {} changes in flight", number_,
                                tracing_.changes_in_flight);
        }
        return below_->send(from);
    }
    void shutdown() override { below_->shutdown(); }
    const io::Address& peer() const override { return below_->peer(); }

  private:
    /// True if an option reply (magic, option, both big-endian) to the hello is in there.
    static bool answers_hello(const io::Slice& sent) {
        std::array<std::byte, 12> header{};
        for (std::size_t i = 0; i < 8; ++i)
            header[i] = static_cast<std::byte>(nbd::kOptionReplyMagic >> (56 - 8 * i));
        for (std::size_t i = 0; i < 4; ++i)
            header[8 + i] = static_cast<std::byte>(
                static_cast<std::uint32_t>(nbd::Option::dst_hello) >> (24 - 8 * i));
        return !std::ranges::search(std::span(sent.data, sent.size), header).empty();
    }

    std::unique_ptr<io::Stream> below_;
    Tracing tracing_;
    unsigned number_;
    bool has_answered_ = false;
};

class TracedListener final : public io::Listener {
  public:
    TracedListener(std::unique_ptr<io::Listener> below, Tracing tracing)
        : below_(std::move(below)), tracing_(tracing) {}

    async::Task<Result<std::unique_ptr<io::Stream>>> accept() override {
        CO_TRY(auto stream, co_await below_->accept());
        co_return std::make_unique<TracedStream>(std::move(stream), tracing_, ++accepted_);
    }
    void close() override { below_->close(); }
    io::Endpoint endpoint() const override { return below_->endpoint(); }

  private:
    std::unique_ptr<io::Listener> below_;
    Tracing tracing_;
    unsigned accepted_ = 0;
};

class TracedNetwork final : public io::Network {
  public:
    /// `below` outlives it.
    TracedNetwork(io::Network& below, Tracing tracing) : below_(below), tracing_(tracing) {}

    async::Task<Outcome<std::unique_ptr<io::Stream>>> connect(io::Endpoint endpoint,
                                                              io::TimePoint deadline,
                                                              io::Duration silence) override {
        return below_.connect(std::move(endpoint), deadline, silence);
    }
    async::Task<Outcome<std::unique_ptr<io::Listener>>> listen(io::Endpoint endpoint) override {
        CO_TRY(auto listener, co_await below_.listen(std::move(endpoint)));
        co_return std::make_unique<TracedListener>(std::move(listener), tracing_);
    }

  private:
    io::Network& below_;
    Tracing tracing_;
};

}  // namespace dst::tools
