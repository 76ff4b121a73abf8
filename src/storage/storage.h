// Storage: a device made of nodes by an algorithm.
//
// From when it is formed it is a device: it orders overlapping requests (design §4) and hands each
// on. How it is formed, and what its nodes may do to it, is for the kinds of storages to say:
// plain.h, whose nodes hold data alone, and mirrored.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "algorithm/algorithm.h"
#include "algorithm/mirror/mirror.h"
#include "algorithm/registry.h"
#include "async/range_lock.h"
#include "async/scope.h"
#include "block/device.h"
#include "block/measures.h"
#include "io/world.h"
#include "node/local.h"
#include "node/remote.h"
#include "storage/ends.h"

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

/// Of a mirror.
struct MirrorSettings {
    mirror::Init init = mirror::Init::zero;
    mirror::Settings timing{};  // its name is the storage's
    std::chrono::milliseconds takeover{10'000};
    /// None: majority with three or more votes.
    std::optional<metadata::Quorum> quorum{};
    std::vector<MemberSpec> witnesses{};
};

struct Settings {
    std::string name;
    std::string algorithm;
    algorithm::Options options;
    std::vector<MemberSpec> members;
    ByteCount replay_window{64 << 20};
    std::optional<io::Duration> hold;
    MirrorSettings mirror{};
};

enum class State : std::uint8_t { running, degraded, holding, waiting, fenced, stopped };
[[nodiscard]] std::string_view to_string(State state);
/// "2 requests wait for ", the begin of a reason; empty if there are none.
[[nodiscard]] std::string who_waits(std::size_t requests);

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
    /// Of a mirror, since it was formed: reads that failed there and were answered by another
    /// copy, and how many of those were written again from it.
    std::uint64_t read_errors = 0;
    std::uint64_t rewritten = 0;
};

/// What was stale on nodes that are there, all of them together; the last one, if none goes on.
struct ResyncStatus {
    SectorCount done;
    SectorCount total;
    std::uint64_t bytes_per_second = 0;
};

struct StorageStatus {
    std::string name;
    std::string algorithm;
    SectorCount size;
    State state = State::stopped;
    std::string reason;
    io::WallTime since;
    std::vector<NodeStatus> nodes;
    ResyncStatus resync{};
    /// The comparison of the copies that runs, or ran last.
    std::optional<mirror::Comparison> comparison{};
};

/// What the loss of one thing would mean, as things stand.
struct Loss {
    enum class Kind : std::uint8_t {
        node,  // its disk, or who exports it
        link,  // to a host; its disks are as they were
        host,  // with all of its nodes; this one: the head, too
    };
    Kind kind = Kind::node;
    /// A node's type, or a host's name; empty: this host.
    std::string name{};
    std::vector<node::Cookie> nodes{};
    /// Requests go on, if `pause` has passed.
    bool goes_on = false;
    std::chrono::milliseconds pause{0};
    /// Why not, and what would change it.
    std::string reason{};
    /// Copies that are in sync then, of a storage that has copies.
    std::size_t copies = 0;
    /// Nowhere but on what is lost.
    SectorCount at_risk{};
    /// Copied when it is back, and to blank disks in its place (none: no disk is lost).
    SectorCount resync{};
    SectorCount whole{};
    /// Meanwhile a head that begins forms the storage by itself; else why not.
    bool starts = false;
    std::string start_reason{};
    /// The same when all is back.
    bool starts_after = false;
    std::string start_after_reason{};
};
[[nodiscard]] std::string_view to_string(Loss::Kind kind);

/// What a person has said about how a storage may be formed.
struct Overruling {
    /// What the reason of its waiting names does not count.
    bool force = false;
    /// Where sides have diverged: that of this node.
    std::optional<node::Cookie> keep{};
    /// That node's copy is the right one, whatever it lacks: the others are copied from it.
    std::optional<node::Cookie> clean{};
    /// What is there already is formed; nothing is made anew.
    bool is_there = false;
};

/// How a node that comes in is to be taken.
struct Adding {
    bool is_witness = false;
    /// Called when nothing of another storage, or of an older age, lies there any more, and before
    /// it is a node: whoever takes over after a crash in between may look there, and find nothing
    /// that contradicts the others. An error refuses it.
    std::function<Outcome<>()> note{};
    /// Whatever lies where its metadata will be is overwritten.
    bool force = false;
};

struct ResyncSettings {
    SectorCount window;
    std::chrono::milliseconds interval;  // between the worker's checks
};

/// Of a node, since the storage was started. Null: it has none of that.
struct NodeMeasures {
    node::Cookie cookie = 0;
    const node::RemoteMeasures* remote = nullptr;
    const io::FileTimes* disk = nullptr;
    std::uint64_t reconnects = 0;
    std::uint64_t replayed = 0;
};

/// Slabs of buffers (block/buffer.h) that a mirror of so many nodes can't go on without.
[[nodiscard]] std::size_t slabs_of_mirror(std::size_t nodes);

/// What all storages of one reactor share. Outlives them.
struct Surroundings {
    io::World world;
    block::BufferPool& pool;
    block::Account& connections;
    algorithm::Registry& registry;
    node::HeadIdentity head;
    Ends ends;
    /// The daemon is told to stop: whoever waits for nodes gives up.
    bool ending = false;
    /// Woken with each storage's `changes()`.
    async::WaitQueue any_change{};
};

/// A storage's changes; whoever waits for any storage's is woken with them.
class Changes final : public async::WaitQueue {
  public:
    explicit Changes(async::WaitQueue& any) : any_(any) {}
    void wake_all() {
        WaitQueue::wake_all();
        any_.wake_all();
    }

  private:
    async::WaitQueue& any_;
};

class Storage : public block::Device {
  public:
    Storage(Surroundings& around, Settings settings);
    ~Storage() override;

    /// Begins to open the nodes, trying again what can't be had. Refuses an unknown algorithm or
    /// bad options; nothing has begun then.
    virtual Outcome<> start(const Overruling& overruling = {}) = 0;
    /// Waits until it is a device. Refuses, with the text of what is in the way, at `deadline` or
    /// as soon as waiting can't help. Suspends.
    async::Task<Outcome<>> formed(io::TimePoint deadline);
    /// Stops: flushes what can be until `deadline`; requests that wait fail. Nobody may send any
    /// more. It is stopped in any case; the text says what acknowledged changes were lost in doing
    /// so. Suspends. `start` may follow.
    virtual async::Task<Outcome<>> stop(io::TimePoint deadline) = 0;
    /// A stop under way gives up what it still waits for.
    virtual void hurry() = 0;
    /// Requests that wait for a peer fail; a stop follows.
    virtual void abandon() = 0;
    [[nodiscard]] virtual bool is_all_connected() const = 0;
    [[nodiscard]] virtual std::size_t requests_waiting() const = 0;

    // Live changes: requests go on meanwhile. On refusal nothing has changed, unless it says so.
    // Most are of mirrors; other storages refuse them.

    /// Opens one more node and takes it in. Suspends.
    virtual async::Task<Outcome<>> add_node(MemberSpec spec, Adding adding,
                                            io::TimePoint deadline) = 0;
    /// Takes a node out; it keeps its data. The only one that has all of the data goes
    /// only if `force`: then another copy is declared to be right. Suspends.
    virtual async::Task<Outcome<>> remove_node(node::Cookie node, bool force,
                                               io::TimePoint deadline);
    /// A place that was configured, and is no node: it is looked at no more.
    virtual Outcome<> forget_place(const std::string& type);
    /// Takes a node out that is not in sync, and another one in. Suspends.
    virtual async::Task<Outcome<>> replace_node(node::Cookie node, MemberSpec spec, Adding adding,
                                                io::TimePoint deadline);
    /// Nothing on the node is to be trusted: all of it is copied to it anew. Done when it is out of
    /// sync, durably. `force` as in `remove_node`. Suspends.
    virtual async::Task<Outcome<>> mark_dirty(node::Cookie node, bool force,
                                              io::TimePoint deadline);
    /// The node's copy is right. Of use where no node can be had that has all of the data: then all
    /// is formed anew from this one, and what it lacks is lost. `force`: also where one can be had.
    /// Suspends.
    virtual async::Task<Outcome<>> mark_clean(node::Cookie node, bool force);
    /// Where it waits to be formed: what a person says about that.
    virtual Outcome<> overrule(const Overruling& overruling);
    /// Begins to compare the copies, and to make them equal if `repair`; `status` tells how far it
    /// is and what it found.
    virtual Outcome<> begin_comparison(bool repair);
    /// Takes the size that its nodes allow, which have grown. Requests wait meanwhile. Suspends.
    virtual async::Task<Outcome<>> grow(io::TimePoint deadline);
    virtual Outcome<> set_resync(ResyncSettings settings);
    /// While it is stopped: what it is made of at its next start. Its name and algorithm stay, and
    /// so does whoever refers to it.
    void set_settings(Settings settings);
    [[nodiscard]] virtual std::optional<ResyncSettings> resync_settings() const { return {}; }

    [[nodiscard]] const std::string& name() const { return settings_.name; }
    [[nodiscard]] const Settings& settings() const { return settings_; }
    /// It has a node that is the storage of that name.
    [[nodiscard]] bool uses(std::string_view below) const;
    [[nodiscard]] bool is_formed() const { return is_formed_; }
    [[nodiscard]] virtual bool is_started() const = 0;
    /// Woken whenever `is_formed` may have changed.
    [[nodiscard]] async::WaitQueue& changes() { return changes_; }
    [[nodiscard]] virtual StorageStatus status() const = 0;
    /// Why it can't be used, for whoever asks for it; empty if it can.
    [[nodiscard]] virtual std::string obstacle() const = 0;
    /// For each node, link and host. Of one that is formed.
    [[nodiscard]] virtual std::vector<Loss> losses() const = 0;

    async::Task<Result<>> execute(block::Request& request) final;

    /// What was asked of it, from the call to the answer; and the part of that time in which others
    /// were in the way (design §4).
    [[nodiscard]] const block::Measures& measures() const { return measures_; }
    [[nodiscard]] const block::ByOp<Latency>& queueing() const { return queueing_; }
    [[nodiscard]] virtual std::vector<NodeMeasures> node_measures() const = 0;

    /// Drawn each time it is formed, and when a disk of its own has lost changes. (Far ones lose
    /// nothing.)
    [[nodiscard]] std::uint64_t instance() const override { return instance_; }
    [[nodiscard]] std::uint64_t identity() const override;

  protected:
    [[nodiscard]] Outcome<> refuse_as_no_mirror() const;
    /// What is done with a request that is in order: as `execute`. Suspends.
    virtual async::Task<Result<>> perform(block::Request& request) = 0;
    /// Something that will never get better by itself; nothing: there is no such thing.
    [[nodiscard]] virtual std::optional<Problem> dead_end() const = 0;

    void become_formed();
    void become_unformed();
    [[nodiscard]] std::size_t held_by_pause() const { return held_; }
    /// What was not flushed may be lost: it is another instance to all who use it.
    void lose_changes();
    /// Waits until no request is under way. Suspends.
    async::Task<void> drained();
    /// The same until `deadline`; false if some are. Suspends.
    async::Task<bool> drained_until(io::TimePoint deadline);
    /// Requests that come wait, until `go_on` or for as long as `hold`. They are none under way.
    void pause() { is_paused_ = true; }
    void go_on();

    Surroundings& around_;
    Settings settings_;
    bool stopping_ = false;
    io::WallTime since_;
    Changes changes_;

  private:
    async::Task<Result<>> pause_is_over();

    std::uint64_t instance_;
    bool is_formed_ = false;
    block::Measures measures_;
    block::ByOp<Latency> queueing_;
    async::RangeLock locks_;
    std::size_t in_flight_ = 0;
    async::WaitQueue idle_;
    bool is_paused_ = false;
    std::size_t held_ = 0;  // by the pause
    async::WaitQueue unpaused_;
};

/// As its algorithm and its settings ask for.
[[nodiscard]] std::unique_ptr<Storage> make_storage(Surroundings& around, Settings settings);

/// FNV-1a: small, and the same everywhere for ever; ids must not change with the program.
[[nodiscard]] std::uint64_t stable_hash(std::string_view text);

}  // namespace dst::storage
