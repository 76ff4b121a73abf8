#include "control/apply_plan.h"

#include <gtest/gtest.h>

#include "control/config_diff.h"

namespace dst::control {
namespace {

Config config(const std::string& toml) {
    auto parsed = parse_config(toml, "test.toml");
    EXPECT_TRUE(parsed.has_value()) << parsed.error().text;
    return parsed.value_or(Config());
}

std::string mirror(const std::string& nodes, const std::string& more = "") {
    return "[[storage]]\nname = \"vol0\"\nalgorithm = \"mirror\"\nnodes = [" + nodes + "]\n" + more;
}
std::string share(const std::string& name, const std::string& device,
                  const std::string& more = "") {
    return "[[export]]\nname = \"" + name + "\"\ndevice = \"" + device + "\"\n" + more;
}

const std::string kTwo = R"("R: a/d", "R: b/d")";
const std::string kThree = R"("R: a/d", "R: b/d", "R: c/d")";

/// "METHOD PATH" of each step.
std::vector<std::string> requests(const std::string& now, const std::string& wanted,
                                  bool prune = false) {
    const auto plan = plan_of(config(now), config(wanted), prune);
    EXPECT_TRUE(plan.has_value()) << plan.error().text;
    std::vector<std::string> all;
    for (const Step& step : plan->steps)
        all.push_back(step.method.empty() ? "wait " + step.waits_for
                                          : step.method + " " + step.path);
    return all;
}
std::string refusal(const std::string& now, const std::string& wanted) {
    const auto plan = plan_of(config(now), config(wanted), false);
    EXPECT_FALSE(plan.has_value());
    return plan ? "" : plan.error().text;
}

using Requests = std::vector<std::string>;

TEST(ApplyPlan, what_runs_already_takes_no_step) {
    const std::string all = mirror(kThree, "grace = \"1s\"\n") + share("e", "storage:vol0");
    EXPECT_EQ(requests(all, all), Requests());
    EXPECT_EQ(requests(all, all, true), Requests());
    // The order of a mirror's nodes means nothing.
    EXPECT_EQ(requests(mirror(R"("R: b/d", "R: a/d")"), mirror(kTwo)), Requests());
}

TEST(ApplyPlan, storages_come_before_what_stands_on_them_and_exports_last) {
    const std::string wanted = R"([[storage]]
name = "upper"
algorithm = "linear"
nodes = ["L: storage:lower"]
[[storage]]
name = "lower"
algorithm = "linear"
nodes = ["L: memory:1M"]
)" + share("e", "storage:upper");
    const auto plan = plan_of(Config(), config(wanted), false);
    ASSERT_TRUE(plan.has_value());
    ASSERT_EQ(plan->steps.size(), 3U);
    EXPECT_NE(plan->steps[0].text.find("'lower'"), std::string::npos);
    EXPECT_NE(plan->steps[1].text.find("'upper'"), std::string::npos);
    EXPECT_EQ(plan->steps[2].path, "/v1/exports");
    for (const Step& step : plan->steps) EXPECT_FALSE(step.interrupts);
}

TEST(ApplyPlan, what_is_not_named_stays_unless_it_is_to_be_pruned) {
    const std::string now = mirror(kTwo) + share("e", "storage:vol0") + share("f", "memory:1M");
    EXPECT_EQ(requests(now, share("f", "memory:1M")), Requests());
    EXPECT_EQ(requests(now, share("f", "memory:1M"), true),
              (Requests{"DELETE /v1/exports/e", "DELETE /v1/storages/vol0"}));
}

TEST(ApplyPlan, a_node_is_in_sync_before_another_one_is_taken_out) {
    EXPECT_EQ(
        requests(mirror(kTwo), mirror(R"("R: a/d", "R: c/d")")),
        (Requests{"POST /v1/storages/vol0/nodes", "wait vol0", "DELETE /v1/storages/vol0/nodes"}));
    EXPECT_EQ(requests(mirror(kThree), mirror(kTwo)), Requests{"DELETE /v1/storages/vol0/nodes"});
}

TEST(ApplyPlan, resync_settings_change_live_and_others_by_making_it_known_anew) {
    EXPECT_EQ(requests(mirror(kTwo), mirror(kTwo, "resync_size = \"4M\"\n")),
              Requests{"POST /v1/storages/vol0/resync"});
    const std::string now = mirror(kTwo) + share("e", "storage:vol0");
    EXPECT_EQ(requests(now, mirror(kTwo, "grace = \"1s\"\n")),
              (Requests{"DELETE /v1/exports/e", "DELETE /v1/storages/vol0", "POST /v1/assemblies",
                        "POST /v1/exports"}));
    const auto plan = plan_of(config(now), config(mirror(kTwo, "grace = \"1s\"\n")), false);
    EXPECT_TRUE(plan->steps[0].interrupts && plan->steps[1].interrupts);
    // What a storage begins with means nothing for one that is there.
    EXPECT_EQ(requests(mirror(kTwo), mirror(kTwo, "init = \"adopt\"\n")), Requests());
}

TEST(ApplyPlan, a_changed_export_is_shown_anew) {
    EXPECT_EQ(requests(share("e", "memory:1M"), share("e", "memory:2M")),
              (Requests{"DELETE /v1/exports/e", "POST /v1/exports"}));
}

TEST(ApplyPlan, what_would_lose_data_is_refused) {
    const std::string linear =
        "[[storage]]\nname = \"vol0\"\nalgorithm = \"linear\"\nnodes = [\"R: a/d\", \"R: b/d\"]\n";
    EXPECT_NE(refusal(linear, mirror(kTwo)).find("another algorithm"), std::string::npos);
    const std::string shorter =
        "[[storage]]\nname = \"vol0\"\nalgorithm = \"linear\"\nnodes = [\"R: b/d\"]\n";
    EXPECT_NE(refusal(linear, shorter).find("not taken out"), std::string::npos);
    EXPECT_NE(refusal(mirror(kTwo), mirror(kThree, "grace = \"1s\"\n")).find("the one, then"),
              std::string::npos);
}

TEST(ApplyPlan, settings_of_the_daemon_are_remarked_on_if_the_file_has_them) {
    const auto plan = plan_of(config("memory = \"64M\"\n"), config("spin_us = 5\n"), false);
    ASSERT_TRUE(plan.has_value());
    EXPECT_TRUE(plan->steps.empty());
    ASSERT_EQ(plan->remarks.size(), 1U);
    EXPECT_NE(plan->remarks[0].find("spin_us"), std::string::npos);
}

TEST(ApplyPlan, a_plan_is_read_back_as_it_was_written) {
    const auto plan = plan_of(config(mirror(kTwo)), config(mirror(kThree)), false);
    const auto back = parse_plan(to_json(*plan));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->steps, plan->steps);
    EXPECT_FALSE(parse_plan("{}").has_value());
}

TEST(ConfigDiff, each_key_that_differs_is_named_with_both_values) {
    const auto found = compare(config(mirror(kTwo) + share("e", "memory:1M")),
                               config(mirror(kTwo, "grace = \"1s\"\n") + share("f", "memory:1M")));
    ASSERT_EQ(found.size(), 3U);
    EXPECT_EQ(found[0].name, "vol0");
    ASSERT_NE(found[0].find("grace"), nullptr);
    EXPECT_EQ(*found[0].find("grace"), (KeyChange{"grace", "", "\"1s\""}));
    EXPECT_EQ(to_text(found, {}),
              "~ storage 'vol0'\n    grace: (default) -> \"1s\"\n- export 'e'\n+ export 'f'\n");
    EXPECT_EQ(parse_differences(to_json(found)), found);
    EXPECT_TRUE(compare(config(mirror(kTwo)), config(mirror(kTwo))).empty());
}

}  // namespace
}  // namespace dst::control
