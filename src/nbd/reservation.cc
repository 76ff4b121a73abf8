#include "nbd/reservation.h"

#include <algorithm>
#include <limits>

#include "base/bytes.h"
#include "base/check.h"

namespace dst::nbd {
namespace {

std::uint32_t told(std::chrono::milliseconds time) {
    constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(time.count(), 0, kMost));
}

}  // namespace

bool is_reservation_length(std::size_t bytes) {
    return bytes >= kReservationBytes &&
           bytes <= kReservationBytes + kReservationSizesMax * sizeof(std::uint64_t) &&
           (bytes - kReservationBytes) % sizeof(std::uint64_t) == 0;
}

std::size_t encoded_bytes(const Reservation& reservation) {
    return kReservationBytes + reservation.sizes.size() * sizeof(std::uint64_t);
}

Result<Reservation> decode_reservation(std::span<const std::byte> payload) {
    if (!is_reservation_length(payload.size()))
        return fail(ErrorCode::corrupt, "length of a reservation chunk");
    ByteReader reader(payload);
    Reservation reservation{.number = reader.take<std::uint64_t>()};
    Holder holder{.head = reader.take<std::uint64_t>(),
                  .incarnation = reader.take<std::uint64_t>(),
                  .takeover = std::chrono::milliseconds(reader.take<std::uint32_t>())};
    const std::chrono::milliseconds gone(reader.take<std::uint32_t>());
    const auto flags = reader.take<std::uint32_t>();
    for (std::size_t left = payload.size() - kReservationBytes; left > 0;
         left -= sizeof(std::uint64_t))
        reservation.sizes.push_back(SectorCount(reader.take<std::uint64_t>() / kSectorBytes));
    if ((flags & kReservationFlagHeld) == 0) return reservation;
    if (holder.takeover.count() == 0) return fail(ErrorCode::corrupt, "a holder without takeover");
    reservation.holder = holder;
    reservation.is_open = (flags & kReservationFlagOpen) != 0;
    if (!reservation.is_open) reservation.gone = gone;
    return reservation;
}

void encode_reservation(std::span<std::byte> to, const Reservation& reservation) {
    CHECK(to.size() == encoded_bytes(reservation));
    const Holder holder = reservation.holder.value_or(Holder{});
    const std::uint32_t flags = (reservation.holder ? kReservationFlagHeld : 0) |
                                (reservation.is_open ? kReservationFlagOpen : 0);
    ByteWriter writer(to);
    writer.put(reservation.number)
        .put(holder.head)
        .put(holder.incarnation)
        .put(told(holder.takeover))
        .put(told(reservation.gone))
        .put(flags);
    for (const SectorCount size : reservation.sizes) writer.put(to_bytes(size).value());
}

}  // namespace dst::nbd
