// Reservations on the wire (docs/protocol.md 1.6): who may change a device that several heads
// reach.
//
// An export's reservation has a number, which grows with every change of holder and never shrinks,
// and either a holder or none. Heads read it, claim it by comparing the number, and release it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "nbd/protocol.h"

namespace dst::nbd {

/// One life of a head, and how long it may be gone before another may take its place.
struct Holder {
    std::uint64_t head = 0;
    std::uint64_t incarnation = 0;
    std::chrono::milliseconds takeover{};

    /// Are both the same life of the same head?
    [[nodiscard]] bool is(std::uint64_t other_head, std::uint64_t other_incarnation) const {
        return head == other_head && incarnation == other_incarnation;
    }
    friend bool operator==(const Holder&, const Holder&) = default;
};

/// How many sizes of a device are remembered.
inline constexpr std::size_t kReservationSizesMax = 8;

struct Reservation {
    std::uint64_t number = 0;
    std::optional<Holder> holder{};
    /// A session of the holder is open.
    bool is_open = false;
    /// For how long none has been, as far as the exporter knows; 0 while one is, or nobody holds.
    std::chrono::milliseconds gone{};
    /// Those that the device had while heads used it, the last one last: metadata may be found at
    /// the end of each.
    std::vector<SectorCount> sizes{};

    friend bool operator==(const Reservation&, const Reservation&) = default;
};

/// What a head asks for: the reservation, if its number still is `expected`.
struct Claim {
    std::uint64_t expected = 0;
    std::chrono::milliseconds takeover{};
    /// Displace the holder, whoever it is.
    bool force = false;
};

/// What became of a claim or a release.
struct Ruling {
    /// `not_permitted`: refused, `text` says why. Another error: nobody knows whether it took
    /// place.
    Result<> done{};
    std::string text{};
    /// As it is now.
    Reservation now{};
};

/// `corrupt` for what is malformed.
[[nodiscard]] Result<Reservation> decode_reservation(std::span<const std::byte> payload);
[[nodiscard]] bool is_reservation_length(std::size_t bytes);
[[nodiscard]] std::size_t encoded_bytes(const Reservation& reservation);
/// `to` has `encoded_bytes`. Times beyond 2^32 - 1 ms are told as that.
void encode_reservation(std::span<std::byte> to, const Reservation& reservation);

}  // namespace dst::nbd
