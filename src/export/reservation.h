// Reservation: which head may change a device that several can reach (docs/protocol.md 1.6).
//
// There is one for each device, whatever exports show it. Its number grows with every change of
// holder; number and holder are durable before anybody is told of them, so a restart of this
// process neither forgets a holder nor uses a number twice. Who is connected is known from the
// exports' guests, and how long a holder is gone from the last byte that came from it: a machine
// that lost its power is as gone as one that said good-bye.
#pragma once

#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/wait.h"
#include "base/result.h"
#include "io/world.h"
#include "nbd/handshake.h"
#include "nbd/reservation.h"
#include "nbd/server_session.h"

namespace dst::exporter {

class Export;

/// What is kept of a reservation.
struct Holding {
    std::uint64_t number = 0;
    std::optional<nbd::Holder> holder{};
    std::vector<SectorCount> sizes{};  // as nbd::Reservation has them
    friend bool operator==(const Holding&, const Holding&) = default;
};

/// The rule: what a claim makes of number and holder, or why it is refused. Pure.
[[nodiscard]] std::expected<Holding, std::string> judge(const nbd::Reservation& now,
                                                        const nbd::SessionId& claimant,
                                                        const nbd::Claim& claim);

/// The file of a reservation. A text that does not prove to be one is refused.
[[nodiscard]] std::string to_text(const Holding& holding);
[[nodiscard]] std::optional<Holding> parse_holding(std::string_view text);

class Reservation {
  public:
    /// `path`: where it is kept; empty: nowhere but here. `name`: whose it is, for the log.
    Reservation(io::World& world, std::string path, std::string name, Holding kept);
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;

    [[nodiscard]] nbd::Reservation state() const;
    [[nodiscard]] const Holding& holding() const { return kept_; }
    /// May that session, or who has none, change the device?
    [[nodiscard]] bool permits(const std::optional<nbd::SessionId>& who) const {
        return !kept_.holder || (who && kept_.holder->is(who->head, who->incarnation));
    }

    /// For an open session. Granted, it is durable, the sessions of who was displaced are gone, and
    /// nobody else's change is in flight. Suspends.
    async::Task<nbd::Ruling> claim(nbd::SessionId claimant, nbd::ServerSession& session,
                                   nbd::Claim claim);
    [[nodiscard]] nbd::Ruling release(const nbd::SessionId& who, std::uint64_t number);
    /// A head is about to be told how large the device is; it may put its metadata at that end.
    /// Fails if that can't be noted, which matters only if a head has been here.
    Outcome<> note_size();

    // The exports that show the device.
    void enter(Export& shown) { exports_.push_back(&shown); }
    void leave(Export& shown);
    /// A guest of theirs goes now.
    void guest_leaves(const nbd::SessionId& id, const nbd::ServerSession& session);
    /// What a claim may wait for has changed.
    void has_calmed() { calmed_.wake_all(); }

  private:
    [[nodiscard]] bool holds(const nbd::SessionId& who) const {
        return kept_.holder && kept_.holder->is(who.head, who.incarnation);
    }
    [[nodiscard]] bool is_quiet_but_for(const nbd::SessionId& holder) const;
    void close_sessions_of(const nbd::Holder& displaced);
    [[nodiscard]] std::vector<SectorCount> sizes_now() const;
    Outcome<> keep(const Holding& holding);

    io::World& world_;
    const std::string path_;
    const std::string name_;
    Holding kept_;
    /// When the holder was last heard, as far as sessions that are gone tell.
    io::TimePoint last_heard_;
    std::vector<Export*> exports_;
    async::WaitQueue calmed_;
};

/// All of a process, by device. Outlives them.
class Reservations {
  public:
    /// `folder`: where they are kept; empty: nowhere.
    Reservations(io::World& world, std::string folder)
        : world_(world), folder_(std::move(folder)) {}

    /// That of the device with this key, which is fit to name a file. `is_kept`: it outlives this
    /// process, if there is a folder. Refuses, with a way back, where its file can't be read.
    Outcome<std::shared_ptr<Reservation>> of(const std::string& key, bool is_kept);

  private:
    io::World& world_;
    const std::string folder_;
    std::map<std::string, std::weak_ptr<Reservation>> known_;
};

}  // namespace dst::exporter
