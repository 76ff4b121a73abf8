#include "sim/host.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "sim/life.h"
#include "sim/network.h"
#include "sim/world.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

/// How late the kernel may be with what a killed process had: well below the 2 s for which the
/// product tries a lock or a port again.
constexpr io::Duration kCleanUpMax = 400ms;

/// The world begins on 1 January 2026.
constexpr io::WallTime kWallBegin{std::chrono::seconds(1'767'225'600)};

enum class Bind : std::uint8_t { any, loopback, own, path };

Bind bind_of(const io::Endpoint& endpoint) {
    if (!endpoint.unix_path.empty()) return Bind::path;
    if (endpoint.host.empty() || endpoint.host == "0.0.0.0" || endpoint.host == "::")
        return Bind::any;
    const bool is_loopback =
        endpoint.host == "localhost" || endpoint.host == "::1" || endpoint.host.starts_with("127.");
    return is_loopback ? Bind::loopback : Bind::own;
}

}  // namespace

class Host::CleanUp final : public Event {
  public:
    CleanUp(Host& host, Remains remains) : host_(host), remains_(std::move(remains)) {}
    void happen() override {
        for (Socket* const socket : remains_.sockets) socket->close();
        for (Port* const port : remains_.ports) host_.close_port(*port);
        std::erase_if(host_.clean_ups_, [this](const auto& each) { return each.get() == this; });
    }

  private:
    Host& host_;
    Remains remains_;
};

Host::Host(World& world, std::string name, std::size_t index)
    : world_(world), name_(std::move(name)), index_(index) {
    CHECK(index < 254);
    address_ = *io::parse_address(fmt::format("10.0.0.{}", index + 1));
}

Host::~Host() = default;

io::Endpoint Host::endpoint(std::uint16_t port) const {
    return {.host = io::to_string(address_), .port = port, .unix_path = {}};
}

Disk& Host::add_disk(std::string path, DiskSettings settings) {
    CHECK(find_disk(path) == nullptr);
    disks_.push_back(std::make_unique<Disk>(*this, std::move(path), settings));
    return *disks_.back();
}

Process& Host::add_process(const std::string& name, Process::Main main) {
    processes_.push_back(
        std::make_unique<Process>(*this, fmt::format("{}/{}", name_, name), std::move(main)));
    return *processes_.back();
}

Disk* Host::find_disk(const std::string& path) const {
    for (const auto& disk : disks_)
        if (disk->path() == path) return disk.get();
    return nullptr;
}

void Host::lose_power() {
    if (!has_power_) return;
    world_.trace(name_, "loses its power");
    has_power_ = false;
    for (const auto& process : processes_) process->lose_power();
    world_.network().host_lost_power(*this);
    clean_ups_.clear();
    ports_.clear();
    for (const auto& disk : disks_) disk->lose_power();
}

void Host::restore_power() {
    if (has_power_) return;
    world_.trace(name_, "has power again");
    has_power_ = true;
}

io::WallTime Host::wall_now() const {
    return kWallBegin + (world_.now() - EventQueue::kBegin) + wall_skew_;
}

bool Host::is_own(const io::Endpoint& endpoint) const {
    if (bind_of(endpoint) != Bind::own || endpoint.host == name_) return true;
    return io::parse_address(endpoint.host) == address_;
}

Host* Host::resolve(const io::Endpoint& endpoint) {
    if (is_own(endpoint)) return this;
    for (const auto& host : world_.hosts())
        if (host->is_own(endpoint)) return host.get();
    return nullptr;
}

Port* Host::open_port(const io::Endpoint& endpoint) {
    io::Endpoint wanted = endpoint;
    const Bind bind = bind_of(wanted);
    if (bind != Bind::path && wanted.port == 0) wanted.port = next_free_port_++;
    for (const auto& port : ports_) {
        const Bind taken = bind_of(port->endpoint());
        const bool overlaps = bind == taken || bind == Bind::any || taken == Bind::any;
        if (bind == Bind::path ? port->endpoint() == wanted
                               : overlaps && port->endpoint().port == wanted.port)
            return nullptr;
    }
    ports_.push_back(std::make_unique<Port>(*this, wanted));
    world_.trace(name_, "listens on {}", io::to_string(wanted));
    return ports_.back().get();
}

void Host::close_port(Port& port) {
    world_.trace(name_, "no longer listens on {}", io::to_string(port.endpoint()));
    std::erase_if(ports_, [&](const auto& each) { return each.get() == &port; });
}

Port* Host::find_port(const io::Endpoint& endpoint) const {
    const Bind asked = bind_of(endpoint);
    for (const auto& port : ports_) {
        const Bind bind = bind_of(port->endpoint());
        if (asked == Bind::path
                ? port->endpoint() == endpoint
                : port->endpoint().port == endpoint.port && (bind == Bind::any || bind == asked))
            return port.get();
    }
    return nullptr;
}

void Host::clean_up(Remains remains) {
    clean_ups_.push_back(std::make_unique<CleanUp>(*this, std::move(remains)));
    Event& event = *clean_ups_.back();
    const bool at_once = world_.random().one_in(2);
    event.arm(world_.queue(),
              world_.now() + (at_once ? io::Duration(0) : world_.random().up_to(kCleanUpMax)));
}

}  // namespace dst::sim
