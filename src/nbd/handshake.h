// What both sides of the handshake share: the values that travel in it, the private option's
// codec, and the gathering of units from a stream that is cut anywhere.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"
#include "nbd/protocol.h"

namespace dst::nbd {

/// What a server says of an export. The defaults of the block sizes are those a client should
/// assume of a server that states none (proto.md, Block size constraints).
struct ExportInfo {
    std::string name{};
    std::string description{};
    ByteCount size{};
    std::uint16_t flags = kFlagHasFlags;  // transmission flags
    std::uint32_t block_min = 512;
    std::uint32_t block_preferred = 4096;
    std::uint32_t payload_max = kPayloadBytesMax;

    friend bool operator==(const ExportInfo&, const ExportInfo&) = default;
};

struct ExportListing {
    std::string name{};
    std::string description{};

    friend bool operator==(const ExportListing&, const ExportListing&) = default;
};

/// Whose requests a connection carries. Connections that agree in all of it share one session.
struct SessionId {
    std::uint64_t head = 0;
    std::uint64_t node = 0;  // of the head's nodes; two of one head don't displace each other
    std::uint64_t incarnation = 0;
    std::uint64_t number = 0;

    friend bool operator==(const SessionId&, const SessionId&) = default;
};

/// True if both are of one head and node, so that the later displaces the earlier one.
[[nodiscard]] constexpr bool same_owner(const SessionId& a, const SessionId& b) {
    return a.head == b.head && a.node == b.node;
}
/// True if `a` is displaced by `b`: same owner, and earlier by (incarnation, number).
[[nodiscard]] constexpr bool is_older(const SessionId& a, const SessionId& b) {
    if (!same_owner(a, b)) return false;
    return a.incarnation != b.incarnation ? a.incarnation < b.incarnation : a.number < b.number;
}

/// The private option's data (docs/protocol.md).
struct Hello {
    std::string export_name{};
    bool wants_checksums = true;
    std::optional<SessionId> session{};

    friend bool operator==(const Hello&, const Hello&) = default;
};

/// The private option's answer.
struct HelloAnswer {
    bool checksums = false;  // checksummed framing; only if it was wanted
    std::uint64_t instance = 0;
    std::uint64_t identity = 0;      // 0: unknown
    std::uint32_t requests_max = 0;  // in flight, before the server stops reading; at least 1
    bool reservations = false;       // takes the commands of nbd/reservation.h
    bool digests = false;            // takes NBD_CMD_DST_DIGEST

    friend bool operator==(const HelloAnswer&, const HelloAnswer&) = default;
};

/// True if a peer's string may be an export's name: not too long, no NUL (proto.md, Conventions).
[[nodiscard]] bool is_good_name(std::string_view name);
/// A peer's text, fit for one line of a log: cut, without control characters.
[[nodiscard]] std::string printable(std::string_view text);

/// Bytes to be sent.
class Outbox {
  public:
    [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
    [[nodiscard]] bool empty() const { return bytes_.empty(); }
    void clear() { bytes_.clear(); }

    template <std::unsigned_integral T>
    Outbox& put(T value) {
        std::byte wire[sizeof(T)];
        store_be(wire, value);
        bytes_.insert(bytes_.end(), wire, wire + sizeof wire);
        return *this;
    }
    Outbox& put(std::string_view text) {
        const auto from = as_bytes(text);
        bytes_.insert(bytes_.end(), from.begin(), from.end());
        return *this;
    }
    Outbox& put_zeroes(std::size_t count) {
        bytes_.resize(bytes_.size() + count);
        return *this;
    }

  private:
    std::vector<std::byte> bytes_;
};

/// Gathers one unit after another, each of a size told before, from bytes that are cut anywhere.
class Gatherer {
  public:
    /// The next unit is `count` bytes, which are stored as they come.
    void expect(std::size_t count) { start(count, false); }
    /// The next unit is `count` bytes, which are not stored.
    void skip(std::size_t count) { start(count, true); }
    /// Takes what it can use from the front of `bytes`; returns how much that was.
    std::size_t take(std::span<const std::byte> bytes) {
        const auto taken = bytes.first(std::min(bytes.size(), missing_));
        if (!skips_) stored_.insert(stored_.end(), taken.begin(), taken.end());
        missing_ -= taken.size();
        return taken.size();
    }
    [[nodiscard]] bool complete() const { return missing_ == 0; }
    /// The unit; empty if it was skipped. Only once complete.
    [[nodiscard]] std::vector<std::byte> release() {
        CHECK(complete());
        return std::exchange(stored_, {});
    }

  private:
    void start(std::size_t count, bool skips) {
        stored_.clear();
        missing_ = count;
        skips_ = skips;
    }

    std::vector<std::byte> stored_;
    std::size_t missing_ = 0;
    bool skips_ = false;
};

// The private option (docs/protocol.md). Decoding yields `corrupt` for what is malformed.

[[nodiscard]] Result<Hello> decode_hello(std::span<const std::byte> data);
/// The data of the option, without its header. The name is good.
void put_hello(Outbox& to, const Hello& hello);
[[nodiscard]] std::size_t hello_size(const Hello& hello);
[[nodiscard]] Result<HelloAnswer> decode_hello_answer(std::span<const std::byte> data);
void put_hello_answer(Outbox& to, const HelloAnswer& answer);

}  // namespace dst::nbd
