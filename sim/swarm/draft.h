// Draft: a scenario on its way. What it draws from, and what is already decided.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "sim/random.h"
#include "sim/scenario/scenario.h"

namespace dst::sim {

class Draft {
  public:
    explicit Draft(std::uint64_t seed) : random(seed) {}

    /// A device that a daemon shows and nothing uses yet.
    struct Loose {
        std::string daemon;
        std::string export_name;
        unsigned depth = 0;  // storages below it, at most
        ByteCount size;      // about: a mirror's has less
        bool is_plain = false;
    };

    template <typename T>
    [[nodiscard]] T one_of(std::initializer_list<T> choices) {
        return choices.begin()[random.below(choices.size())];
    }
    [[nodiscard]] bool one_in(std::uint64_t count) { return random.one_in(count); }
    [[nodiscard]] DaemonSpec& daemon(std::string_view name);
    [[nodiscard]] HostSpec& host(std::string_view name);
    /// How a node names what `loose` is.
    [[nodiscard]] std::string address_of(const Loose& loose);

    Random random;
    Scenario scenario;
    std::vector<Loose> loose;
    std::size_t hosts_max = 1;
    unsigned disks = 0;  // so many have a name
};

// Each adds its part, in this order.

/// Network, hosts, daemons with disks to show.
void draw_exporters(Draft& draft);
/// Daemons with storages, over what is loose; their exports are loose then.
void draw_heads(Draft& draft);
/// Somebody for everything that is loose.
void draw_clients(Draft& draft);
/// What goes wrong, as far as it is permitted (sim/faults.h).
void draw_storm(Draft& draft);

/// A new disk on that host.
const DiskSpec& draw_disk(Draft& draft, HostSpec& host);
/// A host for one more process: a new one, or one that there is.
HostSpec& draw_host(Draft& draft);
/// A daemon of that name on a host; it has a port of its own.
DaemonSpec& add_daemon(Draft& draft, std::string name);

}  // namespace dst::sim
