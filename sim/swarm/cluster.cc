// The swarm's clusters: exporters, and heads over them.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "sim/swarm/draft.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kNodesMax = 4;
constexpr unsigned kDepthMax = 3;

void draw_network(Draft& draft) {
    NetworkSpec& network = draft.scenario.network;
    network.latency = draft.one_of<Duration>({10us, 30us, 200us, 2ms});
    network.jitter = draft.one_of<Duration>({10us, 60us, 1ms});
    const auto buffer = [&] {
        return draft.one_of<ByteCount>(
            {ByteCount(4 << 10), ByteCount(20 << 10), ByteCount(256 << 10), ByteCount(256 << 10)});
    };
    network.send_buffer = buffer();
    network.receive_buffer = buffer();
}

void draw_export(Draft& draft, DaemonSpec& daemon, unsigned number) {
    control::ExportSpec shown;
    shown.name = fmt::format("e{}", number);
    ByteCount size;
    if (!daemon.is_plain && draft.one_in(8)) {
        size = draft.one_of({ByteCount(512 << 10), ByteCount(2 << 20)});
        shown.device = control::MemoryDevice{size};
    } else {
        const DiskSpec& disk = draw_disk(draft, draft.host(daemon.host));
        size = disk.size;
        shown.device = control::PathDevice{disk.path};
    }
    draft.loose.push_back({.daemon = daemon.name,
                           .export_name = shown.name,
                           .size = size,
                           .is_plain = daemon.is_plain});
    daemon.config.exports.push_back(std::move(shown));
}

// Storages ---------------------------------------------------------------------------------------

/// A storage on its way: its nodes and its name are drawn already.
struct Draw {
    control::StorageSpec storage;
    std::vector<ByteCount> sizes;  // of the nodes
};

/// What is given to each algorithm to complete. Another algorithm is another of these functions,
/// with its place below. Returns how large the storage is, about.
using DrawAlgorithm = ByteCount (*)(Draft& draft, Draw& draw);

ByteCount draw_linear(Draft& draft, Draw& draw) {
    draw.storage.algorithm = "linear";
    if (draft.one_in(8)) draw.storage.hold = draft.one_of<Duration>({5s, 10s, 20s});
    ByteCount all{0};
    for (const ByteCount size : draw.sizes) all = ByteCount(all.value() + size.value());
    return all;
}

/// A mirror keeps so much of each node for itself, at most; and nobody wants one with no more.
constexpr ByteCount kMirrorMetadata{128 << 10};
constexpr ByteCount kMirrorNodeMin{256 << 10};

/// Exports that nobody uses get metadata, and votes.
void draw_witnesses(Draft& draft, Draw& draw) {
    while (draw.storage.witnesses.size() < 2 && draft.loose.size() > 1 && draft.one_in(3)) {
        const std::size_t at = draft.random.below(draft.loose.size());
        const Draft::Loose taken = draft.loose[at];
        if (taken.is_plain || taken.depth > 0 || taken.size < kMirrorNodeMin) continue;
        draft.loose.erase(draft.loose.begin() + static_cast<std::ptrdiff_t>(at));
        draw.storage.witnesses.push_back(*control::parse_node(draft.address_of(taken)));
    }
}

ByteCount draw_mirror(Draft& draft, Draw& draw) {
    control::StorageSpec& storage = draw.storage;
    const ByteCount least = *std::ranges::min_element(draw.sizes);
    if (least < kMirrorNodeMin) return draw_linear(draft, draw);
    storage.algorithm = control::kMirror;
    // Where nothing was written all disks of the swarm are equal.
    storage.init = draft.one_of({control::InitMode::zero, control::InitMode::zero,
                                 control::InitMode::adopt, control::InitMode::assume_clean});
    storage.grace = draft.one_of<Duration>({500ms, 1s, 5s});
    storage.takeover = storage.grace * draft.one_of({2, 4});
    storage.slow = draft.one_of<Duration>({10s, 30s});
    if (draft.one_in(8)) storage.hold = draft.one_of<Duration>({10s, 20s});
    storage.read_policy =
        draft.one_of({control::ReadPolicy::nearest, control::ReadPolicy::least_busy,
                      control::ReadPolicy::local_first});
    storage.resync_size =
        draft.one_of({ByteCount(64 << 10), ByteCount(128 << 10), ByteCount(1 << 20)});
    storage.resync_timeout = draft.one_of<Duration>({10ms, 500ms, 3s});
    draw_witnesses(draft, draw);
    if (draft.one_in(3)) storage.quorum = control::Quorum::none;
    return ByteCount(least.value() - kMirrorMetadata.value());
}

struct AlgorithmChoice {
    DrawAlgorithm draw;
    unsigned weight;
};
constexpr std::array kAlgorithms{AlgorithmChoice{draw_linear, 1}, AlgorithmChoice{draw_mirror, 1}};

ByteCount draw_algorithm(Draft& draft, Draw& draw) {
    std::uint64_t all = 0;
    for (const AlgorithmChoice& choice : kAlgorithms) all += choice.weight;
    std::uint64_t drawn = draft.random.below(all);
    for (const AlgorithmChoice& choice : kAlgorithms) {
        if (drawn < choice.weight) return choice.draw(draft, draw);
        drawn -= choice.weight;
    }
    check_failed("one of them is drawn", __FILE__, __LINE__);
}

void draw_common_settings(Draft& draft, control::StorageSpec& storage) {
    storage.replay_window =
        draft.one_of<ByteCount>({ByteCount(64 << 10), ByteCount(256 << 10), ByteCount(4 << 20)});
}

control::NodeSpec node(const std::string& text) { return *control::parse_node(text); }

/// Adds something of the head's own: a disk, a piece of memory, or a storage below that has either.
void add_local(Draft& draft, DaemonSpec& daemon, Draw& draw) {
    if (draft.one_in(10)) {
        draw.storage.nodes.push_back(node("L: memory:256K"));
        draw.sizes.emplace_back(256 << 10);
        return;
    }
    const DiskSpec& disk = draw_disk(draft, draft.host(daemon.host));
    Draw below;
    below.storage.nodes.push_back(node("L: " + disk.path));
    below.sizes.push_back(disk.size);
    if (!draft.one_in(4)) {
        draw.storage.nodes.push_back(below.storage.nodes.front());
        draw.sizes.push_back(disk.size);
        return;
    }
    below.storage.name = fmt::format("below{}", daemon.config.storages.size() + 1);
    draw_common_settings(draft, below.storage);
    draw.sizes.push_back(draw_algorithm(draft, below));
    daemon.config.storages.push_back(below.storage);
    draw.storage.nodes.push_back(node("L: storage:" + below.storage.name));
}

/// A node uses all of its device, or only its front.
void draw_size(Draft& draft, Draw& draw) {
    if (!draft.one_in(6)) return;
    const ByteCount most(draft.random.between(24, 100) << 12);
    draw.storage.nodes.back().size_max = most;
    draw.sizes.back() = std::min(draw.sizes.back(), most);
}

void draw_head(Draft& draft, unsigned number) {
    DaemonSpec& daemon = add_daemon(draft, fmt::format("head{}", number));
    Draw draw;
    draw.storage.name = fmt::format("s{}", number);
    Draft::Loose shown{
        .daemon = daemon.name, .export_name = draw.storage.name, .depth = 1, .size = {}};
    const std::size_t count = draft.random.between(1, kNodesMax);
    while (draw.storage.nodes.size() < count) {
        std::vector<Draft::Loose> usable;
        for (const Draft::Loose& each : draft.loose)
            if (each.depth < kDepthMax) usable.push_back(each);
        if (usable.empty() || draft.one_in(4)) {
            add_local(draft, draft.daemon(shown.daemon), draw);
        } else {
            const Draft::Loose taken = usable[draft.random.below(usable.size())];
            std::erase_if(draft.loose, [&](const Draft::Loose& each) {
                return each.daemon == taken.daemon && each.export_name == taken.export_name;
            });
            draw.storage.nodes.push_back(node(draft.address_of(taken)));
            draw.sizes.push_back(taken.size);
            shown.depth = std::max(shown.depth, taken.depth + 1);
        }
        draw_size(draft, draw);
    }
    draw_common_settings(draft, draw.storage);
    shown.size = draw_algorithm(draft, draw);
    DaemonSpec& head = draft.daemon(shown.daemon);
    head.config.storages.push_back(draw.storage);
    control::ExportSpec spec;
    spec.name = draw.storage.name;
    spec.device = control::StorageDevice{draw.storage.name};
    head.config.exports.push_back(spec);
    draft.loose.push_back(shown);
}

}  // namespace

void draw_exporters(Draft& draft) {
    draw_network(draft);
    const std::uint64_t count = draft.random.between(1, 3);
    unsigned exports = 0;
    for (std::uint64_t at = 1; at <= count; ++at) {
        DaemonSpec& daemon = add_daemon(draft, fmt::format("exporter{}", at));
        daemon.is_plain = draft.one_in(8);
        do draw_export(draft, daemon, ++exports);
        while (draft.one_in(4));
    }
}

void draw_heads(Draft& draft) {
    unsigned heads = 0;
    while (heads < kDepthMax && !draft.one_in(3)) draw_head(draft, ++heads);
}

}  // namespace dst::sim
