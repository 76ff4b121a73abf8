// Core: what the parts of a mirror share: the nodes, the regions, who is attached, and the wish to
// know when any of it changes. Private to the mirror.
//
// All of it belongs to one reactor. After each wait anything may have changed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "algorithm/mirror/delivery.h"
#include "algorithm/mirror/node.h"
#include "algorithm/mirror/read_policy.h"
#include "algorithm/mirror/regions.h"
#include "async/scope.h"
#include "base/check.h"
#include "block/buffer.h"
#include "io/world.h"
#include "metadata/form.h"

namespace dst::mirror {

struct Settings {
    std::string name;  // of the storage, for the log
    io::Duration grace = std::chrono::seconds(5);
    io::Duration slow = std::chrono::seconds(30);
    /// How long requests wait when no copy can answer; none: for ever.
    std::optional<io::Duration> hold{};
    /// As this head claims its nodes: others take them no sooner after it was heard of last.
    io::Duration takeover = std::chrono::seconds(10);
    ReadPolicy read_policy = ReadPolicy::nearest;
    /// The resync window, and how often its worker looks when there is nothing to do.
    SectorCount resync_size{2048};
    io::Duration resync_timeout = std::chrono::milliseconds(500);
    /// Foreground requests shall not take longer than this because of a resync.
    io::Duration resync_latency = std::chrono::milliseconds(10);
};

/// Told about a mirror. Called between coroutines; must not suspend or destroy it.
class Owner {
  public:
    /// Who is attached, or what is stale, may have changed.
    virtual void mirror_changed() = 0;
    /// What was acknowledged and not flushed may be lost: no copy is left that has kept it.
    virtual void mirror_lost_changes() {}
    /// Somebody who is no node any more may hold an age of this storage, and be looked at by who
    /// takes it over: he has to be known to have come before.
    [[nodiscard]] virtual bool remembers_others() const { return false; }

  protected:
    ~Owner() = default;
};

/// Where a mirror's own buffers come from: nothing of the one waits for the other. Both outlive it.
struct Memory {
    block::Account& metadata;
    block::Account& copies;

    /// What the first should be able to have at any time, in bytes.
    [[nodiscard]] static constexpr std::size_t metadata_bytes(std::size_t nodes) {
        return (3 << 20) + nodes * (PageWriter::kBytesMax + metadata::kSuperblockBytes);
    }
    static constexpr std::size_t kCopiesBytes = 2 << 20;
};

struct Core {
    Core(io::World& of_world, Memory of_memory, metadata::Head of_head, Settings of,
         Owner& of_owner, async::Scope& of_tasks)
        : world(of_world),
          memory(of_memory),
          head(of_head),
          settings(std::move(of)),
          owner(of_owner),
          scope(of_tasks),
          deliveries(of_world.clock) {}
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;

    io::World& world;
    const Memory memory;
    const metadata::Head head;
    Settings settings;
    Owner& owner;
    /// What runs beside requests. Dies before anything that it uses does.
    async::Scope& scope;

    /// The age in force.
    FormHandle form;
    /// In the order of the table, and those that are coming in.
    std::vector<std::unique_ptr<Node>> nodes;
    /// Those that were taken out of the table. Who waits for one may still look at it.
    std::vector<std::unique_ptr<Node>> retired;
    std::unique_ptr<Regions> regions;

    /// The size of what `regions` and the nodes' writers speak of, while that of the age in force
    /// is smaller: all ages that are sent have this one.
    struct Growth {
        Shape shape;
        SectorIndex zero_from;
    };
    std::optional<Growth> growth;
    /// No change of ages begins.
    bool holds_ages = false;

    /// Nodes that come are taken in: the bits are loaded, and whom the first age names is settled.
    bool takes_in = false;
    bool is_serving = false;
    bool is_stopping = false;
    /// Why no age can be formed any more; empty: it can.
    std::string fenced;
    /// How often something has changed.
    std::uint64_t changes = 0;
    /// The watch sleeps until something changes; who begins something wakes it.
    bool watch_sleeps = false;
    Deliveries deliveries;
    /// Woken whenever anything changed that somebody may wait for.
    async::WaitQueue progress;

    [[nodiscard]] Bits& bits() const { return regions->bits; }
    [[nodiscard]] const Shape& shape() const { return regions->shape(); }
    [[nodiscard]] Node* find(metadata::Cookie cookie) const {
        for (const auto& node : nodes)
            if (node->cookie == cookie) return node.get();
        return nullptr;
    }
    /// For loops that suspend: nodes may come and go meanwhile, but none of these is destroyed.
    [[nodiscard]] std::vector<Node*> snapshot() const {
        std::vector<Node*> all;
        all.reserve(nodes.size());
        for (const auto& node : nodes) all.push_back(node.get());
        return all;
    }
    /// It is one of `nodes` no more.
    void retire(const Node& node) {
        const auto at = std::ranges::find(nodes, &node, &std::unique_ptr<Node>::get);
        CHECK(at != nodes.end());
        retired.push_back(std::move(*at));
        nodes.erase(at);
    }
    /// Runs one of the node's writers until it is stopped.
    template <typename Writer>
    void begin_writing(Node& node, Writer& writer) {
        ++node.writers;
        // Who has stopped the others knows nothing of this one.
        if (is_stopping) writer.stop();
        scope.spawn([](Core& core, Node& its, Writer& runs) -> async::Task<void> {
            co_await runs.run();
            --its.writers;
            core.progress.wake_all();
        }(*this, node, writer));
    }
    /// Null if the table in force does not have it.
    [[nodiscard]] const metadata::NodeRecord* record(const Node& node) const {
        return form->find(node.cookie);
    }
    /// When a request that begins to wait now has waited for too long.
    [[nodiscard]] io::TimePoint patience() const {
        return settings.hold ? world.clock.now() + *settings.hold : io::TimePoint::max();
    }
    /// Waits for anything to change; false if `until` came first. Suspends.
    async::Task<bool> progress_until(io::TimePoint until) {
        if (until == io::TimePoint::max()) {
            co_await progress.wait();
            co_return true;
        }
        co_return co_await io::wait_until(world.clock, progress, until);
    }
    /// Waits so long, whatever progress there is, or until the mirror is over.
    async::Task<void> pause(io::Duration time) {
        const io::TimePoint due = world.clock.now() + time;
        while (!is_over() && world.clock.now() < due) co_await progress_until(due);
    }
    /// The error of what can't be answered any more.
    [[nodiscard]] Error end_error() const {
        return fenced.empty() ? Error{ErrorCode::cancelled, "the mirror is stopping"}
                              : Error{ErrorCode::io_error, "another head has taken over"};
    }
    /// Nothing is answered any more.
    [[nodiscard]] bool is_over() const { return is_stopping || !fenced.empty(); }
    /// There is something that time may change.
    void wake_watch() {
        if (watch_sleeps) progress.wake_all();
    }
    /// Whoever waits looks again, and so does the owner.
    void changed() {
        ++changes;
        progress.wake_all();
        owner.mirror_changed();
    }
    void become(Node& node, NodeEvent event, std::string reason) {
        const auto after = next(node.state, event);
        CHECK(after.has_value());
        node.state = *after;
        node.reason = std::move(reason);
        node.since = world.clock.wall_now();
        changed();
    }
};

}  // namespace dst::mirror
