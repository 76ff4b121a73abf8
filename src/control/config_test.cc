#include "control/config.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "control/config_fields.h"

namespace dst::control {
namespace {

using namespace std::chrono_literals;

Config parsed(std::string_view toml) {
    auto config = parse_config(toml, "dst.toml");
    EXPECT_TRUE(config.has_value()) << config.error().text;
    return config ? *std::move(config) : Config{};
}

/// The refusal of `toml`; it must be one line that says where.
std::string refused(std::string_view toml) {
    const auto config = parse_config(toml, "dst.toml");
    EXPECT_FALSE(config.has_value()) << toml;
    if (config) return {};
    EXPECT_TRUE(config.error().text.starts_with("dst.toml:")) << config.error().text;
    EXPECT_EQ(config.error().text.find_first_of("\n\r"), std::string::npos);
    return config.error().text;
}

/// As `refused`, for one setting of an otherwise good storage, in line 5.
std::string refused_setting(std::string_view line) {
    return refused("[[storage]]\nname = \"v\"\nalgorithm = \"mirror\"\nnodes = [\"L: /dev/a\"]\n" +
                   std::string(line) + "\n");
}

void expect_has(const std::string& text, std::string_view part) {
    EXPECT_NE(text.find(part), std::string::npos) << text << "\n  lacks: " << part;
}

TEST(Config, the_example_of_the_design_is_read) {
    const Config config = parsed(R"(
run_dir = "/run/dst"
state_dir = "/var/lib/dst"
listen = ["127.0.0.1:10809"]
memory = "256M"

[[export]]
name = "disk0"
device = "/dev/sdb"                      # file, block device, memory:512M, storage:NAME
access = [{ from = "127.0.0.0/8", mode = "rw" }]

[[storage]]
name = "vol0"
algorithm = "mirror"
nodes = ["L: /dev/sdc", "R: 127.0.0.1:10810/disk0"]
init = "zero"
grace = "5s"

[[algorithm]]
file = "/usr/lib/dst/stripe.so"
)");
    ASSERT_EQ(config.exports.size(), 1U);
    EXPECT_EQ(config.exports[0].name, "disk0");
    EXPECT_EQ(config.exports[0].device, DeviceSpec(PathDevice{"/dev/sdb"}));
    EXPECT_EQ(config.exports[0].access.at(0).mode, AccessMode::read_write);
    EXPECT_EQ(config.exports[0].where.text, "dst.toml:7");
    ASSERT_EQ(config.storages.size(), 1U);
    EXPECT_EQ(config.storages[0].algorithm, "mirror");
    EXPECT_EQ(to_string(config.storages[0].nodes.at(1)), "R: 127.0.0.1:10810/disk0");
    EXPECT_EQ(config.storages[0].grace, 5s);
    EXPECT_EQ(config.storages[0].hold, std::nullopt);
    EXPECT_EQ(config.storages[0].where.text, "dst.toml:12");
    ASSERT_EQ(config.algorithms.size(), 1U);
    EXPECT_EQ(config.algorithms[0].file, "/usr/lib/dst/stripe.so");
}

TEST(Config, an_empty_file_has_all_defaults) {
    const Config config = parsed("");
    EXPECT_EQ(config, Config{});
    EXPECT_EQ(to_string(config.memory), "256M");
    EXPECT_EQ(io::to_string(config.listen.at(0)), "127.0.0.1:10809");
    EXPECT_EQ(to_toml(config), "");
}

TEST(Config, every_setting_is_read) {
    const Config config = parsed(R"(
run_dir = "r"
state_dir = "s"
listen = ["0.0.0.0:1", "[::1]:2", "unix:/tmp/s"]
metrics_listen = "127.0.0.1:9100"
memory = 1073741824
spin_us = 20
[[export]]
name = "e"
device = "./image"
access = [{ from = "10.0.0.1", mode = "none" }, { from = "10.0.0.0/8", mode = "ro" }]
cache = "buffered"
read_only = true
description = "a disk"
[[storage]]
name = "v"
algorithm = "mirror"
nodes = ["L: memory:64M", { device = "R: [fd00::1]/", size = "10G" },
         { device = "L: /dev/sdc", cache = "buffered" }, "L: storage:w"]
init = "adopt"
grace = "4s"
slow = "20s"
hold = "1m"
takeover = "8s"
quorum = "majority"
read_policy = "least-busy"
resync_size = 4096
resync_timeout = 500
replay_window = "128M"
spin_us = 5
metadata = "nodes"
[storage.options]
width = 3
chunk = "64K"
fast = true
[[storage]]
name = "w"
algorithm = "linear"
nodes = ["L: /dev/sdd"]
)");
    EXPECT_EQ(config.listen.size(), 3U);
    EXPECT_EQ(config.metrics_listen->port, 9100);
    EXPECT_EQ(to_string(config.memory), "1G");
    EXPECT_EQ(config.spin_us, 20U);
    const ExportSpec& e = *config.find_export("e");
    EXPECT_EQ(e.access.size(), 2U);
    EXPECT_EQ(e.cache, io::CacheMode::buffered);
    EXPECT_TRUE(e.read_only);
    const StorageSpec& v = *config.find_storage("v");
    ASSERT_EQ(v.nodes.size(), 4U);
    EXPECT_EQ(v.nodes[1].size_max, ByteCount(10ULL << 30));
    EXPECT_EQ(std::get<RemoteNode>(v.nodes[1].place).endpoint.port, kDefaultPort);
    EXPECT_EQ(std::get<LocalNode>(v.nodes[2].place).cache, io::CacheMode::buffered);
    EXPECT_EQ(v.init, InitMode::adopt);
    EXPECT_EQ(v.hold, 1min);
    EXPECT_EQ(v.quorum, Quorum::majority);
    EXPECT_EQ(v.read_policy, ReadPolicy::least_busy);
    EXPECT_EQ(to_string(v.resync_size), "2M") << "an integer counts sectors, as in the tree";
    EXPECT_EQ(v.resync_timeout, 500ms) << "an integer counts milliseconds, as in the tree";
    EXPECT_EQ(replay_window(v, config), ByteCount(128 << 20));
    EXPECT_EQ(spin_us(v, config), 5U);
    EXPECT_EQ(spin_us(*config.find_storage("w"), config), 20U);
    const std::vector<std::pair<std::string, std::string>> options = {
        {"chunk", "64K"}, {"fast", "true"}, {"width", "3"}};
    EXPECT_EQ(v.options, options);
}

TEST(Config, unknown_keys_are_refused_with_the_line_and_the_key_that_was_meant) {
    EXPECT_EQ(refused("memory = \"256M\"\nmemroy = \"1G\"\n"),
              "dst.toml:2: daemon: unknown key \"memroy\"; did you mean 'memory'?");
    EXPECT_EQ(refused("[[export]]\nname = \"e\"\ndevise = \"/dev/sdb\"\n"),
              "dst.toml:3: export 'e': unknown key \"devise\"; did you mean 'device'?");
    expect_has(refused("[[exports]]\nname = \"e\"\n"), "did you mean 'export'?");
    expect_has(refused("[[storage]]\nresync_timout = \"1s\"\n"), "did you mean 'resync_timeout'?");
    expect_has(refused("[[algorithm]]\nxxxxxxxx = 1\n"), "known are file");
    expect_has(refused("[[storage]]\nstopped = true\n"), "unknown key");
    expect_has(refused("\"a\\nb\" = 1\n"), "\"a\\x0ab\"");
}

TEST(Config, what_is_not_toml_is_refused_with_its_line) {
    EXPECT_TRUE(refused("memory = \"1G\"\nlisten = [\n\n\n").starts_with("dst.toml:"));
    EXPECT_TRUE(refused("a = 1\nb = \n").starts_with("dst.toml:2: not TOML: "));
    EXPECT_TRUE(refused("a = 1\na = 2\n").starts_with("dst.toml:2: "));
    EXPECT_TRUE(refused(std::string_view("a = \"\0\"", 7)).starts_with("dst.toml:1: "));
    EXPECT_TRUE(refused("a = \"\xff\xfe\"").starts_with("dst.toml:1: "));
    refused(std::string(100'000, '['));
    refused("a = " + std::string(100'000, '['));
    refused("a." + std::string(50'000, 'b') + " = 1");
}

TEST(Config, a_wrong_type_is_refused_with_what_to_write) {
    EXPECT_EQ(refused("memory = true\n"),
              "dst.toml:1: daemon: memory: true or false stands here; write a size in quotes, such "
              "as \"64M\"");
    EXPECT_EQ(refused("listen = [\n  \"127.0.0.1:1\",\n  7]\n"),
              "dst.toml:3: daemon: listen: an integer stands here; write addresses in brackets, "
              "such as [\"127.0.0.1:10809\"]");
    expect_has(refused("listen = \"127.0.0.1:1\"\n"), "in brackets");
    expect_has(refused("export = 1\n"), "(two brackets)");
    expect_has(refused("[export]\nname = \"e\"\n"), "(two brackets)");
    expect_has(refused("export = [1]\n"), "not a table");
    expect_has(refused("run_dir = 1\n"), "a string in quotes");
    expect_has(refused("memory = 1979-05-27\n"), "no value of ours");
    expect_has(refused_setting("grace = 5"), "dst.toml:5: storage 'v': grace: 5 has no unit");
    expect_has(refused_setting("grace = 5.5"), "a fraction stands here");
    expect_has(refused_setting("spin_us = \"5\""), "an integer without quotes");
    expect_has(refused_setting("options = 1"), "a table");
    expect_has(refused_setting("options = { a = [1] }"), "\"a\" is an array");
    expect_has(refused_setting("init = 1"), "one of \"zero\", \"adopt\", \"assume-clean\"");
    expect_has(refused("[[export]]\nname = \"e\"\ndevice = \"/d\"\nread_only = 1\n"),
               "true or false");
    expect_has(refused("[[storage]]\nname = \"v\"\nalgorithm = \"a\"\nnodes = \"L: /d\"\n"),
               "in brackets");
}

TEST(Config, a_bad_value_is_refused_with_what_to_do) {
    expect_has(refused("memory = \"1M\"\n"), "too little");
    expect_has(refused("memory = \"lots\"\n"), "is no size");
    expect_has(refused("memory = -5\n"), "out of range");
    expect_has(refused("reactors = 2\n"), "unknown key");
    expect_has(refused("run_dir = \"\"\n"), "it is empty");
    expect_has(refused("listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]\n"), "listed twice");
    refused("listen = [\"127.0.0.1:99999\"]\n");
    refused("metrics_listen = \"127.0.0.1\"\n");
    expect_has(refused_setting("grace = \"5\""), "has no unit; write 5s");
    expect_has(refused_setting("grace = \"0s\""), "is zero");
    expect_has(refused_setting("grace = \"forever\""), "can't be for ever");
    expect_has(refused_setting("hold = \"soon\""), "or \"forever\"");
    expect_has(refused_setting("replay_window = \"0\""), "it is zero");
    expect_has(refused_setting("resync_size = \"100\""), "multiple of 512");
    expect_has(refused_setting("read_policy = \"random\""), "\"nearest\"");
    expect_has(refused_setting("spin_us = 1000000"), "choose 0 to 10000");
    expect_has(refused("[[export]]\nname = \".e\"\ndevice = \"/d\"\n"), "begin with no dot");
    expect_has(refused("[[export]]\nname = \"e\"\ndevice = \"memory:0\"\n"), "no size");
    expect_has(refused("[[export]]\nname = \"e\"\ndevice = \"/d\"\naccess = []\n"), "nobody");
    expect_has(refused("[[storage]]\nname = \"v\"\nalgorithm = \"\"\nnodes = [\"L: /d\"]\n"),
               "algorithm: \"\" can't be a name");
    expect_has(refused("[[storage]]\nname = \"v\"\nalgorithm = \"x\"\nnodes = []\n"), "no nodes");
    expect_has(refused("[[storage]]\nname = \"v\"\nalgorithm = \"x\"\nnodes = [\n\"L: /d\",\n\"Q: "
                       "/d\"]\n"),
               "dst.toml:6: storage 'v': nodes: \"Q: /d\" is neither local nor remote");
    expect_has(refused("[[storage]]\nname = \"v\"\nalgorithm = \"x\"\n"
                       "nodes = [{ device = \"L: /d\", size = \"0\" }]\n"),
               "it is zero");
    expect_has(refused("[[storage]]\nname = \"v\"\nalgorithm = \"x\"\n"
                       "nodes = [{ device = \"R: h/e\", cache = \"buffered\" }]\n"),
               "leave it out");
    expect_has(refused("[[storage]]\nname = \"v\"\nalgorithm = \"x\"\nnodes = [{ sise = 1 }]\n"),
               "known are device, size, cache");
}

TEST(Config, a_missing_key_is_refused_at_its_table) {
    EXPECT_EQ(refused("\n[[export]]\nname = \"e\"\n"),
              "dst.toml:2: export 'e' has no device, and can't be without; add it");
    expect_has(refused("[[storage]]\nalgorithm = \"linear\"\n"), "[[storage]] has no name");
    expect_has(refused("[[algorithm]]\n"), "has no file");
}

TEST(Config, an_access_rule_that_never_counts_is_refused) {
    const auto with = [](std::string_view rules) {
        return "[[export]]\nname = \"e\"\ndevice = \"/d\"\naccess = [" + std::string(rules) + "]\n";
    };
    expect_has(refused(with("{ from = \"10.0.0.0/8\", mode = \"rw\" }, "
                            "{ from = \"10.1.0.0/16\", mode = \"none\" }")),
               "never counts");
    expect_has(refused(with("{ from = \"10.0.0.0/8\" }")), "needs from and mode");
    expect_has(refused(with("{ from = \"10.0.0.0/8\", mode = \"rwx\" }")), "mode: \"rwx\"");
    expect_has(refused(with("{ from = \"10.0.0.0/8\", mode = \"rw\", to = 1 }")), "unknown key");
    refused(with("{ from = \"10.0.0.0/99\", mode = \"rw\" }"));
    parsed(
        with("{ from = \"10.1.0.0/16\", mode = \"none\" }, { from = \"10.0.0.0/8\", mode = \"rw\" "
             "}"));
}

TEST(Config, json_is_read_as_the_same_spec) {
    const auto storage = parse_storage_json(
        R"({"name":"v","algorithm":"linear","nodes":["L: /d",{"device":"R: h/e","size":"1G"}],)"
        R"("hold":"forever","spin_us":3,"options":{"a":"b"}})");
    ASSERT_TRUE(storage.has_value()) << storage.error().text;
    EXPECT_EQ(parse_storage_json(to_json(*storage)).value(), *storage);
    EXPECT_EQ(to_string(storage->nodes[1]), "R: h:10809/e");
    const auto share = parse_export_json(R"({"name":"e","device":"memory:64M"})");
    ASSERT_TRUE(share.has_value());
    EXPECT_EQ(parse_export_json(to_json(*share)).value(), *share);
    EXPECT_EQ(to_json(parse_node_json("\"R: h:1/e\"").value()), "\"R: h:1/e\"");
}

TEST(Config, bad_json_is_refused_without_a_place) {
    const auto text = [](std::string_view json) { return parse_export_json(json).error().text; };
    EXPECT_EQ(text(R"({"name":"e","devise":"/d"})"),
              "export 'e': unknown key \"devise\"; did you mean 'device'?");
    expect_has(text("{"), "not JSON");
    expect_has(text("[]"), "send one object");
    expect_has(text("null"), "send one object");
    expect_has(text(R"({"name":null,"device":"/d"})"), "no value of ours");
    expect_has(text(std::string(1 << 20, '[')), "not JSON");
    expect_has(text(R"({"name":18446744073709551615})"), "a fraction stands here");
    expect_has(text(R"({"name":[[[[[[[[[[[[1]]]]]]]]]]]]})"), "nested");
    EXPECT_FALSE(parse_node_json("7").has_value());
    EXPECT_FALSE(parse_export_json("{\"name\":\"\xff\",\"device\":\"/d\"}").has_value());
}

TEST(Config, the_default_replay_window_leaves_room_in_a_small_memory) {
    const Config config = parsed(
        "memory = \"64M\"\n[[storage]]\nname = \"v\"\nalgorithm = \"x\"\n"
        "nodes = [\"L: /d\"]\n");
    EXPECT_EQ(replay_window(config.storages[0], config), ByteCount(16 << 20));
    EXPECT_EQ(replay_window(config.storages[0], Config{}), ByteCount(64 << 20));
}

}  // namespace
}  // namespace dst::control
