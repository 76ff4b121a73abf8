// Storage: a device made of nodes by an algorithm.
//
// It opens its nodes, waits until all of them are there, lets the algorithm place them in their
// order, and is a device from then on: it orders overlapping requests (design §4) and hands each
// to the algorithm. Nodes that come and go afterwards are the nodes' own affair, and the
// algorithm's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "algorithm/algorithm.h"
#include "algorithm/registry.h"
#include "async/range_lock.h"
#include "async/scope.h"
#include "block/device.h"
#include "io/world.h"
#include "node/local.h"
#include "node/remote.h"

namespace dst::storage {

class Storage;

struct FilePlace {
    std::string path;
    io::CacheMode cache = io::CacheMode::direct;
};
struct MemoryPlace {
    ByteCount size;
};
/// Another storage; outlives this one.
struct StoragePlace {
    Storage* storage = nullptr;
};
struct RemotePlace {
    io::Endpoint endpoint;
    std::string export_name;
};

struct MemberSpec {
    std::variant<FilePlace, MemoryPlace, StoragePlace, RemotePlace> place;
    std::optional<SectorCount> size_max;
    /// As the tree shows it: "L: /dev/sdb".
    std::string type;
};

struct Settings {
    std::string name;
    std::string algorithm;
    algorithm::Options options;
    std::vector<MemberSpec> members;
    ByteCount replay_window{64 << 20};
    std::optional<io::Duration> hold;
};

enum class State : std::uint8_t { running, degraded, holding, waiting, fenced, stopped };
[[nodiscard]] std::string_view to_string(State state);

struct NodeStatus {
    node::Cookie cookie = 0;
    std::string type;
    SectorIndex start;
    SectorCount size;
    bool in_sync = true;
    bool connected = false;
    SectorCount stale;
    std::string reason;
    io::WallTime since;
    std::vector<std::string> flags;
};

struct StorageStatus {
    std::string name;
    std::string algorithm;
    SectorCount size;
    State state = State::stopped;
    std::string reason;
    io::WallTime since;
    std::vector<NodeStatus> nodes;
};

/// What all storages of one reactor share. Outlives them.
struct Surroundings {
    io::World world;
    block::BufferPool& pool;
    block::Account& connections;
    algorithm::Registry& registry;
    node::HeadIdentity head;
    /// The daemon is told to stop: whoever waits for nodes gives up.
    bool ending = false;
};

class Storage final : public block::Device {
  public:
    Storage(Surroundings& around, Settings settings);
    ~Storage() override;

    /// Makes the algorithm and begins to open the nodes, trying again what can't be had. Refuses an
    /// unknown algorithm or bad options; nothing has begun then.
    Outcome<> start();
    /// Waits until all nodes are there and placed. Refuses, with the text of the first node that
    /// is in the way, at `deadline` or as soon as waiting can't help. Suspends.
    async::Task<Outcome<>> formed(io::TimePoint deadline);
    /// Stops: flushes what can be until `deadline`; requests that wait fail. Nobody may send any
    /// more. It is stopped in any case; the text says what acknowledged changes were lost in doing
    /// so. Suspends. `start` may follow.
    async::Task<Outcome<>> stop(io::TimePoint deadline);
    /// A stop under way gives up what it still waits for.
    void hurry();
    /// Requests that wait for a peer fail; a stop follows.
    void abandon();
    [[nodiscard]] bool is_all_connected() const;
    [[nodiscard]] std::size_t requests_waiting() const;
    /// Opens one more node and places it; requests go on meanwhile. On refusal nothing has changed.
    /// Suspends.
    async::Task<Outcome<>> add_node(MemberSpec spec, io::TimePoint deadline);

    [[nodiscard]] const std::string& name() const { return settings_.name; }
    [[nodiscard]] const Settings& settings() const { return settings_; }
    [[nodiscard]] bool is_formed() const { return is_formed_; }
    [[nodiscard]] bool is_started() const { return algorithm_ != nullptr; }
    /// Woken whenever `is_formed` may have changed.
    [[nodiscard]] async::WaitQueue& changes() { return changes_; }
    [[nodiscard]] StorageStatus status() const;
    /// Why it can't be used, for whoever asks for it; empty if it can.
    [[nodiscard]] std::string obstacle() const;

    [[nodiscard]] block::Geometry geometry() const override;
    async::Task<Result<>> execute(block::Request& request) override;
    /// Another one, too, when a disk of its own has lost changes. (Far ones lose nothing.)
    [[nodiscard]] std::uint64_t instance() const override;
    [[nodiscard]] std::uint64_t identity() const override;

  private:
    class Member;

    async::Task<void> form();
    Outcome<> place(Member& member);
    [[nodiscard]] node::Cookie cookie_of(std::size_t place) const;
    [[nodiscard]] const Member* first_missing() const;
    [[nodiscard]] std::vector<NodeStatus> stopped_nodes() const;
    void member_lost(Member& member);
    /// What was not flushed may be lost: it is another storage to all who use it.
    void lose_changes();
    async::Task<void> report_lost(Member& member);

    Surroundings& around_;
    Settings settings_;
    std::uint64_t instance_;
    bool is_stacked_ = false;  // some of its nodes are storages
    bool is_formed_ = false;
    bool stopping_ = false;
    std::string refusal_;  // why it will never form as it is
    io::WallTime since_;
    async::WaitQueue changes_;
    async::RangeLock locks_;
    std::size_t in_flight_ = 0;
    async::WaitQueue idle_;
    std::vector<std::unique_ptr<Member>> members_;
    algorithm::InstanceHandle algorithm_;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace dst::storage
