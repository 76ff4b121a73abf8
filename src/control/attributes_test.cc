#include "control/attributes.h"

#include <gtest/gtest.h>

#include <random>

#include "control/api_server_fake_test.h"
#include "control/attribute_tree.h"

namespace dst::control {
namespace {

NodeStatus node(std::uint64_t start, std::string cookie, std::string type) {
    NodeStatus node;
    node.start = SectorIndex(start);
    node.size = SectorCount(2048);
    node.cookie = std::move(cookie);
    node.type = std::move(type);
    node.in_sync = true;
    node.connected = true;
    node.flags = {"connected", "checksum"};
    return node;
}

StorageStatus vol0() {
    StorageStatus storage;
    storage.name = "vol0";
    storage.algorithm = "mirror";
    storage.nodes = {node(0, "00000000000000aa", "L: /dev/sdb"),
                     node(2048, "00000000000000bb", "R: 192.168.4.81:1025/disk0")};
    storage.resync.size = SectorCount(2048);
    storage.resync.timeout = std::chrono::milliseconds(500);
    return storage;
}

TEST(Attributes, have_the_names_and_forms_of_the_seed) {
    const StorageStatus storage = vol0();
    const NodeStatus& second = storage.nodes[1];
    EXPECT_EQ(value_of(storage, Attribute::alg), "mirror");
    EXPECT_EQ(value_of(storage, Attribute::name), "vol0");
    EXPECT_EQ(value_of(storage, Attribute::nodes),
              "n-0-00000000000000aa 0 2048 L: /dev/sdb\n"
              "n-2048-00000000000000bb 2048 2048 R: 192.168.4.81:1025/disk0");
    EXPECT_EQ(node_name(second), "n-2048-00000000000000bb");
    EXPECT_EQ(value_of(storage, second, Attribute::state), "sync");
    EXPECT_EQ(value_of(storage, second, Attribute::flags), "connected checksum");
    EXPECT_EQ(value_of(storage, second, Attribute::size), "2048");
    EXPECT_EQ(value_of(storage, second, Attribute::start), "2048");
    EXPECT_EQ(value_of(storage, second, Attribute::type), "R: 192.168.4.81:1025/disk0");
    EXPECT_EQ(value_of(storage, second, Attribute::resync_size), "2048");
    EXPECT_EQ(value_of(storage, second, Attribute::resync_timout), "500");
    EXPECT_EQ(value_of(storage, second, Attribute::resync_timeout), "500");
}

TEST(Attributes, a_value_is_one_line_whatever_a_peer_is_called) {
    StorageStatus storage = vol0();
    storage.nodes[0].type = "R: host/a\nb\x1b[2J";
    EXPECT_EQ(value_of(storage, storage.nodes[0], Attribute::type), "R: host/a?b?[2J");
    EXPECT_EQ(std::ranges::count(value_of(storage, Attribute::nodes), '\n'), 1);
}

TEST(Attributes, a_node_that_was_never_looked_at_has_no_place_in_the_map) {
    StorageStatus storage = vol0();
    storage.nodes[0].cookie = "0000000000000000";
    EXPECT_EQ(value_of(storage, Attribute::nodes),
              "n-2048-00000000000000bb 2048 2048 R: 192.168.4.81:1025/disk0");
    EXPECT_EQ(find_node(storage, "n-0-0000000000000000"), nullptr);
}

TEST(Attributes, two_nodes_of_one_name_are_one_in_the_tree) {
    StorageStatus storage = vol0();
    storage.nodes.push_back(storage.nodes[0]);
    EXPECT_EQ(known_nodes(storage).size(), 2U);
    EXPECT_EQ(find_node(storage, "n-0-00000000000000aa"), &storage.nodes[0]);
    EXPECT_EQ(find_node(storage, "00000000000000aa"), nullptr);
}

TEST(Attributes, wishes_are_read_with_and_without_a_newline) {
    EXPECT_EQ(parse_wish(Attribute::dirty, "1\n"), Wish(MarkNode{false}));
    EXPECT_EQ(parse_wish(Attribute::clean, "1"), Wish(MarkNode{true}));
    EXPECT_EQ(parse_wish(Attribute::remove_all_nodes, "1\n"), Wish(RemoveAllNodes{}));
    EXPECT_EQ(parse_wish(Attribute::resync_size, "4096\n"),
              Wish(ChangeResync{SectorCount(4096), {}}));
    EXPECT_EQ(parse_wish(Attribute::resync_timout, "250\n"),
              Wish(ChangeResync{{}, std::chrono::milliseconds(250)}));
    EXPECT_EQ(parse_wish(Attribute::resync_timeout, "250"),
              Wish(ChangeResync{{}, std::chrono::milliseconds(250)}));
}

TEST(Attributes, all_else_is_no_wish) {
    for (const char* const text : {"", "\n", "0", "2", "1\n\n", " 1", "1 ", "yes", "force", "-1"}) {
        for (const Attribute attribute : {Attribute::clean, Attribute::dirty}) {
            const auto wish = parse_wish(attribute, text);
            ASSERT_FALSE(wish.has_value()) << text;
            EXPECT_EQ(wish.error().code, ErrorCode::invalid);
        }
        if (std::string_view(text) != "2")
            EXPECT_FALSE(parse_wish(Attribute::resync_size, text).has_value()) << text;
    }
    EXPECT_FALSE(parse_wish(Attribute::remove_all_nodes, "force").has_value());
    for (const char* const text :
         {"+5", "5.0", "0x10", "1e3", "18446744073709551616", "36028797018963968", "1M"})
        EXPECT_FALSE(parse_wish(Attribute::resync_size, text).has_value()) << text;
    for (const char* const text : {"0", "86400001", "10s"})
        EXPECT_FALSE(parse_wish(Attribute::resync_timeout, text).has_value()) << text;
    using std::string_literals::operator""s;
    EXPECT_FALSE(parse_wish(Attribute::resync_size, "5\0"s).has_value());
}

TEST(Attributes, what_can_only_be_read_is_not_permitted_to_be_written) {
    for (const auto& all : {storage_attributes(), node_attributes()}) {
        for (const AttributeInfo& info : all) {
            if (info.use != Use::read) continue;
            const auto wish = parse_wish(info.attribute, "1");
            ASSERT_FALSE(wish.has_value());
            EXPECT_EQ(wish.error().code, ErrorCode::not_permitted);
        }
    }
}

TEST(Attributes, random_bytes_are_either_refused_or_read_back_as_written) {
    std::mt19937 random(17);
    int accepted = 0;
    for (int i = 0; i < 20'000; ++i) {
        std::string text;
        for (std::size_t length = random() % 6; text.size() < length;)
            text += static_cast<char>(random() % 4 != 0 ? '0' + random() % 10 : random() % 256);
        const auto wish = parse_wish(Attribute::resync_size, text);
        if (!wish) continue;
        ++accepted;
        StorageStatus storage = vol0();
        storage.resync.size = *std::get<ChangeResync>(*wish).size;
        const std::string shown = value_of(storage, storage.nodes[0], Attribute::resync_size);
        EXPECT_EQ(std::stoull(text), std::stoull(shown));
    }
    EXPECT_GT(accepted, 1000);
}

// The tree ---------------------------------------------------------------------------------------

class OneStorage final : public View {
  public:
    std::vector<std::string> storage_names() const override { return {"vol0"}; }
    std::shared_ptr<const StorageStatus> storage(std::string_view name) const override {
        return name == "vol0" ? std::make_shared<const StorageStatus>(shown) : nullptr;
    }
    StorageStatus shown = vol0();
};

std::vector<std::string> names_in(const AttributeTree& tree, std::string_view path) {
    std::vector<std::string> names;
    for (const tree::Named& named : tree.list(path)) names.push_back(named.name);
    return names;
}

struct AttributeTreeTest : testing::Test {
    OneStorage view;
    FakeOperations operations;
    AttributeTree tree{view, operations};
    const std::string first = "devices/vol0/n-0-00000000000000aa";
};

TEST_F(AttributeTreeTest, has_the_folders_and_files_of_the_seed) {
    EXPECT_EQ(names_in(tree, ""), std::vector<std::string>{"devices"});
    EXPECT_EQ(names_in(tree, "devices"), std::vector<std::string>{"vol0"});
    EXPECT_EQ(names_in(tree, "devices/vol0"),
              (std::vector<std::string>{"alg", "name", "nodes", "remove_all_nodes",
                                        "n-0-00000000000000aa", "n-2048-00000000000000bb"}));
    EXPECT_EQ(
        names_in(tree, first),
        (std::vector<std::string>{"clean", "dirty", "resync_size", "resync_timout",
                                  "resync_timeout", "state", "flags", "size", "start", "type"}));
}

TEST_F(AttributeTreeTest, a_file_is_a_value_and_a_newline) {
    EXPECT_EQ(tree.read("devices/vol0/alg"), "mirror\n");
    EXPECT_EQ(tree.read(first + "/state"), "sync\n");
    view.shown.nodes[0].flags.clear();
    EXPECT_EQ(tree.read(first + "/flags"), "\n");
    view.shown.nodes.clear();
    EXPECT_EQ(tree.read("devices/vol0/nodes"), "");
}

TEST_F(AttributeTreeTest, files_can_be_used_as_the_seed_says) {
    const auto use = [&](const std::string& path) {
        const auto entry = tree.find(path).value();
        return std::string(entry.can_read ? "r" : "") + (entry.can_write ? "w" : "");
    };
    EXPECT_EQ(use("devices/vol0/nodes"), "r");
    EXPECT_EQ(use("devices/vol0/remove_all_nodes"), "w");
    EXPECT_EQ(use(first + "/dirty"), "w");
    EXPECT_EQ(use(first + "/clean"), "w");
    EXPECT_EQ(use(first + "/resync_size"), "rw");
    EXPECT_EQ(use(first + "/resync_timout"), "rw");
    EXPECT_EQ(use(first + "/state"), "r");
}

TEST_F(AttributeTreeTest, what_is_not_there_is_not_found) {
    for (const char* const path :
         {"x", "devices/vol1", "devices/vol0/x", "devices/vol0/alg/x", "devices/vol0/n-0-",
          "devices/vol0/n-1-00000000000000aa", "devices/vol0/n-0-00000000000000aa/x",
          "devices/vol0/n-0-00000000000000aa/state/x", "devices//alg"})
        EXPECT_FALSE(tree.find(path).has_value()) << path;
    view.shown.nodes.clear();
    EXPECT_FALSE(tree.find(first).has_value());
    EXPECT_EQ(tree.read(first + "/state"), std::nullopt);
    EXPECT_TRUE(tree.list(first).empty());
}

TEST_F(AttributeTreeTest, is_there_as_json_too) {
    EXPECT_EQ(tree.read_as_json("devices"), R"({"entries":["vol0"]})");
    EXPECT_EQ(tree.read_as_json(first + "/state"), R"({"value":"sync"})");
    EXPECT_EQ(tree.read_as_json(first + "/dirty").error().code, ErrorCode::not_permitted);
    EXPECT_EQ(tree.read_as_json("x").error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace dst::control
