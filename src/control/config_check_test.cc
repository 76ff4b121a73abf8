#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "control/config.h"

namespace dst::control {
namespace {

std::string judged(std::string_view toml) {
    const auto config = parse_config(toml, "dst.toml");
    return config ? "ok" : config.error().text;
}

std::string storage(std::string_view name, std::string_view node, std::string_view more = "") {
    return "[[storage]]\nname = \"" + std::string(name) +
           "\"\nalgorithm = \"linear\"\nnodes = [\"" + std::string(node) + "\"]\n" +
           std::string(more) + "\n";
}
std::string share(std::string_view name, std::string_view device) {
    return "[[export]]\nname = \"" + std::string(name) + "\"\ndevice = \"" + std::string(device) +
           "\"\n";
}
std::string settings(std::string_view lines) { return judged(storage("v", "L: /d", lines)); }

TEST(Check, a_name_stands_for_one_thing) {
    EXPECT_EQ(judged(share("e", "/a") + share("e", "/b")),
              "dst.toml:4: export 'e': there is one of this name already at dst.toml:1; give each "
              "its own name");
    EXPECT_NE(judged(storage("v", "L: /a") + storage("v", "L: /b")), "ok");
    EXPECT_EQ(judged(storage("v", "L: /a") + share("v", "storage:v")), "ok");
    EXPECT_NE(judged("[[algorithm]]\nfile = \"a\"\n[[algorithm]]\nfile = \"a\"\n"), "ok");
}

TEST(Check, what_is_referred_to_exists) {
    EXPECT_EQ(judged(storage("vol0", "L: /a") + share("e", "storage:vol1")),
              "dst.toml:6: export 'e': there is no storage 'vol1'; did you mean 'vol0'?");
    EXPECT_EQ(judged(storage("v", "L: storage:nowhere")),
              "dst.toml:1: storage 'v': there is no storage 'nowhere'; create it first");
    EXPECT_EQ(judged(storage("top", "L: storage:below") + storage("below", "L: /a")), "ok")
        << "in any order";
}

TEST(Check, a_storage_does_not_contain_itself) {
    EXPECT_EQ(judged(storage("a", "L: storage:b") + storage("b", "L: storage:a")),
              "dst.toml:1: storage 'a': it contains itself (a > b > a), so no request would ever "
              "reach a disk; take one storage out of the loop");
    EXPECT_NE(judged(storage("a", "L: storage:a")), "ok");
    EXPECT_NE(judged(storage("x", "L: storage:a") + storage("a", "L: storage:b") +
                     storage("b", "L: storage:a")),
              "ok");
}

TEST(Check, storages_are_stacked_only_so_deep) {
    std::string toml;
    for (int i = 0; i < 40; ++i) {
        toml += storage("s" + std::to_string(i), "L: storage:s" + std::to_string(i + 1));
    }
    toml += storage("s40", "L: /d");
    EXPECT_NE(judged(toml).find("more than 32 deep"), std::string::npos);
}

TEST(Check, of_two_users_of_a_device_the_newcomer_is_to_blame) {
    auto config =
        parse_config(share("e", "/dev/a") + storage("w", "L: /dev/b"), "dst.toml").value();
    StorageSpec added = config.storages.front();
    added.name = "new";
    added.where = {};
    added.nodes = {*parse_node("L: /dev/a")};
    config.storages.push_back(added);
    EXPECT_THAT(check(config, "storage 'new'").error().text,
                testing::StartsWith("storage 'new': L: /dev/a is in use by export 'e' already"));
    // One that was there is given a node.
    config.storages.pop_back();
    config.storages.front().nodes.push_back(*parse_node("L: /dev/a"));
    EXPECT_THAT(check(config, "storage 'w'").error().text,
                testing::HasSubstr("storage 'w': L: /dev/a is in use by export 'e' already"));
    // A new export of a node's disk.
    config.storages.front().nodes.pop_back();
    ExportSpec shown = config.exports.front();
    shown.name = "another";
    shown.where = {};
    shown.device = PathDevice{"/dev/b"};
    config.exports.insert(config.exports.begin(), shown);
    EXPECT_THAT(check(config, "export 'another'").error().text,
                testing::StartsWith("export 'another': /dev/b is in use by storage 'w' already"));
}

TEST(Check, a_device_has_one_user) {
    EXPECT_EQ(judged(share("e", "/dev/a") + share("f", "/dev/../dev//a")),
              "dst.toml:4: export 'f': /dev/../dev//a is in use by export 'e' already, and two "
              "users of one device would overwrite each other; give each its own");
    EXPECT_NE(judged(share("e", "/dev/a") + storage("v", "L: /dev/a")), "ok");
    EXPECT_NE(judged(storage("v", "L: /dev/a") + storage("w", "L: /dev/a")), "ok");
    EXPECT_NE(judged(storage("v", "L: /dev/a\", \"L: /dev/a")), "ok");
    EXPECT_NE(judged(storage("v", "R: h/e") + storage("w", "R: h:10809/e")), "ok");
    EXPECT_NE(
        judged(storage("v", "L: /a") + storage("w", "L: storage:v") + share("e", "storage:v")),
        "ok")
        << "whoever writes below w changes it behind its back";
    EXPECT_EQ(judged(storage("v", "L: /a") + share("e", "storage:v") + share("f", "storage:v")),
              "ok")
        << "a storage orders the requests of all its exports";
    EXPECT_EQ(judged(storage("v", "L: memory:1M") + storage("w", "L: memory:1M")), "ok");
    EXPECT_EQ(judged(storage("v", "R: h/e") + storage("w", "R: h/f")), "ok");
}

TEST(Check, grace_is_at_most_half_of_takeover) {
    EXPECT_EQ(settings("grace = \"5s\"\ntakeover = \"10s\""), "ok");
    EXPECT_EQ(
        settings("grace = \"6s\""),
        "dst.toml:1: storage 'v': grace 6s is more than half of takeover 10s (the default), so "
        "a head that is cut off could still answer while another takes over; set grace to at "
        "most 5s, or takeover to at least 12s");
    EXPECT_NE(settings("takeover = \"9s\""), "ok") << "the default grace counts, too";
    EXPECT_EQ(settings("takeover = \"9s\"\ngrace = \"4500ms\""), "ok");
}

TEST(Check, hold_is_at_least_grace) {
    EXPECT_NE(settings("hold = \"4s\""), "ok");
    EXPECT_EQ(settings("hold = \"5s\""), "ok");
    EXPECT_EQ(settings("hold = \"forever\""), "ok");
}

TEST(Check, slow_is_at_least_grace) {
    EXPECT_NE(settings("slow = \"4s\""), "ok");
    EXPECT_EQ(settings("slow = \"5s\""), "ok");
}

TEST(Check, windows_fit_into_memory) {
    EXPECT_EQ(settings("replay_window = \"128M\""), "ok");
    EXPECT_NE(settings("replay_window = \"129M\""), "ok");
    EXPECT_EQ(settings("resync_size = \"64M\""), "ok");
    EXPECT_NE(settings("resync_size = \"65M\""), "ok");
    EXPECT_EQ(settings("resync_size = \"64K\""), "ok");
    EXPECT_NE(settings("resync_size = \"32K\""), "ok");
    EXPECT_NE(judged("memory = \"64M\"\n" + storage("v", "L: /d", "replay_window = \"64M\"")),
              "ok");
}

TEST(Check, buffers_fit_into_memory) {
    const auto exports = [](int count) {
        std::string text;
        for (int at = 0; at < count; ++at) text += share("e" + std::to_string(at), "memory:1M");
        return text;
    };
    EXPECT_EQ(judged("memory = \"32M\"\n" + exports(9)), "ok");
    EXPECT_EQ(judged("memory = \"32M\"\n" + exports(10)),
              "daemon: memory 32M is too little for the buffers of so many exports and mirrors; "
              "set it to at "
              "least 33M");
    const std::string mirror =
        "[[storage]]\nname = \"v\"\nalgorithm = \"mirror\"\n"
        "nodes = [\"L: memory:8M\", \"L: memory:8M\"]\n";
    EXPECT_EQ(judged("memory = \"32M\"\n" + exports(4) + mirror), "ok");
    EXPECT_NE(judged("memory = \"32M\"\n" + exports(5) + mirror), "ok");
    EXPECT_EQ(judged("memory = \"64M\"\n" + exports(33) + mirror), "ok");
}

TEST(Check, a_majority_needs_metadata) {
    EXPECT_NE(settings("quorum = \"majority\"\nmetadata = \"none\""), "ok");
    EXPECT_EQ(settings("quorum = \"none\"\nmetadata = \"none\""), "ok");
}

TEST(Check, a_cache_is_for_paths) {
    EXPECT_EQ(judged(share("e", "/a") + "cache = \"buffered\"\n"), "ok");
    EXPECT_NE(judged(share("e", "memory:1M") + "cache = \"buffered\"\n"), "ok");
}

TEST(Check, a_spec_from_a_command_is_refused_without_a_place) {
    Config config;
    config.exports.push_back(parse_export_json(R"({"name":"e","device":"storage:v"})").value());
    EXPECT_EQ(check(config).error().text, "export 'e': there is no storage 'v'; create it first");
    EXPECT_EQ(check(config).error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace dst::control
