#include "sim/network.h"

#include <algorithm>

#include "base/check.h"
#include "sim/host.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

/// What a lost segment costs: the first time-out of TCP.
constexpr io::Duration kLossMin = 200ms;
constexpr io::Duration kLossMax = 400ms;

}  // namespace

Network::Network(World& world, NetworkSettings settings) : world_(world), settings_(settings) {}
Network::~Network() = default;

void Network::add_host() {
    const std::size_t count = links_.size() + 1;
    links_.resize(count);
    for (std::size_t from = 0; from < count; ++from)
        while (links_[from].size() < count)
            links_[from].push_back(
                {.settings = from == links_[from].size() ? settings_.loopback : settings_.link,
                 .is_cut = false,
                 .free_at = {}});
}

Link& Network::link(const Host& from, const Host& to) { return links_[from.index()][to.index()]; }

void Network::cut(const Host& from, const Host& to) {
    CHECK(&from != &to);
    if (!link(from, to).is_cut) world_.trace("network", "{} -> {} is cut", from.name(), to.name());
    link(from, to).is_cut = true;
}

void Network::mend(const Host& from, const Host& to) {
    if (link(from, to).is_cut) world_.trace("network", "{} -> {} is whole", from.name(), to.name());
    link(from, to).is_cut = false;
}

void Network::isolate(const Host& host) {
    for (const auto& other : world_.hosts()) {
        if (other.get() == &host) continue;
        cut(host, *other);
        cut(*other, host);
    }
}

void Network::mend_all() {
    for (const auto& from : world_.hosts())
        for (const auto& to : world_.hosts()) mend(*from, *to);
    for (const auto& connection : connections_) connection->unstall();
}

bool Network::is_open(const Host& from, const Host& to) {
    return !link(from, to).is_cut && to.has_power();
}

io::TimePoint Network::arrival(const Host& from, const Host& to, std::size_t bytes) {
    Link& along = link(from, to);
    const auto transfer =
        static_cast<io::Duration::rep>(bytes * 1'000'000'000 / along.settings.bytes_per_second);
    along.free_at = std::max(along.free_at, world_.now()) + io::Duration(transfer);
    Random& random = world_.random();
    io::TimePoint arrives =
        along.free_at + along.settings.latency + random.up_to(along.settings.jitter);
    if (random.happens(along.settings.loss)) arrives += random.between(kLossMin, kLossMax);
    return arrives;
}

Connection& Network::connect(Host& client, Host& server) {
    server.count_connection();
    connections_.push_back(
        std::make_unique<Connection>(*this, ++connections_made_, client, server));
    return *connections_.back();
}

void Network::host_lost_power(const Host& host) {
    for (const auto& connection : connections_) {
        if (&connection->client().host() == &host) connection->client().vanish();
        if (&connection->server().host() == &host) connection->server().vanish();
    }
    has_dead_ = true;
}

void Network::free_dead() {
    has_dead_ = false;
    std::erase_if(connections_, [](const auto& connection) { return connection->is_done(); });
}

}  // namespace dst::sim
