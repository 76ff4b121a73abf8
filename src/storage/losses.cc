#include "storage/losses.h"

#include <algorithm>

namespace dst::storage {
namespace {

std::vector<std::string> hosts_of(const std::vector<Located>& nodes) {
    std::vector<std::string> hosts;
    for (const Located& node : nodes)
        if (!node.host.empty() && std::ranges::find(hosts, node.host) == hosts.end())
            hosts.push_back(node.host);
    return hosts;
}

template <typename IsMeant>
Loss loss_of(Loss::Kind kind, std::string name, const std::vector<Located>& nodes,
             IsMeant is_meant) {
    Loss loss{.kind = kind, .name = std::move(name)};
    for (const Located& node : nodes)
        if (is_meant(node)) loss.nodes.push_back(node.cookie);
    return loss;
}

}  // namespace

std::string_view to_string(Loss::Kind kind) {
    switch (kind) {
        case Loss::Kind::node:
            return "node";
        case Loss::Kind::link:
            return "link";
        case Loss::Kind::host:
            return "host";
    }
    return "";
}

std::string host_of(const MemberSpec& spec) {
    const auto* remote = std::get_if<RemotePlace>(&spec.place);
    if (remote == nullptr || !remote->endpoint.unix_path.empty()) return {};
    return remote->endpoint.host;
}

std::vector<Loss> what_can_be_lost(const std::vector<Located>& nodes) {
    std::vector<Loss> losses;
    for (const Located& node : nodes) {
        losses.push_back({.kind = Loss::Kind::node, .name = node.type});
        losses.back().nodes = {node.cookie};
    }
    const std::vector<std::string> hosts = hosts_of(nodes);
    const auto is_far = [](const Located& node) { return !node.host.empty(); };
    for (const auto kind : {Loss::Kind::link, Loss::Kind::host}) {
        for (const std::string& host : hosts)
            losses.push_back(
                loss_of(kind, host, nodes, [&](const Located& node) { return node.host == host; }));
        if (kind == Loss::Kind::link && hosts.size() > 1)
            losses.push_back(loss_of(kind, "", nodes, is_far));
        if (kind == Loss::Kind::host)
            losses.push_back(
                loss_of(kind, "", nodes, [&](const Located& node) { return !is_far(node); }));
    }
    return losses;
}

}  // namespace dst::storage
