// The swarm's clients: who asks, and for what.
#include <fmt/format.h>

#include "sim/scenario/route.h"
#include "sim/swarm/draft.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr unsigned kRequestsAll = 2000;

MixSpec draw_mix(Draft& draft) {
    const auto weight = [&](std::initializer_list<unsigned> choices) {
        return draft.one_of(choices);
    };
    return {.read = weight({20, 45, 80}),
            .write = weight({20, 40, 80}),
            .write_zeroes = weight({0, 5, 20}),
            .trim = weight({0, 0, 5}),
            .flush = weight({0, 2, 5, 10}),
            .block_status = weight({0, 3})};
}

/// Narrow buffers and long ways make little of a network: so short must requests be that it carries
/// all of them in some seconds.
ByteCount longest_for(const NetworkSpec& network, ByteCount longest, unsigned requests) {
    constexpr double kSecondsMax = 8;
    const double turn_s =
        2 * std::chrono::duration<double>(network.latency + network.jitter).count();
    const auto a_turn =
        static_cast<double>(std::min(network.send_buffer, network.receive_buffer).value());
    while (longest > ByteCount(4 << 10) &&
           static_cast<double>(longest.value()) / 2 * requests * turn_s / a_turn > kSecondsMax)
        longest = ByteCount(longest.value() / 2);
    return longest;
}

Overlap draw_overlap(Draft& draft, ClientKind kind) {
    // What was resent may be executed twice, so a node must not be asked what a disk would have to
    // put in order.
    if (kind == ClientKind::node) return Overlap::none;
    return draft.one_of({Overlap::none, Overlap::reads, Overlap::all, Overlap::all});
}

ClientKind draw_kind(Draft& draft, bool is_storage) {
    if (is_storage) return draft.one_of({ClientKind::inside, ClientKind::plain, ClientKind::node});
    return draft.one_of({ClientKind::plain, ClientKind::node});
}

void draw_client(Draft& draft, const Draft::Loose& where, bool is_storage, unsigned requests) {
    ClientSpec client;
    client.name = fmt::format("client{}", draft.scenario.clients.size() + 1);
    client.at = fmt::format("{}/{}", where.daemon, where.export_name);
    client.kind = draw_kind(draft, is_storage);
    if (client.kind != ClientKind::inside) client.host = draw_host(draft).name;
    client.requests = requests;
    client.depth = draft.one_of({1U, 4U, 8U, 32U});
    if (draft.one_in(8)) {
        client.longest = draft.one_of({ByteCount(128 << 10), ByteCount(1 << 20)});
        client.requests /= 8;
    } else {
        client.longest =
            draft.one_of({ByteCount(4 << 10), ByteCount(8 << 10), ByteCount(32 << 10)});
    }
    client.longest = longest_for(draft.scenario.network, client.longest, kRequestsAll);
    client.mix = draw_mix(draft);
    client.fua_percent = draft.one_of({0U, 5U, 50U});
    client.overlap = draw_overlap(draft, client.kind);
    client.replay_window =
        draft.one_of<ByteCount>({ByteCount(64 << 10), ByteCount(256 << 10), ByteCount(4 << 20)});
    if (draft.one_in(8)) client.hold = draft.one_of<Duration>({5s, 10s});
    client.checksums = !draft.one_in(4);
    client.structured_replies = !draft.one_in(4);
    draft.scenario.clients.push_back(std::move(client));
}

/// Nodes write what they have kept once more at any time, so each has a part for itself; all others
/// of one export share what is left.
void deal_out_parts(std::span<ClientSpec> clients) {
    unsigned parts = 0;
    for (const ClientSpec& client : clients)
        if (client.kind == ClientKind::node) ++parts;
    if (parts < clients.size()) ++parts;
    unsigned next = 1;
    for (ClientSpec& client : clients) {
        client.parts = parts;
        client.part = client.kind == ClientKind::node ? ++next : 1;
    }
    if (next == parts) return;
    // There are nodes alone.
    for (ClientSpec& client : clients) --client.part;
}

}  // namespace

void draw_clients(Draft& draft) {
    const auto requests = static_cast<unsigned>(kRequestsAll / draft.loose.size());
    for (const Draft::Loose& where : draft.loose) {
        const auto route = find_route(draft.scenario, where.daemon + "/" + where.export_name);
        const unsigned count = draft.one_of({1U, 1U, 2U, 3U});
        const std::size_t first = draft.scenario.clients.size();
        for (unsigned at = 0; at < count; ++at)
            draw_client(draft, where, route->is_storage, requests / count);
        deal_out_parts(std::span(draft.scenario.clients).subspan(first));
    }
}

}  // namespace dst::sim
