#include "export/reservation.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "export/export.h"

namespace dst::exporter {
namespace {

using std::chrono::milliseconds;

std::string to_string(const nbd::Holder& holder) {
    return fmt::format("head {:016x} (start {})", holder.head, holder.incarnation);
}

/// The number behind `label`, up to the end of its line; `text` is what follows then.
template <typename Number>
bool take_number(std::string_view& text, std::string_view label, char end, Number& number,
                 int base = 10) {
    if (!text.starts_with(label)) return false;
    text.remove_prefix(label.size());
    const char* const last = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), last, number, base);
    if (error != std::errc() || rest == last || *rest != end) return false;
    text.remove_prefix(static_cast<std::size_t>(rest - text.data()) + 1);
    return true;
}

std::string with_checksum(std::string text) {
    text += fmt::format("crc32c {:08x}\n", crc32c(as_bytes(text)));
    return text;
}

}  // namespace

std::expected<Holding, std::string> judge(const nbd::Reservation& now,
                                          const nbd::SessionId& claimant, const nbd::Claim& claim) {
    if (claim.expected != now.number)
        return std::unexpected(
            fmt::format("the reservation has changed meanwhile: its number is {}, not {}",
                        now.number, claim.expected));
    const nbd::Holder wanted{
        .head = claimant.head, .incarnation = claimant.incarnation, .takeover = claim.takeover};
    if (now.holder && now.holder->is(wanted.head, wanted.incarnation))
        return Holding{.number = now.number, .holder = wanted};
    const bool is_own = now.holder && now.holder->head == wanted.head &&
                        now.holder->incarnation < wanted.incarnation;
    const bool is_free = !now.holder || is_own || claim.force;
    if (!is_free && now.is_open)
        return std::unexpected(fmt::format(
            "{} has it and is connected: stop that one, or use force", to_string(*now.holder)));
    if (!is_free && now.gone < now.holder->takeover)
        return std::unexpected(fmt::format(
            "{} has it and has been gone for {} ms; it may be taken over after {} ms, or by force",
            to_string(*now.holder), now.gone.count(), now.holder->takeover.count()));
    return Holding{.number = now.number + 1, .holder = wanted};
}

std::string to_text(const Holding& holding) {
    std::string text = fmt::format("dst reservation 1\nnumber {}\n", holding.number);
    if (holding.holder)
        text += fmt::format("holder {:016x} {} {}\n", holding.holder->head,
                            holding.holder->incarnation, holding.holder->takeover.count());
    for (const SectorCount size : holding.sizes) text += fmt::format("size {}\n", size.value());
    return with_checksum(std::move(text));
}

std::optional<Holding> parse_holding(std::string_view text) {
    std::string_view rest = text;
    Holding holding;
    if (!take_number(rest, "dst reservation 1\nnumber ", '\n', holding.number)) return std::nullopt;
    if (rest.starts_with("holder ")) {
        nbd::Holder holder;
        std::uint32_t takeover_ms = 0;
        if (!take_number(rest, "holder ", ' ', holder.head, 16) ||
            !take_number(rest, "", ' ', holder.incarnation) ||
            !take_number(rest, "", '\n', takeover_ms) || takeover_ms == 0)
            return std::nullopt;
        holder.takeover = milliseconds(takeover_ms);
        holding.holder = holder;
    }
    std::uint64_t sectors = 0;
    while (holding.sizes.size() < nbd::kReservationSizesMax &&
           take_number(rest, "size ", '\n', sectors))
        holding.sizes.emplace_back(sectors);
    // What is written is what it was read from, to the last byte, or it is something else.
    if (to_text(holding) != text) return std::nullopt;
    return holding;
}

Reservation::Reservation(io::World& world, std::string path, std::string name, Holding kept)
    : world_(world),
      path_(std::move(path)),
      name_(std::move(name)),
      kept_(kept),
      last_heard_(world.clock.now()) {}

nbd::Reservation Reservation::state() const {
    nbd::Reservation state{.number = kept_.number, .holder = kept_.holder, .sizes = kept_.sizes};
    if (!kept_.holder) return state;
    io::TimePoint heard = last_heard_;
    bool is_connected = false;
    for (const Export* const shown : exports_) {
        for (const Export::Guest& guest : shown->guests()) {
            if (!guest.id || !holds(*guest.id)) continue;
            is_connected |= guest.session->is_connected();
            heard = std::max(heard, guest.session->last_heard());
        }
    }
    const auto gone = std::chrono::duration_cast<milliseconds>(world_.clock.now() - heard);
    // A connection whose other end has lost its power looks open for a long time.
    state.is_open = is_connected && gone < kept_.holder->takeover;
    if (!state.is_open) state.gone = gone;
    return state;
}

async::Task<nbd::Ruling> Reservation::claim(nbd::SessionId claimant, nbd::ServerSession& session,
                                            nbd::Claim claim) {
    auto judged = judge(state(), claimant, claim);
    if (!judged)
        co_return nbd::Ruling{.done = fail(ErrorCode::not_permitted, "a claim was refused"),
                              .text = judged.error(),
                              .now = state()};
    const std::optional<nbd::Holder> before = kept_.holder;
    judged->sizes = sizes_now();
    if (*judged != kept_) {
        if (Outcome<> stored = keep(*judged); !stored)
            co_return nbd::Ruling{.done = fail(ErrorCode::io_error, "a claim can't be kept"),
                                  .text = std::move(stored.error().text),
                                  .now = state()};
    }
    // From here on nobody else's change gets in; what is in already is waited for.
    last_heard_ = world_.clock.now();
    if (!before || !before->is(claimant.head, claimant.incarnation))
        log::info("{}: reserved by {}, number {}{}", name_, to_string(*kept_.holder), kept_.number,
                  before ? fmt::format(", instead of {}", to_string(*before)) : std::string());
    if (before && !before->is(claimant.head, claimant.incarnation)) close_sessions_of(*before);
    while (session.is_connected() && holds(claimant) && !is_quiet_but_for(claimant))
        co_await calmed_.wait();
    if (!holds(claimant))
        co_return nbd::Ruling{.done = fail(ErrorCode::not_permitted, "a claim was overtaken"),
                              .text = "another head has claimed it meanwhile",
                              .now = state()};
    co_return nbd::Ruling{.done = {}, .now = state()};
}

nbd::Ruling Reservation::release(const nbd::SessionId& who, std::uint64_t number) {
    const auto refused = [this](std::string text) {
        return nbd::Ruling{.done = fail(ErrorCode::not_permitted, "a release was refused"),
                           .text = std::move(text),
                           .now = state()};
    };
    if (kept_.number != number)
        return refused(
            fmt::format("the reservation has changed meanwhile: its number is {}, not {}",
                        kept_.number, number));
    if (!holds(who))
        return refused(kept_.holder ? fmt::format("{} has it", to_string(*kept_.holder))
                                    : std::string("nobody has it"));
    const nbd::Holder before = *kept_.holder;
    if (Outcome<> stored = keep({.number = number, .sizes = sizes_now()}); !stored)
        return {.done = fail(ErrorCode::io_error, "a release can't be kept"),
                .text = std::move(stored.error().text),
                .now = state()};
    log::info("{}: released by {}, number {}", name_, to_string(before), number);
    return {.done = {}, .now = state()};
}

/// Those that are kept, and that of now.
std::vector<SectorCount> Reservation::sizes_now() const {
    std::vector<SectorCount> sizes = kept_.sizes;
    const SectorCount now =
        exports_.empty() ? SectorCount(0) : exports_.front()->target().device->geometry().size;
    if (now == SectorCount(0) || (!sizes.empty() && sizes.back() == now)) return sizes;
    std::erase(sizes, now);
    if (sizes.size() == nbd::kReservationSizesMax) sizes.erase(sizes.begin());
    sizes.push_back(now);
    return sizes;
}

Outcome<> Reservation::note_size() {
    Holding holding = kept_;
    holding.sizes = sizes_now();
    return kept_.number == 0 || holding == kept_ ? Outcome<>{} : keep(holding);
}

/// True once no session that is closed still has requests in flight, nor anybody but the holder a
/// change.
bool Reservation::is_quiet_but_for(const nbd::SessionId& holder) const {
    for (const Export* const shown : exports_) {
        for (const Export::Guest& guest : shown->guests()) {
            if (guest.id && guest.id->head == holder.head &&
                guest.id->incarnation == holder.incarnation)
                continue;
            const bool is_leaving = guest.id && !guest.session->is_connected();
            if (is_leaving || guest.session->has_changes_in_flight()) return false;
        }
    }
    return true;
}

void Reservation::close_sessions_of(const nbd::Holder& displaced) {
    for (const Export* const shown : exports_)
        for (const Export::Guest& guest : shown->guests())
            if (guest.id && displaced.is(guest.id->head, guest.id->incarnation))
                guest.session->close("displaced: another head has reserved the device");
    has_calmed();
}

Outcome<> Reservation::keep(const Holding& holding) {
    if (!path_.empty()) {
        if (Outcome<> stored = world_.files.store(path_, to_text(holding)); !stored) {
            log::error("{}: the reservation can't be kept: {}", name_, stored.error().text);
            return stored;
        }
    }
    kept_ = holding;
    return {};
}

void Reservation::leave(Export& shown) {
    std::erase(exports_, &shown);
    has_calmed();
}

void Reservation::guest_leaves(const nbd::SessionId& id, const nbd::ServerSession& session) {
    if (holds(id)) last_heard_ = std::max(last_heard_, session.last_heard());
}

Outcome<std::shared_ptr<Reservation>> Reservations::of(const std::string& key, bool is_kept) {
    std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
    if (auto known = known_[key].lock()) return known;
    const std::string path = is_kept && !folder_.empty() ? folder_ + "/" + key : std::string();
    Holding kept;
    if (!path.empty()) {
        auto text = world_.files.load(path);
        if (!text && text.error().code != ErrorCode::not_found)
            return std::unexpected(std::move(text).error());
        if (text) {
            const auto parsed = parse_holding(*text);
            if (!parsed)
                return refuse(
                    ErrorCode::corrupt,
                    fmt::format(
                        "{}: is no reservation, or is damaged: restore it from a backup, or "
                        "make sure that no head uses the device and remove it",
                        path));
            kept = *parsed;
        }
    }
    auto made = std::make_shared<Reservation>(world_, path, key, kept);
    known_[key] = made;
    return made;
}

}  // namespace dst::exporter
