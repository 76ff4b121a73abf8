#include "sim/scenario/scenario.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "sim/scenario/library.h"
#include "sim/scenario/route.h"
#include "sim/scenario/steps.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kTwoHosts = R"(
about = "Two hosts."
[[host]]
name = "far"
disks = [{ path = "/disk", size = "1M" }]
[[host]]
name = "near"
disks = [{ path = "/own" }]
[[daemon]]
name = "exporter"
host = "far"
config = '''
[[export]]
name = "disk"
device = "/disk"
'''
[[daemon]]
name = "head"
host = "near"
config = '''
[[storage]]
name = "vol"
algorithm = "linear"
nodes = ["R: far/disk", "L: /own"]
hold = "20s"
[[export]]
name = "vol"
device = "storage:vol"
'''
)";

Outcome<Scenario> parse(std::string_view more, std::uint64_t seed = 1) {
    return parse_scenario(std::string(kTwoHosts) + std::string(more), "test.toml", seed);
}

std::string refusal(std::string_view more) {
    const auto parsed = parse(more);
    return parsed ? "" : parsed.error().text;
}

TEST(ScenarioTest, every_scenario_of_the_library_is_good_and_says_what_it_is) {
    EXPECT_GE(library().size(), 4u);
    for (const LibraryEntry& entry : library()) {
        const auto scenario = load_scenario(std::string(entry.name), 1);
        ASSERT_TRUE(scenario.has_value()) << scenario.error().text;
        EXPECT_TRUE(scenario->about.ends_with(".")) << entry.name;
    }
}

TEST(ScenarioTest, what_is_written_is_read_back_as_the_same) {
    for (const LibraryEntry& entry : library())
        for (std::uint64_t seed = 1; seed <= 5; ++seed) {
            auto scenario = load_scenario(std::string(entry.name), seed);
            ASSERT_TRUE(scenario.has_value());
            scenario->name.clear();
            const std::string text = to_toml(*scenario);
            const auto again = parse_scenario(text, "again.toml", seed + 1);
            ASSERT_TRUE(again.has_value()) << again.error().text << "\n" << text;
            EXPECT_EQ(*again, *scenario) << text;
        }
}

TEST(ScenarioTest, a_seed_draws_one_of_each_list) {
    constexpr std::string_view kMore = R"(
[draw]
window = ["64K", "4M"]
depth = [1, 32]
[[client]]
name = "app"
kind = "node"
host = "near"
at = "exporter/disk"
replay_window = "$window"
depth = "$depth"
)";
    std::set<std::pair<std::uint64_t, unsigned>> drawn;
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        const auto scenario = parse(kMore, seed);
        ASSERT_TRUE(scenario.has_value()) << scenario.error().text;
        EXPECT_EQ(*scenario, *parse(kMore, seed));
        const ClientSpec& client = scenario->clients.front();
        drawn.insert({client.replay_window.value(), client.depth});
    }
    EXPECT_EQ(drawn.size(), 4u);
}

TEST(ScenarioTest, what_is_wrong_is_refused_with_its_place) {
    EXPECT_EQ(refusal(""), "");
    EXPECT_EQ(refusal("[[client]]\nname = \"app\"\nkind = \"nod\"\n"),
              "test.toml:32: client 'app': kind: \"nod\" is not known here; write one of \"node\", "
              "\"plain\", \"inside\"");
    EXPECT_EQ(refusal("[[client]]\nname = \"app\"\nkind = \"node\"\nhost = \"near\"\n"
                      "at = \"exporter/disc\"\n"),
              "test.toml: client 'app': exporter has no export 'disc'");
    EXPECT_EQ(refusal("[[client]]\nname = \"app\"\nkind = \"inside\"\nat = \"exporter/disk\"\n"),
              "test.toml: client 'app': inside of a daemon there are clients of storages alone");
    EXPECT_EQ(refusal("[storm]\npermit = [{ faults = [\"kill\"], of = [\"far\"] }]\n"),
              "test.toml: storm: kill of far: there is no daemon or client 'far'");
    EXPECT_EQ(refusal("[storm]\npermit = [{ faults = [\"partition\"], of = [\"far\"] }]\n"),
              "test.toml: storm: partition of far: 'far' is no link: write HOST - HOST");
    EXPECT_EQ(refusal("[[step]]\nat = \"1s\"\ndo = \"dance\"\n"),
              "test.toml: step 'dance': 'dance' begins with no fault, start or tell");
}

TEST(ScenarioTest, a_route_leads_through_all_daemons_to_the_disks) {
    const auto scenario = parse("");
    ASSERT_TRUE(scenario.has_value());
    const auto route = find_route(*scenario, "head/vol");
    ASSERT_TRUE(route.has_value()) << route.error().text;
    ASSERT_EQ(route->daemons.size(), 2u);
    EXPECT_EQ(route->daemons[0]->name, "head");
    EXPECT_EQ(route->daemons[1]->name, "exporter");
    ASSERT_EQ(route->disks.size(), 2u);
    EXPECT_EQ(route->disks[0].host->name, "far");
    EXPECT_EQ(route->disks[1].disk->path, "/own");
    EXPECT_TRUE(route->is_storage && route->has_hold);
    EXPECT_FALSE(route->has_own_memory || route->has_far_memory || route->has_plain_server);
    EXPECT_FALSE(find_route(*scenario, "exporter/disk")->is_storage);
}

TEST(ScenarioTest, steps_are_sentences) {
    const auto scenario = parse("");
    ASSERT_TRUE(scenario.has_value());
    const auto step = [&](std::string_view sentence) {
        auto parsed = parse_step(*scenario, sentence);
        EXPECT_TRUE(parsed.has_value()) << parsed.error().text;
        return *std::move(parsed);
    };
    const auto kill = std::get<StrikeStep>(step("kill exporter for 2s"));
    EXPECT_EQ(kill.fault, Fault::kill);
    EXPECT_EQ(kill.target.process, "exporter");
    EXPECT_EQ(kill.length, Duration(2s));
    const auto slow = std::get<StrikeStep>(step("slow disk far:/disk"));
    EXPECT_EQ(slow.fault, Fault::slow_disk);
    EXPECT_EQ(slow.target.disk, "/disk");
    EXPECT_FALSE(slow.length.has_value());
    const auto cut = std::get<StrikeStep>(step("one-way partition far - near for 300ms"));
    EXPECT_EQ(cut.target.other, "near");
    EXPECT_EQ(std::get<StrikeStep>(step("smaller disk far:/disk")).target.process, "exporter");
    EXPECT_EQ(std::get<StartStep>(step("start head")).process, "head");
    const auto add = std::get<TellStep>(step("tell head: node add vol L: memory:1M"));
    EXPECT_EQ(add.daemon, "head");
    EXPECT_EQ(std::get<NodeAdd>(add.command).storage, "vol");
    const auto stop = std::get<TellStep>(step("tell head: storage stop vol"));
    EXPECT_EQ(std::get<StorageCommand>(stop.command).verb, StorageCommand::Verb::stop);
}

}  // namespace
}  // namespace dst::sim
