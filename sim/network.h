// Network: the links between hosts, the connections over them, and what is wrong with them.
//
// Hosts have addresses 10.0.0.1, 10.0.0.2 and so on, and names; a host reaches itself as 127.0.0.1,
// too. Each pair of hosts has a link in each direction, with settings of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/net.h"
#include "sim/connection.h"
#include "sim/random.h"

namespace dst::sim {

class Host;
class World;
class Port;

struct LinkSettings {
    /// One way; `jitter` is added, uniformly.
    io::Duration latency = std::chrono::microseconds(30);
    io::Duration jitter = std::chrono::microseconds(60);
    std::uint64_t bytes_per_second = 1'250'000'000;
    /// What is sent at once arrives in two pieces.
    Rate cut_in_two = percent(15);
    /// A segment comes late: it was lost and sent again.
    Rate loss{200};
    /// One bit of a segment is turned over. TCP does not see it (its checksum is weak).
    Rate flip{};
};

struct NetworkSettings {
    LinkSettings link;
    /// Within a host.
    LinkSettings loopback{.latency = std::chrono::microseconds(5),
                          .jitter = std::chrono::microseconds(10),
                          .bytes_per_second = 10'000'000'000,
                          .cut_in_two = percent(5),
                          .loss = {},
                          .flip = {}};
    /// What a socket's kernel takes before `send` waits, and what a reader's kernel keeps for it.
    std::size_t send_buffer_bytes = 256 << 10;
    std::size_t receive_buffer_bytes = 256 << 10;
    /// One send in so many takes only a part, or is served some time later.
    std::uint64_t short_send_one_in = 16;
    std::uint64_t late_send_one_in = 8;
};

struct Link {
    LinkSettings settings;
    bool is_cut = false;
    io::TimePoint free_at;
};

class Network {
  public:
    /// Bits are flipped only behind so many bytes of a stream: what is said in a handshake has no
    /// checksum in NBD, so nobody could notice.
    static constexpr std::uint64_t kNeverFlippedBytes = 4096;

    Network(World& world, NetworkSettings settings);
    ~Network();
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

    [[nodiscard]] const NetworkSettings& settings() const { return settings_; }
    [[nodiscard]] World& world() const { return world_; }
    [[nodiscard]] Link& link(const Host& from, const Host& to);

    // Faults.

    /// Nothing gets from one host to the other. Idempotent, as is `mend`.
    void cut(const Host& from, const Host& to);
    void mend(const Host& from, const Host& to);
    /// In both directions, between this host and all others.
    void isolate(const Host& host);
    void mend_all();
    [[nodiscard]] bool is_cut(const Host& from, const Host& to) { return link(from, to).is_cut; }
    /// Connections in the order in which they were made, those between processes that are gone
    /// included, until the last byte of them is.
    [[nodiscard]] std::size_t connection_count() const { return connections_.size(); }
    [[nodiscard]] Connection& connection(std::size_t at) const { return *connections_[at]; }

    // For the implementation.

    void add_host();
    [[nodiscard]] bool is_open(const Host& from, const Host& to);
    /// When `bytes` that are sent now will be there.
    [[nodiscard]] io::TimePoint arrival(const Host& from, const Host& to, std::size_t bytes);
    Connection& connect(Host& client, Host& server);
    void host_lost_power(const Host& host);
    /// The connection may be of no use to anybody: looked at after the event.
    void look_at(Connection&) { has_dead_ = true; }
    /// Between events: frees connections that are done.
    void sweep() {
        if (has_dead_) free_dead();
    }

  private:
    void free_dead();

    World& world_;
    const NetworkSettings settings_;
    std::vector<std::vector<Link>> links_;  // [from][to]
    std::vector<std::unique_ptr<Connection>> connections_;
    std::uint64_t connections_made_ = 0;
    bool has_dead_ = false;
};

}  // namespace dst::sim
