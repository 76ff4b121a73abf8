#include "sim/swarm/swarm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "sim/run/run.h"
#include "sim/scenario/route.h"
#include "sim/scenario/steps.h"

namespace dst::sim {
namespace {

constexpr std::uint64_t kSeeds = 600;

TEST(SwarmTest, what_is_drawn_is_a_scenario_as_any_other) {
    for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
        const Scenario drawn = draw_scenario(seed);
        EXPECT_EQ(drawn, draw_scenario(seed));
        const std::string text = to_toml(drawn);
        const auto read = parse_scenario(text, "drawn", seed);
        ASSERT_TRUE(read.has_value()) << read.error().text << "\n" << text;
        ASSERT_EQ(*read, drawn) << text;
    }
}

TEST(SwarmTest, the_printed_scenario_of_a_seed_is_the_same_run) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        const Scenario drawn = draw_scenario(seed);
        const auto read = parse_scenario(to_toml(drawn), "drawn", seed);
        ASSERT_TRUE(read.has_value());
        EXPECT_EQ(run(drawn, seed).digest, run(*read, seed).digest) << "seed " << seed;
    }
}

TEST(SwarmTest, it_draws_everything_that_there_is) {
    std::map<std::string, int> seen;
    for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
        const Scenario drawn = draw_scenario(seed);
        std::set<std::string> has{"hosts " + std::to_string(drawn.hosts.size())};
        for (const DaemonSpec& daemon : drawn.daemons) {
            if (daemon.is_plain) has.insert("plain server");
            for (const control::StorageSpec& storage : daemon.config.storages)
                has.insert("nodes " + std::to_string(storage.nodes.size()));
        }
        for (const ClientSpec& client : drawn.clients) {
            has.insert("client " + std::to_string(static_cast<int>(client.kind)));
            if (client.hold) has.insert("hold");
            if (!client.checksums) has.insert("without checksums");
            const Route route = *find_route(drawn, client.at);
            has.insert("daemons in a row " + std::to_string(route.daemons.size()));
        }
        for (const PermitSpec& permit : drawn.storm.permits)
            for (const Fault fault : permit.faults) has.insert(std::string(to_string(fault)));
        for (const std::string& each : has) ++seen[each];
    }
    for (const char* const wanted :
         {"hosts 1", "hosts 3", "hosts 5", "plain server", "nodes 1", "nodes 4", "client 0",
          "client 1", "client 2", "hold", "without checksums", "daemons in a row 1",
          "daemons in a row 3"})
        EXPECT_GE(seen[wanted], 15) << wanted;
    for (const Fault fault : all_faults())
        if (fault != Fault::bit_rot && fault != Fault::metadata_rot)
            EXPECT_GE(seen[std::string(to_string(fault))], 30) << to_string(fault);
}

/// sim/faults.h says what may not be asked for.
TEST(SwarmTest, it_permits_nothing_that_is_impossible) {
    for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
        const Scenario drawn = draw_scenario(seed);
        std::set<std::string> ending;  // processes that may end
        bool exchanges = false;
        for (const PermitSpec& permit : drawn.storm.permits)
            for (const Fault fault : permit.faults)
                for (const std::string& of : permit.of) {
                    const TargetName target = *parse_target(drawn, fault, of);
                    if (fault == Fault::kill || fault == Fault::restart)
                        ending.insert(target.process);
                    if (fault == Fault::exchanged_disk) exchanges = true;
                    if (fault != Fault::power_cut) continue;
                    for (const DaemonSpec& daemon : drawn.daemons)
                        if (daemon.host == target.host) ending.insert(daemon.name);
                    for (const ClientSpec& client : drawn.clients)
                        if (client.host == target.host) ending.insert(client.name);
                }
        for (const ClientSpec& client : drawn.clients) {
            const Route route = *find_route(drawn, client.at);
            // Memory is gone with its daemon.
            if (route.has_own_memory)
                EXPECT_FALSE(ending.contains(route.daemons.front()->name)) << "seed " << seed;
            // Nobody fences a plain server from the earlier life of its head.
            if (client.kind == ClientKind::node && route.daemons.front()->is_plain)
                EXPECT_FALSE(ending.contains(client.name)) << "seed " << seed;
        }
        for (const DaemonSpec& daemon : drawn.daemons) {
            const auto needed = needed_by(drawn, daemon);
            const bool needs_plain = std::ranges::any_of(needed, &DaemonSpec::is_plain);
            const bool is_head = !daemon.config.storages.empty();
            if (needs_plain || (exchanges && is_head))
                EXPECT_FALSE(ending.contains(daemon.name)) << "seed " << seed;
        }
    }
}

}  // namespace
}  // namespace dst::sim
