// Exporter: listens, takes connections in, and finds each the export that it asks for.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "async/scope.h"
#include "block/buffer.h"
#include "export/export.h"
#include "io/world.h"
#include "nbd/server_session.h"

namespace dst::exporter {

class Exporter final : private nbd::ExportSource {
  public:
    /// Connections at a time at most; who comes then is turned away at once.
    static constexpr std::size_t kConnectionsMax = 4096;
    /// How long GO waits for a storage that is still forming (design §5).
    static constexpr std::chrono::seconds kFormingMax{30};

    /// `connections`: what receive buffers are taken from; outlives it. `reservations`: the folder
    /// where those of lasting devices are kept; empty: they last as long as the exporter.
    Exporter(io::World& world, block::Account& connections, std::string reservations = {});
    ~Exporter() override;

    /// Opens a listener; refuses with a text that names the address. Suspends.
    async::Task<Outcome<>> listen(io::Endpoint endpoint);
    [[nodiscard]] std::vector<io::Endpoint> listening() const;

    /// The export's name is new. Refuses where its reservation can't be read; but that of a device
    /// that is not ready yet is looked for when somebody asks for it.
    Outcome<> add(std::unique_ptr<Export> added);
    /// Takes an export out, so that its name is free, and closes its connections. Their requests
    /// may take as long as their device does: it must stay until `gone()`, and then be given to
    /// `forget`. Null if there is none.
    [[nodiscard]] std::unique_ptr<Export> take_out(const std::string& name);
    void forget(const Export& gone) { std::erase(leaving_, &gone); }
    [[nodiscard]] Export* find(const std::string& name) const;
    [[nodiscard]] const std::map<std::string, std::unique_ptr<Export>>& exports() const {
        return exports_;
    }

    /// No new connections; those there are answer what is in flight and end.
    void finish();
    /// What is left ends now, answered or not. Suspends until all are gone.
    async::Task<void> close();
    /// Suspends until no connection is left, or `deadline`; true in the first case.
    async::Task<bool> drained(io::TimePoint deadline);

  private:
    class Place;
    async::Task<void> accept_all(io::Listener& listener);
    async::Task<void> serve(std::unique_ptr<io::Stream> stream, block::Buffer buffer);
    std::vector<nbd::ExportListing> list(const io::Address& peer) override;
    async::Task<std::expected<std::unique_ptr<nbd::Served>, nbd::Refusal>> select(
        std::string name, nbd::ServerSession& session) override;
    async::Task<std::expected<nbd::ExportInfo, nbd::Refusal>> describe(
        std::string name, nbd::ServerSession& session) override;
    async::Task<std::expected<nbd::HelloAnswer, nbd::Refusal>> hello(
        nbd::Hello hello, nbd::ServerSession& session) override;
    async::Task<std::expected<Export*, nbd::Refusal>> usable(std::string name,
                                                             nbd::ServerSession& session);
    async::Task<std::expected<Export*, nbd::Refusal>> entered(std::string name,
                                                              nbd::ServerSession& session);

    io::World& world_;
    block::Account& connections_;
    Reservations reservations_;
    bool finishing_ = false;
    std::vector<std::unique_ptr<io::Listener>> listeners_;
    std::map<std::string, std::unique_ptr<Export>> exports_;
    std::vector<Export*> leaving_;  // taken out, and not gone yet
    std::vector<nbd::ServerSession*> sessions_;
    async::WaitQueue session_ended_;
    async::Scope accepting_;
    async::Scope serving_;  // last: its tasks use all of the above
};

}  // namespace dst::exporter
