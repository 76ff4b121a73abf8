// Remote: our own commands: reservations, digests, and the visits of the gate.
#include <algorithm>

#include "base/check.h"
#include "node/remote_call.h"

namespace dst::node {

namespace {}  // namespace

/// Sends it over the connection there is now, ready or not.
async::Task<Result<>> Remote::ask_own(OwnCall& call) {
    if (stopping_) co_return fail(ErrorCode::cancelled, "the node is stopped");
    if (!connection_ || !connection_->is_running() || connection_->ended())
        co_return std::unexpected(kNoLink);
    const bool is_known =
        call.command.command == nbd::Command::dst_digest ? digests_ : reservations_;
    if (!is_known) co_return fail(ErrorCode::unsupported, "the peer does not know that command");
    connection_->submit(call);
    co_return co_await call.wait();
}

async::Task<Result<Digest>> Remote::digest(SectorRange range) {
    const ByteCount length = to_bytes(range.count);
    CHECK(length.value() > 0 && length.value() <= block::kPayloadMaxBytes);
    if (!is_ready()) co_return std::unexpected(kNoLink);
    OwnCall call(*this, {.command = nbd::Command::dst_digest,
                         .offset = to_bytes(range.first).value(),
                         .length = static_cast<std::uint32_t>(length.value())});
    CO_TRY_VOID(co_await ask_own(call));
    if (const Change* const lost = unwritable_in(range))
        co_return std::unexpected(lost->replay_error);
    co_return *call.command.digest;
}

/// A call of the reservation: one at a time.
async::Task<nbd::Ruling> Remote::ask_ruling(nbd::OwnCommand command) {
    co_await reservation_turn_.acquire();
    OwnCall call(*this, std::move(command));
    const Result<> done = co_await ask_own(call);
    reservation_turn_.release();
    co_return nbd::Ruling{.done = done,
                          .text = std::move(call.command.text),
                          .now = call.command.reservation.value_or(nbd::Reservation{})};
}

async::Task<Result<nbd::Reservation>> Remote::read_reservation() {
    if (!is_ready()) co_return std::unexpected(kNoLink);
    const nbd::Ruling told = co_await ask_ruling({.command = nbd::Command::dst_reservation});
    if (!told.done) co_return std::unexpected(told.done.error());
    co_return told.now;
}

async::Task<nbd::Ruling> Remote::claim(nbd::Claim claim) {
    CHECK(claim.takeover.count() > 0 && claim.takeover.count() <= UINT32_MAX);
    if (!is_ready()) co_return nbd::Ruling{.done = std::unexpected(kNoLink)};
    co_return co_await ask_ruling(
        {.command = nbd::Command::dst_claim,
         .offset = claim.expected,
         .length = static_cast<std::uint32_t>(claim.takeover.count()),
         .flags = claim.force ? nbd::kCommandFlagDstForce : std::uint16_t{0}});
}

async::Task<nbd::Ruling> Remote::release(std::uint64_t number) {
    if (!is_ready()) co_return nbd::Ruling{.done = std::unexpected(kNoLink)};
    co_return co_await ask_ruling({.command = nbd::Command::dst_release, .offset = number});
}

async::Task<Result<>> Remote::OpenVisit::read(SectorRange range, std::span<std::byte> into) {
    CHECK(into.size() == to_bytes(range.count).value());
    const SectorCount most = sectors_floor(ByteCount(owner_.payload_max_));
    for (SectorIndex at = range.first; at < range.end(); at = at + most) {
        if (!owner_.connection_ || owner_.connection_->ended()) co_return std::unexpected(kNoLink);
        PlainCall call(owner_);
        call.request = block::part_of({.if_connected = true, .range = range, .data = into},
                                      {at, std::min(most, range.end() - at)});
        owner_.connection_->submit(call);
        CO_TRY_VOID(co_await call.wait());
    }
    co_return Result<>{};
}

async::Task<Result<nbd::Reservation>> Remote::OpenVisit::read_reservation() {
    const nbd::Ruling told = co_await owner_.ask_ruling({.command = nbd::Command::dst_reservation});
    if (!told.done) co_return std::unexpected(told.done.error());
    co_return told.now;
}

}  // namespace dst::node
