#include "control/metrics.h"

#include <gtest/gtest.h>

namespace dst::control {
namespace {

using namespace std::chrono_literals;

Status example() {
    Status status;
    status.version = "1.2";
    status.memory = {ByteCount(256), ByteCount(16)};
    status.storages.emplace_back();
    StorageStatus& storage = status.storages[0];
    storage.name = "vol0";
    storage.size = SectorCount(4096);
    storage.state = StorageState::degraded;
    storage.nodes.emplace_back();
    storage.nodes[0].cookie = "00000000000000aa";
    storage.nodes[0].type = "R: host/a\"b\\c";
    storage.nodes[0].size = SectorCount(2048);
    storage.nodes[0].stale = SectorCount(128);
    storage.nodes[0].in_sync = true;
    storage.nodes[0].read_errors = 7;
    storage.nodes[0].rewritten = 5;
    status.exports.emplace_back();
    status.exports[0].name = "disk";
    status.exports[0].clients = 3;
    status.attachments.push_back({.name = "vol0",
                                  .via = "nbd",
                                  .device = "/dev/nbd0",
                                  .size = SectorCount(4096),
                                  .reason = "it keeps its size"});
    return status;
}

bool has_line(const std::string& page, const std::string& line) {
    return ("\n" + page).find("\n" + line + "\n") != std::string::npos;
}

TEST(Metrics, gauges_are_made_from_the_status) {
    const std::string page = to_prometheus({.status = example()});
    for (const char* const line :
         {"dst_build_info{version=\"1.2\"} 1", "dst_memory_limit_bytes 256",
          "dst_storage_state{storage=\"vol0\",state=\"degraded\"} 1",
          "dst_storage_state{storage=\"vol0\",state=\"running\"} 0",
          "dst_storage_size_sectors{storage=\"vol0\"} 4096",
          "dst_node_stale_sectors{storage=\"vol0\",node=\"n-0-00000000000000aa\","
          "type=\"R: host/a\\\"b\\\\c\"} 128",
          "dst_node_read_errors_total{storage=\"vol0\",node=\"n-0-00000000000000aa\","
          "type=\"R: host/a\\\"b\\\\c\"} 7",
          "dst_node_rewritten_total{storage=\"vol0\",node=\"n-0-00000000000000aa\","
          "type=\"R: host/a\\\"b\\\\c\"} 5",
          "dst_attachment_size_sectors{storage=\"vol0\",via=\"nbd\",device=\"/dev/nbd0\"} 4096",
          "dst_attachment_trouble{storage=\"vol0\",via=\"nbd\",device=\"/dev/nbd0\"} 1",
          "dst_export_clients{export=\"disk\"} 3"})
        EXPECT_TRUE(has_line(page, line)) << line << "\n" << page;
}

TEST(Metrics, each_has_a_help_and_a_type_before_its_samples) {
    const std::string page = to_prometheus({.status = example()});
    EXPECT_TRUE(has_line(page, "# TYPE dst_storage_state gauge"));
    EXPECT_TRUE(has_line(page, "# TYPE dst_node_reconnects_total counter"));
    EXPECT_LT(page.find("# HELP dst_node_in_sync "), page.find("# TYPE dst_node_in_sync "));
    EXPECT_LT(page.find("# TYPE dst_node_in_sync "), page.find("\ndst_node_in_sync{"));
}

TEST(Metrics, histograms_are_cumulative_and_end_with_infinity) {
    block::Measures measures;
    block::ByOp<Latency> queueing;
    block::Request request;
    request.op = block::Op::write;
    request.range = {SectorIndex(0), SectorCount(8)};
    measures.note(request, {}, 3us);
    measures.note(request, {}, 3us);
    measures.note(request, fail(ErrorCode::io_error), 24h);
    Figures figures{.status = example()};
    figures.storages["vol0"] = {.measures = &measures, .queueing = &queueing};
    const std::string page = to_prometheus(figures);
    const std::string labels = "{storage=\"vol0\",operation=\"write\",stage=\"total\"";
    const std::string name = "dst_storage_request_duration_seconds";
    for (const std::string& line :
         {name + "_bucket" + labels + ",le=\"1e-06\"} 0",
          name + "_bucket" + labels + ",le=\"4e-06\"} 2",
          name + "_bucket" + labels + ",le=\"16.777216\"} 2",
          name + "_bucket" + labels + ",le=\"+Inf\"} 3", name + "_count" + labels + "} 3",
          std::string("dst_storage_bytes_total{storage=\"vol0\",operation=\"write\"} 8192"),
          std::string("dst_storage_errors_total{storage=\"vol0\",operation=\"write\"} 1"),
          std::string("dst_storage_requests_total{storage=\"vol0\",operation=\"read\"} 0")})
        EXPECT_TRUE(has_line(page, line)) << line << "\n" << page;
    EXPECT_EQ(page.find("operation=\"read\",stage"), std::string::npos) << "a histogram of nothing";
}

TEST(Metrics, what_left_its_node_is_counted_where_the_node_is_told_from_others) {
    EventLog events;
    Status status = example();
    events.look(status);
    status.storages[0].nodes[0].in_sync = false;
    events.look(status);
    const std::string page = to_prometheus({.status = status, .events = &events});
    EXPECT_NE(page.find("\ndst_node_detached_total{storage=\"vol0\",node=\"n-0-00000000000000aa\""),
              std::string::npos);
    EXPECT_TRUE(has_line(page, "dst_events_total{event=\"node_state\"} 1"));
    status.storages[0].nodes[0].cookie = "0000000000000000";
    EXPECT_EQ(to_prometheus({.status = status}).find("\ndst_node_in_sync{"), std::string::npos);
}

}  // namespace
}  // namespace dst::control
