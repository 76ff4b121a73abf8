#include "export/export.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace dst::exporter {

Export::Export(Settings settings, Target target, block::Account& account)
    : settings_(std::move(settings)), target_(std::move(target)), account_(account) {
    CHECK(target_.device != nullptr);
}

Export::~Export() {
    CHECK(guests_.empty());
    if (reservation_) reservation_->leave(*this);
}

Outcome<> Export::find_reservation(Reservations& all) {
    const std::uint64_t identity = target_.device->identity();
    const std::string key = identity != 0 ? fmt::format("device-{:016x}", identity)
                                          : fmt::format("export-{}", settings_.name);
    TRY(auto found, all.of(key, target_.is_lasting));
    if (found == reservation_) return {};
    if (reservation_) reservation_->leave(*this);
    reservation_ = std::move(found);
    reservation_->enter(*this);
    return {};
}

Access Export::access_of(const io::Address& peer) const {
    const Access access = exporter::access_of(settings_.access, peer);
    return access == Access::read_write && settings_.read_only ? Access::read_only : access;
}

nbd::ExportInfo Export::info(Access access) const {
    const block::Geometry geometry = target_.device->geometry();
    std::uint16_t flags = nbd::kFlagHasFlags | nbd::kFlagSendDf | nbd::kFlagSendCache;
    if (geometry.can_flush) flags |= nbd::kFlagSendFlush | nbd::kFlagSendFua;
    if (geometry.rotational) flags |= nbd::kFlagRotational;
    if (geometry.multi_connection) flags |= nbd::kFlagCanMultiConn;
    if (access == Access::read_only || geometry.read_only)
        flags |= nbd::kFlagReadOnly;
    else
        flags |= nbd::kFlagSendWriteZeroes | nbd::kFlagSendFastZero |
                 (geometry.can_trim ? nbd::kFlagSendTrim : 0);
    return {.name = settings_.name,
            .description = settings_.description,
            .size = to_bytes(geometry.size),
            .flags = flags,
            .block_min = geometry.block_bytes,
            .block_preferred = geometry.preferred_bytes,
            .payload_max = nbd::kPayloadBytesMax};
}

void Export::enter(nbd::ServerSession& session) {
    // One connection may be in only once, whatever it asks in its handshake.
    for (const Guest& guest : guests_)
        if (guest.session == &session) return;
    guests_.push_back({.session = &session, .id = {}, .instance = {}});
}

std::uint64_t Export::instance_for(const nbd::ServerSession& session) {
    const std::uint64_t now = target_.device->instance();
    for (Guest& guest : guests_) {
        if (guest.session != &session) continue;
        if (!guest.instance) guest.instance = now;
        return *guest.instance;
    }
    return now;
}

void Export::leave(nbd::ServerSession& session) {
    for (const Guest& guest : guests_)
        if (guest.session == &session && guest.id && reservation_)
            reservation_->guest_leaves(*guest.id, session);
    std::erase_if(guests_, [&](const Guest& guest) { return guest.session == &session; });
    left_.wake_all();
    if (reservation_) reservation_->has_calmed();
}

std::optional<nbd::SessionId> Export::session_of(const nbd::ServerSession& session) const {
    for (const Guest& guest : guests_)
        if (guest.session == &session) return guest.id;
    return std::nullopt;
}

/// True if there was an older session of the same owner; it is told to go.
bool Export::close_older(const nbd::SessionId& id) {
    bool found = false;
    for (const Guest& guest : guests_) {
        if (!guest.id || !nbd::is_older(*guest.id, id)) continue;
        guest.session->close("displaced by a newer session of the same head");
        found = true;
    }
    return found;
}

bool Export::has_newer(const nbd::SessionId& id) const {
    return std::any_of(guests_.begin(), guests_.end(), [&](const Guest& guest) {
        return guest.id && nbd::is_older(id, *guest.id);
    });
}

async::Task<bool> Export::open_session(nbd::SessionId id, nbd::ServerSession& session) {
    enter(session);
    for (Guest& guest : guests_)
        if (guest.session == &session) guest.id = id;
    while (!is_closing_ && !has_newer(id) && close_older(id)) co_await left_.wait();
    const bool is_open = !is_closing_ && !has_newer(id);
    for (Guest& guest : guests_)
        if (guest.session == &session && !is_open) guest.id.reset();
    co_return is_open;
}

void Export::close(const char* reason) {
    is_closing_ = true;
    if (target_.changes != nullptr) target_.changes->wake_all();
    for (const Guest& guest : guests_) guest.session->close(reason);
    left_.wake_all();
}

async::Task<void> Export::gone() {
    while (!guests_.empty()) co_await left_.wait();
}

}  // namespace dst::exporter
