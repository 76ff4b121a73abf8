#include "export/exporter.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace dst::exporter {

/// An export as one client has it.
class ServedExport final : public nbd::Served {
  public:
    /// The session has entered.
    ServedExport(Export& shown, nbd::ServerSession& session, Access access)
        : export_(shown),
          session_(session),
          access_(access),
          id_(shown.session_of(session)),
          instance_(shown.instance_for(session)) {
        ++export_.clients_;
    }
    ~ServedExport() override { --export_.clients_; }
    ServedExport(const ServedExport&) = delete;
    ServedExport& operator=(const ServedExport&) = delete;

    block::Device& device() override { return *export_.target_.device; }
    block::Account& account() override { return export_.account_; }
    nbd::ExportInfo info() const override { return export_.info(access_); }
    bool is_current() const override { return export_.target_.device->instance() == instance_; }

    Result<> may_change() const override {
        if (export_.reservation()->permits(id_)) return {};
        return fail(ErrorCode::not_permitted, "a head has reserved the device");
    }
    nbd::Reservation reservation() const override { return export_.reservation()->state(); }
    async::Task<nbd::Ruling> claim(nbd::Claim claim) override {
        const std::shared_ptr<Reservation> claimed = export_.reservation();
        co_return co_await claimed->claim(*id_, session_, claim);
    }
    nbd::Ruling release(std::uint64_t number) override {
        return export_.reservation()->release(*id_, number);
    }
    void has_calmed() override { export_.reservation()->has_calmed(); }
    block::Measures* measures() override { return &export_.measures_; }
    void has_wrong_checksum() override { ++export_.checksum_errors_; }

  private:
    Export& export_;
    nbd::ServerSession& session_;
    Access access_;
    std::optional<nbd::SessionId> id_;
    std::uint64_t instance_;  // of the device, as the client was told
};

Exporter::Exporter(io::World& world, block::Account& connections, std::string reservations)
    : world_(world), connections_(connections), reservations_(world, std::move(reservations)) {}

Exporter::~Exporter() = default;

async::Task<Outcome<>> Exporter::listen(io::Endpoint endpoint) {
    CO_TRY(auto listener, co_await world_.network.listen(endpoint));
    log::info("listening on {}", io::to_string(listener->endpoint()));
    listeners_.push_back(std::move(listener));
    accepting_.spawn(accept_all(*listeners_.back()));
    co_return Outcome<>{};
}

std::vector<io::Endpoint> Exporter::listening() const {
    std::vector<io::Endpoint> endpoints;
    for (const auto& listener : listeners_) endpoints.push_back(listener->endpoint());
    return endpoints;
}

async::Task<void> Exporter::accept_all(io::Listener& listener) {
    while (true) {
        auto stream = co_await listener.accept();
        if (!stream && stream.error().code == ErrorCode::cancelled) co_return;
        if (!stream) {
            log::warning("{}: accepting failed: {}", io::to_string(listener.endpoint()),
                         to_string(stream.error().code));
            continue;
        }
        if (sessions_.size() >= kConnectionsMax) {
            log::warning("{}: turned away: {} connections are open already",
                         io::to_string((*stream)->peer()), sessions_.size());
            continue;
        }
        // Here it would wait for others to go, and could not be ended.
        block::Buffer buffer = connections_.try_allocate(nbd::ReceiveBuffer::kQuietBytes);
        if (!buffer) {
            log::warning(
                "{}: turned away: there is no memory for its connection now, of {} that "
                "are open; raise 'memory'",
                io::to_string((*stream)->peer()), sessions_.size());
            continue;
        }
        serving_.spawn(serve(std::move(*stream), std::move(buffer)));
    }
}

/// A connection's place among the sessions, and in the exports that it has entered: given up when
/// its coroutine ends, or is destroyed in the middle of its work.
class Exporter::Place {
  public:
    Place(Exporter& exporter, nbd::ServerSession& session)
        : exporter_(exporter), session_(session) {
        exporter_.sessions_.push_back(&session_);
    }
    ~Place() {
        std::erase(exporter_.sessions_, &session_);
        // Only now all of its requests are done, so only now a newer session may be answered.
        for (const auto& [name, shown] : exporter_.exports_) shown->leave(session_);
        for (Export* const shown : exporter_.leaving_) shown->leave(session_);
        exporter_.session_ended_.wake_all();
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

  private:
    Exporter& exporter_;
    nbd::ServerSession& session_;
};

async::Task<void> Exporter::serve(std::unique_ptr<io::Stream> stream, block::Buffer buffer) {
    const std::string peer = io::to_string(stream->peer());
    nbd::ServerSession session(world_, std::move(stream), *this, connections_, std::move(buffer));
    const Place place(*this, session);
    co_await session.run();
    log::debug("{}: {} requests to {}: {}", peer, session.requests(),
               session.export_name().empty() ? "nothing" : session.export_name(),
               session.end_reason());
}

Outcome<> Exporter::add(std::unique_ptr<Export> added) {
    const std::string name = added->settings().name;
    const bool is_ready = !added->target().obstacle || added->target().obstacle().empty();
    if (is_ready) TRY_VOID(added->find_reservation(reservations_));
    CHECK(exports_.emplace(name, std::move(added)).second);
    return {};
}

Export* Exporter::find(const std::string& name) const {
    const auto at = exports_.find(name);
    return at == exports_.end() ? nullptr : at->second.get();
}

std::unique_ptr<Export> Exporter::take_out(const std::string& name) {
    auto taken = exports_.extract(name);
    if (taken.empty()) return nullptr;
    leaving_.push_back(taken.mapped().get());
    taken.mapped()->close("the export was removed");
    return std::move(taken.mapped());
}

void Exporter::finish() {
    finishing_ = true;
    for (const auto& listener : listeners_) listener->close();
    for (const auto& [name, shown] : exports_)
        if (shown->target().changes != nullptr) shown->target().changes->wake_all();
    for (nbd::ServerSession* const session : std::vector(sessions_))
        session->finish("the server is shutting down");
}

async::Task<void> Exporter::close() {
    finish();
    for (nbd::ServerSession* const session : std::vector(sessions_))
        session->close("the server is shutting down");
    co_await accepting_.join();
    co_await serving_.join();
    listeners_.clear();
}

async::Task<bool> Exporter::drained(io::TimePoint deadline) {
    while (!sessions_.empty())
        if (!co_await io::wait_until(world_.clock, session_ended_, deadline)) break;
    co_return sessions_.empty();
}

std::vector<nbd::ExportListing> Exporter::list(const io::Address& peer) {
    std::vector<nbd::ExportListing> listings;
    for (const auto& [name, shown] : exports_)
        if (shown->access_of(peer) != Access::none)
            listings.push_back({name, shown->settings().description});
    return listings;
}

/// The export that a client asks for, if it may have it, and once it can be used.
async::Task<std::expected<Export*, nbd::Refusal>> Exporter::usable(std::string name,
                                                                   nbd::ServerSession& session) {
    using Type = nbd::ReplyType;
    const auto no = [](Type type, std::string text) {
        return std::unexpected(nbd::Refusal{type, std::move(text)});
    };
    const io::TimePoint deadline = world_.clock.now() + kFormingMax;
    while (true) {
        // After each wait it may be gone.
        Export* const shown = find(name);
        if (shown == nullptr || shown->is_closing())
            co_return no(Type::error_unknown, fmt::format("there is no export '{}'", name));
        if (shown->access_of(session.peer()) == Access::none)
            co_return no(Type::error_policy,
                         fmt::format("{} may not use '{}'", io::to_string(session.peer()), name));
        if (finishing_) co_return no(Type::error_shutdown, "the server is shutting down");
        const std::string obstacle = shown->target().obstacle ? shown->target().obstacle() : "";
        if (obstacle.empty()) {
            if (const Outcome<> found = shown->find_reservation(reservations_); !found)
                co_return no(Type::error_shutdown, found.error().text);
            co_return shown;
        }
        const bool in_time = world_.clock.now() < deadline;
        if (!in_time || shown->target().changes == nullptr)
            co_return no(Type::error_shutdown,
                         fmt::format("'{}' is not ready: {}", name, obstacle));
        co_await io::wait_until(world_.clock, *shown->target().changes, deadline);
    }
}

/// The same, and the session is in: so the export stays. Its device is asked how large it is now.
/// (Who only asks about an export is not let in, and told what was known last.)
async::Task<std::expected<Export*, nbd::Refusal>> Exporter::entered(std::string name,
                                                                    nbd::ServerSession& session) {
    auto found = co_await usable(name, session);
    if (!found) co_return found;
    Export& shown = **found;
    shown.enter(session);
    if (const Result<> asked = co_await shown.target().device->refresh_size(); !asked)
        log::warning("export {}: its device does not say how large it is: {}", name,
                     to_string(asked.error().code));
    if (shown.is_closing())
        co_return std::unexpected(nbd::Refusal{nbd::ReplyType::error_unknown,
                                               fmt::format("there is no export '{}'", name)});
    co_return found;
}

async::Task<std::expected<std::unique_ptr<nbd::Served>, nbd::Refusal>> Exporter::select(
    std::string name, nbd::ServerSession& session) {
    auto shown = co_await entered(std::move(name), session);
    if (!shown) co_return std::unexpected(std::move(shown.error()));
    co_return std::make_unique<ServedExport>(**shown, session, (*shown)->access_of(session.peer()));
}

async::Task<std::expected<nbd::ExportInfo, nbd::Refusal>> Exporter::describe(
    std::string name, nbd::ServerSession& session) {
    auto shown = co_await usable(std::move(name), session);
    if (!shown) co_return std::unexpected(std::move(shown.error()));
    co_return (*shown)->info((*shown)->access_of(session.peer()));
}

async::Task<std::expected<nbd::HelloAnswer, nbd::Refusal>> Exporter::hello(
    nbd::Hello hello, nbd::ServerSession& session) {
    auto shown = co_await entered(hello.export_name, session);
    if (!shown) co_return std::unexpected(std::move(shown.error()));
    if (hello.session && !co_await (*shown)->open_session(*hello.session, session))
        co_return std::unexpected(
            nbd::Refusal{nbd::ReplyType::error_policy, "a newer session of this head is open"});
    const block::Device& device = *(*shown)->target().device;
    if (hello.session)
        if (Outcome<> noted = (*shown)->reservation()->note_size(); !noted)
            co_return std::unexpected(
                nbd::Refusal{nbd::ReplyType::error_shutdown, std::move(noted.error().text)});
    co_return nbd::HelloAnswer{.checksums = hello.wants_checksums,
                               .instance = (*shown)->instance_for(session),
                               .identity = device.identity(),
                               .requests_max = nbd::ServerSession::kRequestsMax,
                               .reservations = hello.session.has_value(),
                               .digests = true};
}

}  // namespace dst::exporter
