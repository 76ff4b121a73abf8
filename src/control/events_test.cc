#include "control/events.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace dst::control {
namespace {

NodeStatus node(std::string cookie) {
    NodeStatus node;
    node.cookie = std::move(cookie);
    node.type = "L: /dev/sdb";
    node.in_sync = true;
    node.connected = true;
    return node;
}

Status one_storage() {
    Status status;
    status.storages.emplace_back();
    status.storages[0].name = "vol0";
    status.storages[0].state = StorageState::running;
    status.storages[0].nodes = {node("00000000000000aa"), node("00000000000000bb")};
    return status;
}

std::vector<std::string> kinds(const std::vector<Event>& events) {
    std::vector<std::string> kinds;
    for (const Event& event : events) kinds.emplace_back(to_string(event.kind));
    return kinds;
}

TEST(Events, equal_looks_have_nothing_between_them) {
    EXPECT_TRUE(events_between(one_storage(), one_storage()).empty());
}

TEST(Events, what_comes_and_goes_is_told_with_its_nodes) {
    EXPECT_EQ(kinds(events_between({}, one_storage())),
              (std::vector<std::string>{"storage_added", "node_added", "node_added"}));
    EXPECT_EQ(kinds(events_between(one_storage(), {})),
              std::vector<std::string>{"storage_removed"});
    Status fewer = one_storage();
    fewer.storages[0].nodes.pop_back();
    EXPECT_EQ(kinds(events_between(one_storage(), fewer)),
              std::vector<std::string>{"node_removed"});
    Status shown;
    shown.exports.emplace_back();
    EXPECT_EQ(kinds(events_between({}, shown)), std::vector<std::string>{"export_added"});
    EXPECT_EQ(kinds(events_between(shown, {})), std::vector<std::string>{"export_removed"});
}

TEST(Events, what_is_attached_is_told_once_it_has_a_name) {
    Status coming;
    coming.attachments.push_back({.name = "vol0", .via = "ublk", .device = {}, .size = {}});
    Status there = coming;
    there.attachments[0].device = "/dev/ublkb0";
    Status elsewhere = there;
    elsewhere.attachments[0].device = "/dev/ublkb1";
    EXPECT_TRUE(events_between({}, coming).empty());
    EXPECT_EQ(kinds(events_between(coming, there)), std::vector<std::string>{"attached"});
    EXPECT_EQ(kinds(events_between(there, elsewhere)),
              (std::vector<std::string>{"detached", "attached"}));
    const std::vector<Event> gone = events_between(there, coming);
    ASSERT_EQ(kinds(gone), std::vector<std::string>{"detached"});
    EXPECT_EQ(to_json(gone[0]),
              R"({"sequence":0,"time":"1970-01-01T00:00:00.000Z","event":"detached",)"
              R"("storage":"vol0","type":"ublk","from":"/dev/ublkb0"})");
}

TEST(Events, states_say_from_where_to_where_and_why) {
    Status after = one_storage();
    after.storages[0].state = StorageState::degraded;
    NodeStatus& lost = after.storages[0].nodes[1];
    lost.in_sync = lost.connected = false;
    lost.reason = "the connection broke";
    const auto events = events_between(one_storage(), after);
    ASSERT_EQ(kinds(events),
              (std::vector<std::string>{"node_link", "node_state", "storage_state"}));
    EXPECT_EQ(events[0].from + ">" + events[0].to, "up>down");
    EXPECT_EQ(events[1].from + ">" + events[1].to, "sync>notsync");
    EXPECT_EQ(events[1].cookie, "00000000000000bb");
    EXPECT_EQ(events[1].reason, "the connection broke");
    EXPECT_EQ(events[2].from + ">" + events[2].to, "running>degraded");
}

TEST(Events, nodes_without_a_cookie_are_nobody_yet) {
    Status unknown = one_storage();
    for (NodeStatus& each : unknown.storages[0].nodes) each.cookie = "0000000000000000";
    EXPECT_EQ(kinds(events_between({}, unknown)), std::vector<std::string>{"storage_added"});
    EXPECT_EQ(kinds(events_between(unknown, one_storage())),
              (std::vector<std::string>{"node_added", "node_added"}));
}

TEST(EventLog, numbers_events_and_gives_those_after_a_number) {
    EventLog log;
    EXPECT_TRUE(log.look(one_storage()));
    EXPECT_FALSE(log.look(one_storage()));
    EXPECT_EQ(log.last(), 3U);
    const auto sequences = [&](std::uint64_t after) {
        std::vector<std::uint64_t> numbers;
        const auto json = nlohmann::json::parse(log.since(after));
        EXPECT_EQ(json["last"], log.last());
        for (const auto& event : json["events"]) numbers.push_back(event["sequence"]);
        return numbers;
    };
    EXPECT_EQ(sequences(0), (std::vector<std::uint64_t>{1, 2, 3}));
    EXPECT_EQ(sequences(2), (std::vector<std::uint64_t>{3}));
    EXPECT_EQ(sequences(3), (std::vector<std::uint64_t>{}));
    // From another life of the daemon.
    EXPECT_EQ(sequences(77), (std::vector<std::uint64_t>{1, 2, 3}));
}

TEST(EventLog, is_calm_while_all_storages_run_or_are_stopped) {
    EventLog log;
    EXPECT_TRUE(log.is_calm());
    Status status = one_storage();
    log.look(status);
    EXPECT_TRUE(log.is_calm());
    status.storages[0].state = StorageState::degraded;
    log.look(status);
    EXPECT_FALSE(log.is_calm());
    status.storages[0].state = StorageState::stopped;
    log.look(status);
    EXPECT_TRUE(log.is_calm());
}

TEST(EventLog, keeps_a_bounded_number) {
    EventLog log;
    Status with = one_storage();
    for (std::size_t i = 0; i < EventLog::kKept; ++i) {
        log.look(with);
        log.look({});
    }
    const auto json = nlohmann::json::parse(log.since(0));
    EXPECT_EQ(json["events"].size(), EventLog::kKept);
    EXPECT_EQ(json["events"].back()["sequence"], log.last());
}

TEST(EventLog, counts_how_often_a_node_got_out_of_sync_while_it_is_there) {
    EventLog log;
    Status in = one_storage();
    Status out = one_storage();
    out.storages[0].nodes[1].in_sync = false;
    for (int i = 0; i < 3; ++i) {
        log.look(in);
        log.look(out);
    }
    EXPECT_EQ(log.detachments("vol0", "00000000000000bb"), 3U);
    EXPECT_EQ(log.detachments("vol0", "00000000000000aa"), 0U);
    EXPECT_EQ(log.count(EventKind::node_state), 5U);
    log.look({});
    log.look(in);
    EXPECT_EQ(log.detachments("vol0", "00000000000000bb"), 0U);
}

TEST(Events, are_a_line_of_json_each) {
    Event event;
    event.sequence = 7;
    event.kind = EventKind::node_state;
    event.name = "vol0";
    event.cookie = "00000000000000aa";
    event.from = "sync";
    event.to = "notsync";
    event.reason = "a\nb";
    EXPECT_EQ(to_json(event),
              R"({"sequence":7,"time":"1970-01-01T00:00:00.000Z","event":"node_state",)"
              R"("storage":"vol0","node":"00000000000000aa","from":"sync","to":"notsync",)"
              R"("reason":"a\nb"})");
}

}  // namespace
}  // namespace dst::control
