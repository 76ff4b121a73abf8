// Metrics: a status, and what was counted since the start, in the text format of Prometheus.
//
// Pure. Gauges are made from the status that everything else shows. Positions and sizes are
// sectors, as everywhere; times are seconds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "block/measures.h"
#include "control/events.h"
#include "control/status.h"
#include "storage/storage.h"

namespace dst::control {

/// Of a storage. What is pointed to is there.
struct StorageFigures {
    const block::Measures* measures = nullptr;
    const block::ByOp<Latency>* queueing = nullptr;
    std::uint64_t waiting = 0;  // requests that wait for a node
    std::vector<storage::NodeMeasures> nodes{};
};

struct ExportFigures {
    const block::Measures* measures = nullptr;
    std::uint64_t checksum_errors = 0;
};

struct Figures {
    Status status;
    std::map<std::string, StorageFigures> storages{};
    std::map<std::string, ExportFigures> exports{};
    const EventLog* events = nullptr;
};

/// The whole page. Series that have counted nothing yet are left out of the histograms alone.
[[nodiscard]] std::string to_prometheus(const Figures& figures);
/// What the page is, for HTTP.
inline constexpr std::string_view kPrometheusType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace dst::control
