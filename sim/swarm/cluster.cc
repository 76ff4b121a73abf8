// The swarm's clusters: exporters, and heads over them.
#include <fmt/format.h>

#include <algorithm>
#include <array>

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
    if (!daemon.is_plain && draft.one_in(8))
        shown.device =
            control::MemoryDevice{draft.one_of({ByteCount(512 << 10), ByteCount(2 << 20)})};
    else
        shown.device = control::PathDevice{draw_disk(draft, draft.host(daemon.host))};
    draft.loose.push_back({.daemon = daemon.name, .export_name = shown.name});
    daemon.config.exports.push_back(std::move(shown));
}

// Storages ---------------------------------------------------------------------------------------

/// A storage whose nodes and name are drawn already gets its algorithm, and what belongs to that.
/// Another algorithm is another of these functions, with its place below.
using DrawAlgorithm = void (*)(Draft& draft, control::StorageSpec& storage);

void draw_linear(Draft& draft, control::StorageSpec& storage) {
    storage.algorithm = "linear";
    if (draft.one_in(8)) storage.hold = draft.one_of<Duration>({5s, 10s, 20s});
}

struct AlgorithmChoice {
    DrawAlgorithm draw;
    unsigned weight;
};
constexpr std::array kAlgorithms{AlgorithmChoice{draw_linear, 1}};

void draw_algorithm(Draft& draft, control::StorageSpec& storage) {
    std::uint64_t all = 0;
    for (const AlgorithmChoice& choice : kAlgorithms) all += choice.weight;
    std::uint64_t drawn = draft.random.below(all);
    for (const AlgorithmChoice& choice : kAlgorithms) {
        if (drawn < choice.weight) return choice.draw(draft, storage);
        drawn -= choice.weight;
    }
}

void draw_common_settings(Draft& draft, control::StorageSpec& storage) {
    storage.replay_window =
        draft.one_of<ByteCount>({ByteCount(64 << 10), ByteCount(256 << 10), ByteCount(4 << 20)});
}

control::NodeSpec node(const std::string& text) { return *control::parse_node(text); }

/// Something of the head's own: a disk, a piece of memory, or a storage below that has either.
control::NodeSpec draw_local(Draft& draft, DaemonSpec& daemon) {
    if (draft.one_in(10)) return node("L: memory:256K");
    const std::string path = draw_disk(draft, draft.host(daemon.host));
    if (!draft.one_in(4)) return node("L: " + path);
    control::StorageSpec below;
    below.name = fmt::format("below{}", daemon.config.storages.size() + 1);
    below.nodes.push_back(node("L: " + path));
    draw_common_settings(draft, below);
    draw_algorithm(draft, below);
    daemon.config.storages.push_back(below);
    return node("L: storage:" + below.name);
}

/// A node uses all of its device, or only its front.
void draw_size(Draft& draft, control::NodeSpec& node) {
    if (draft.one_in(6)) node.size_max = ByteCount(draft.random.between(24, 60) << 12);
}

void draw_head(Draft& draft, unsigned number) {
    DaemonSpec& daemon = add_daemon(draft, fmt::format("head{}", number));
    control::StorageSpec storage;
    storage.name = fmt::format("s{}", number);
    Draft::Loose shown{.daemon = daemon.name, .export_name = storage.name, .depth = 1};
    const std::size_t count = draft.random.between(1, kNodesMax);
    while (storage.nodes.size() < count) {
        std::vector<Draft::Loose> usable;
        for (const Draft::Loose& each : draft.loose)
            if (each.depth < kDepthMax) usable.push_back(each);
        if (usable.empty() || draft.one_in(4)) {
            storage.nodes.push_back(draw_local(draft, draft.daemon(shown.daemon)));
        } else {
            const Draft::Loose taken = usable[draft.random.below(usable.size())];
            std::erase_if(draft.loose, [&](const Draft::Loose& each) {
                return each.daemon == taken.daemon && each.export_name == taken.export_name;
            });
            storage.nodes.push_back(node(draft.address_of(taken)));
            shown.depth = std::max(shown.depth, taken.depth + 1);
        }
        draw_size(draft, storage.nodes.back());
    }
    draw_common_settings(draft, storage);
    draw_algorithm(draft, storage);
    DaemonSpec& head = draft.daemon(shown.daemon);
    head.config.storages.push_back(storage);
    control::ExportSpec spec;
    spec.name = storage.name;
    spec.device = control::StorageDevice{storage.name};
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
