#include "control/status.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace dst::control {
namespace {

using namespace std::chrono_literals;

const io::WallTime kNoon = std::chrono::sys_days(std::chrono::year(2026) / 1 / 31) + 12h;

Status example() {
    Status status;
    status.version = "0.1.0";
    status.time = kNoon + 302s;
    status.memory = {ByteCount(256 << 20), ByteCount(12 << 20)};
    NodeStatus far = {"0123456789abcdef",
                      "R: 127.0.0.1:10810/disk0",
                      SectorIndex(2048),
                      SectorCount(4096),
                      true,
                      false,
                      SectorCount(0),
                      "connection refused",
                      {"unprotected", "checksum"},
                      3,
                      2};
    NodeStatus near = {"fedcba9876543210",
                       "L: /dev/sdb",
                       SectorIndex(0),
                       SectorCount(2048),
                       true,
                       true,
                       SectorCount(8),
                       "",
                       {"connected"}};
    status.storages.push_back({"vol0",
                               "linear",
                               SectorCount(6144),
                               StorageState::holding,
                               "node R: 127.0.0.1:10810/disk0 does not answer",
                               kNoon,
                               {"/dev/ublkb0"},
                               {near, far},
                               {SectorCount(100), SectorCount(200), 1 << 20}});
    status.exports.push_back({"disk0", "storage:vol0", SectorCount(6144), 2, false, "all of it"});
    status.algorithms.push_back({"linear", "end to end", "", 1});
    status.algorithms.push_back({"stripe", "in turns", "/lib/stripe.so", 0});
    status.warnings.push_back("storage 'vol0' was stopped at run time");
    return status;
}

TEST(StatusJson, has_the_names_of_the_contract) {
    const auto json = nlohmann::json::parse(to_json(example()));
    const auto& storage = json.at("storages").at(0);
    EXPECT_EQ(storage.at("name"), "vol0");
    EXPECT_EQ(storage.at("algorithm"), "linear");
    EXPECT_EQ(storage.at("size"), 6144);
    EXPECT_EQ(storage.at("state"), "holding");
    EXPECT_EQ(storage.at("reason"), "node R: 127.0.0.1:10810/disk0 does not answer");
    EXPECT_EQ(storage.at("since"), "2026-01-31T12:00:00.000Z");
    EXPECT_EQ(storage.at("attached_as").at(0), "/dev/ublkb0");
    EXPECT_EQ(storage.at("resync"),
              nlohmann::json(
                  {{"done", 100}, {"total", 200}, {"rate", 1 << 20}, {"size", 0}, {"timeout", 0}}));
    const auto& node = storage.at("nodes").at(1);
    EXPECT_EQ(node.at("cookie"), "0123456789abcdef");
    EXPECT_EQ(node.at("type"), "R: 127.0.0.1:10810/disk0");
    EXPECT_EQ(node.at("start"), 2048);
    EXPECT_EQ(node.at("size"), 4096);
    EXPECT_EQ(node.at("state"), "sync");
    EXPECT_EQ(node.at("connected"), false);
    EXPECT_EQ(node.at("stale"), 0);
    EXPECT_EQ(node.at("reason"), "connection refused");
    EXPECT_EQ(node.at("flags").at(0), "unprotected");
    EXPECT_EQ(node.at("read_errors"), 3);
    EXPECT_EQ(node.at("rewritten"), 2);
    const auto& share = json.at("exports").at(0);
    EXPECT_EQ(share.at("name"), "disk0");
    EXPECT_EQ(share.at("device"), "storage:vol0");
    EXPECT_EQ(share.at("size"), 6144);
    EXPECT_EQ(share.at("clients"), 2);
    EXPECT_EQ(json.at("memory"), nlohmann::json({{"limit", 256 << 20}, {"used", 12 << 20}}));
    EXPECT_EQ(json.at("version"), "0.1.0");
    EXPECT_EQ(json.at("warnings").size(), 1U);
    EXPECT_EQ(json.at("algorithms").at(1).at("file"), "/lib/stripe.so");
}

TEST(StatusJson, empty_parts_are_empty_lists) {
    const auto json = nlohmann::json::parse(to_json(Status{}));
    for (const char* key : {"storages", "exports", "algorithms", "warnings"}) {
        EXPECT_TRUE(json.at(key).is_array()) << key;
    }
    Status status;
    status.storages.emplace_back();
    const auto storage = nlohmann::json::parse(to_json(status)).at("storages").at(0);
    EXPECT_TRUE(storage.at("nodes").is_array());
    EXPECT_TRUE(storage.at("attached_as").is_array());
}

TEST(StatusJson, is_read_back_as_the_same) {
    EXPECT_EQ(parse_status(to_json(example())).value(), example());
    EXPECT_EQ(parse_status(to_json(Status{})).value(), Status{});
    EXPECT_EQ(parse_status(to_json(example().exports)).value().exports, example().exports);
    EXPECT_EQ(parse_status(to_json(example().storages)).value().storages, example().storages);
    EXPECT_EQ(parse_status(to_json(example().algorithms)).value().algorithms, example().algorithms);
}

TEST(StatusJson, an_answer_of_another_version_or_of_nobody_is_no_crash) {
    EXPECT_EQ(parse_status("{\"more\":1}").value(), Status{});
    for (const char* bad :
         {"", "[]", "7", "{\"storages\":7}", "{\"storages\":[7]}",
          "{\"exports\":[{\"size\":\"x\"}]}", "{\"storages\":[{\"nodes\":{}}]", "\xff"}) {
        EXPECT_FALSE(parse_status(bad).has_value()) << bad;
    }
}

TEST(StatusJson, text_of_peers_that_is_no_utf8_is_replaced) {
    Status status = example();
    status.storages[0].reason = "\xff\xfe";
    EXPECT_TRUE(nlohmann::json::accept(to_json(status)));
}

TEST(StatusTable, has_aligned_columns) {
    EXPECT_EQ(to_table(example(), {}),
              "dst 0.1.0, 12.0 MiB of 256 MiB memory in use\n"
              "\n"
              "STORAGE  ALGORITHM  SIZE      STATE    SINCE  ATTACHED     REASON\n"
              "vol0     linear     3.00 MiB  holding  5m 2s  /dev/ublkb0  node R: "
              "127.0.0.1:10810/disk0 does not answer\n"
              "\n"
              "STORAGE  NODE                      START     SIZE      STATE  LINK  STALE     "
              "FLAGS                 REASON\n"
              "vol0     L: /dev/sdb               0 B       1.00 MiB  sync   up    4.00 KiB  "
              "connected             -\n"
              "vol0     R: 127.0.0.1:10810/disk0  1.00 MiB  2.00 MiB  sync   down  -         "
              "unprotected checksum  connection refused; 3 reads failed, 2 of them written again\n"
              "\n"
              "resync of vol0: 50.0 %, 50.0 KiB of 100 KiB, 1.00 MiB a second\n"
              "\n"
              "EXPORT  DEVICE        SIZE      ACCESS          CLIENTS\n"
              "disk0   storage:vol0  3.00 MiB  read and write  2\n"
              "\n"
              "ALGORITHM  USES  FILE            DESCRIPTION\n"
              "stripe     0     /lib/stripe.so  in turns\n"
              "\n"
              "warning: storage 'vol0' was stopped at run time\n");
}

TEST(StatusTable, colours_do_not_move_columns) {
    std::string painted = to_table(example(), {.colour = true});
    EXPECT_NE(painted.find("\x1b[31mholding\x1b[0m"), std::string::npos);
    for (auto at = painted.find('\x1b'); at != std::string::npos; at = painted.find('\x1b')) {
        painted.erase(at, painted.find('m', at) - at + 1);
    }
    EXPECT_EQ(painted, to_table(example(), {}));
}

TEST(StatusTable, text_of_peers_does_not_reach_the_terminal_as_commands) {
    Status status = example();
    status.storages[0].reason = "\x1b[2J\nowned";
    const std::string table = to_table(status, {});
    EXPECT_EQ(table.find('\x1b'), std::string::npos);
    EXPECT_NE(table.find("?[2J?owned"), std::string::npos);
}

TEST(StatusTable, an_empty_daemon_has_one_line) {
    EXPECT_EQ(to_table(Status{}, {}), "dst , 0 B of 0 B memory in use\n");
}

TEST(Rfc3339, times_come_back) {
    for (const char* text :
         {"1970-01-01T00:00:00.000Z", "2024-02-29T23:59:59.999Z", "2026-12-31T12:34:56.789Z"}) {
        EXPECT_EQ(to_rfc3339(parse_rfc3339(text).value()), text);
    }
    for (const char* bad :
         {"", "2026-01-31", "2026-02-30T00:00:00.000Z", "2026-01-31T24:00:00.000Z",
          "2026-01-31T12:00:00.25Z0", "-026-01-31T12:00:00.250Z", "2026-01-31 12:00:00.250Z",
          "9999-01-31T12:00:00.250Z"}) {
        EXPECT_FALSE(parse_rfc3339(bad).has_value()) << bad;
    }
}

}  // namespace
}  // namespace dst::control
