// Export: a device shown to the network, with who may use it and who does.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/wait.h"
#include "block/buffer.h"
#include "block/device.h"
#include "block/measures.h"
#include "export/access.h"
#include "export/reservation.h"
#include "nbd/server_session.h"

namespace dst::exporter {

/// What an export shows. The device and the functions outlive the export.
struct Target {
    block::Device* device = nullptr;
    /// Why it can't be used yet; empty if it can. None: it always can.
    std::function<std::string()> obstacle;
    /// Woken when that may have changed.
    async::WaitQueue* changes = nullptr;
    /// Its content, and so its reservation, outlives this process.
    bool is_lasting = true;
};

struct Settings {
    std::string name;
    std::string description;
    std::vector<AccessRule> access;
    bool read_only = false;
};

class Export {
  public:
    /// `account` outlives it.
    Export(Settings settings, Target target, block::Account& account);
    ~Export();

    [[nodiscard]] const Settings& settings() const { return settings_; }
    [[nodiscard]] const Target& target() const { return target_; }
    [[nodiscard]] block::Account& account() const { return account_; }
    [[nodiscard]] Access access_of(const io::Address& peer) const;
    /// What a client with that access is told.
    [[nodiscard]] nbd::ExportInfo info(Access access) const;
    [[nodiscard]] std::size_t clients() const { return clients_; }
    [[nodiscard]] const block::Measures& measures() const { return measures_; }
    /// Frames of clients that did not hold what their checksum says.
    [[nodiscard]] std::uint64_t checksum_errors() const { return checksum_errors_; }

    /// Opens `session` for `id`: closes all older ones of the same owner and waits until they are
    /// gone. False if a newer one is open. Suspends.
    async::Task<bool> open_session(nbd::SessionId id, nbd::ServerSession& session);
    /// That of the device. Refuses where what is kept of it can't be read.
    Outcome<> find_reservation(Reservations& all);
    /// Null until it was found.
    [[nodiscard]] const std::shared_ptr<Reservation>& reservation() const { return reservation_; }

    /// The instance that `session` was told of, or is told of now.
    [[nodiscard]] std::uint64_t instance_for(const nbd::ServerSession& session);
    /// Nobody can get in any more; the connections of those who are in are closed.
    void close(const char* reason);
    /// Suspends until nobody is in: the requests of all connections are done. After `close`.
    async::Task<void> gone();
    [[nodiscard]] bool is_closing() const { return is_closing_; }

    /// A connection that is in, or on its way in.
    struct Guest {
        nbd::ServerSession* session = nullptr;
        std::optional<nbd::SessionId> id;
        std::optional<std::uint64_t> instance;
    };
    [[nodiscard]] const std::vector<Guest>& guests() const { return guests_; }
    /// Whose requests a connection carries; nothing if it opened no session here.
    [[nodiscard]] std::optional<nbd::SessionId> session_of(const nbd::ServerSession& session) const;

  private:
    friend class Exporter;
    friend class ServedExport;
    void enter(nbd::ServerSession& session);
    void leave(nbd::ServerSession& session);
    [[nodiscard]] bool close_older(const nbd::SessionId& id);
    [[nodiscard]] bool has_newer(const nbd::SessionId& id) const;

    const Settings settings_;
    const Target target_;
    block::Account& account_;
    bool is_closing_ = false;
    std::size_t clients_ = 0;
    block::Measures measures_;
    std::uint64_t checksum_errors_ = 0;
    std::vector<Guest> guests_;
    async::WaitQueue left_;
    std::shared_ptr<Reservation> reservation_;
};

}  // namespace dst::exporter
