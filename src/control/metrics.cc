#include "control/metrics.h"

#include <fmt/format.h>

#include <array>
#include <initializer_list>
#include <iterator>
#include <utility>

#include "control/attributes.h"

namespace dst::control {
namespace {

constexpr auto kOperations =
    std::to_array({block::Op::read, block::Op::write, block::Op::flush, block::Op::trim,
                   block::Op::write_zeroes, block::Op::block_status});
static_assert(kOperations.size() == block::kOps);
constexpr auto kStates =
    std::to_array({StorageState::running, StorageState::degraded, StorageState::holding,
                   StorageState::waiting, StorageState::fenced, StorageState::stopped});

struct Label {
    std::string_view name;
    std::string_view value;
};
using Labels = std::vector<Label>;

/// In a label's value backslash, quote and newline are escaped.
void append_escaped(std::string& to, std::string_view value) {
    for (const char c : value) {
        if (c == '\\' || c == '"') to += '\\';
        if (c == '\n')
            to += "\\n";
        else
            to += c;
    }
}

std::string seconds(std::chrono::nanoseconds time) {
    return fmt::format("{}", std::chrono::duration<double>(time).count());
}

/// Writes one metric: its head, then its samples.
class Page {
  public:
    /// All samples of a metric follow each other.
    void begin(std::string_view name, std::string_view type, std::string_view help) {
        name_ = name;
        fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name,
                       type);
    }
    void sample(const Labels& labels, std::string_view value, std::string_view suffix = {}) {
        text_ += name_;
        text_ += suffix;
        char before = '{';
        for (const Label& label : labels) {
            text_ += before;
            text_ += label.name;
            text_ += "=\"";
            append_escaped(text_, label.value);
            text_ += '"';
            before = ',';
        }
        if (!labels.empty()) text_ += '}';
        text_ += ' ';
        text_ += value;
        text_ += '\n';
    }
    void sample(const Labels& labels, std::uint64_t value) {
        sample(labels, fmt::format_int(value).c_str());
    }
    void histogram(Labels labels, const Latency& latency) {
        const std::uint64_t count = latency.count();
        if (count == 0) return;
        std::uint64_t below = 0;
        labels.push_back({"le", {}});
        for (std::size_t at = 0; at < Latency::kBuckets; ++at) {
            below += latency.buckets()[at];
            const bool is_last = at + 1 == Latency::kBuckets;
            const std::string end = is_last ? "+Inf" : seconds(Latency::end_of(at));
            labels.back().value = end;
            sample(labels, fmt::format_int(below).c_str(), "_bucket");
        }
        labels.pop_back();
        sample(labels, seconds(latency.sum()), "_sum");
        sample(labels, fmt::format_int(count).c_str(), "_count");
    }
    [[nodiscard]] std::string take() { return std::move(text_); }

  private:
    std::string text_;
    std::string name_;
};

/// What has measures: storages or exports, by name.
using Measured = std::vector<std::pair<std::string_view, const block::Measures*>>;

void write_measures(Page& page, const std::string& kind, const Measured& all) {
    const auto each_operation = [&](auto visit) {
        for (const auto& [name, measures] : all)
            for (const block::Op op : kOperations)
                visit(Labels{{kind, name}, {"operation", to_string(op)}}, (*measures)[op]);
    };
    page.begin(fmt::format("dst_{}_requests_total", kind), "counter", "Requests that are done.");
    each_operation([&](const Labels& labels, const block::Measure& measure) {
        page.sample(labels, measure.took.count());
    });
    page.begin(fmt::format("dst_{}_errors_total", kind), "counter", "Requests that failed.");
    each_operation([&](const Labels& labels, const block::Measure& measure) {
        page.sample(labels, measure.errors);
    });
    page.begin(fmt::format("dst_{}_bytes_total", kind), "counter",
               "Bytes of the ranges of requests that succeeded.");
    each_operation([&](const Labels& labels, const block::Measure& measure) {
        page.sample(labels, to_bytes(SectorCount(measure.sectors)).value());
    });
}

void write_daemon(Page& page, const Status& status) {
    page.begin("dst_build_info", "gauge", "The daemon's version; always 1.");
    page.sample({{"version", status.version}}, std::uint64_t{1});
    page.begin("dst_memory_limit_bytes", "gauge", "What the daemon may use: the setting memory.");
    page.sample({}, status.memory.limit.value());
    page.begin("dst_memory_used_bytes", "gauge", "Buffers that are in use.");
    page.sample({}, status.memory.used.value());
}

void write_storages(Page& page, const Figures& figures) {
    const auto gauge = [&](std::string_view name, std::string_view help, auto value_of_one) {
        page.begin(name, "gauge", help);
        for (const StorageStatus& storage : figures.status.storages)
            page.sample({{"storage", storage.name}}, value_of_one(storage));
    };
    page.begin("dst_storage_state", "gauge", "1 for the state that a storage is in, else 0.");
    for (const StorageStatus& storage : figures.status.storages)
        for (const StorageState state : kStates)
            page.sample({{"storage", storage.name}, {"state", to_string(state)}},
                        std::uint64_t{storage.state == state});
    gauge("dst_storage_size_sectors", "Its size in sectors of 512 bytes.",
          [](const auto& storage) { return storage.size.value(); });
    gauge("dst_storage_nodes", "How many nodes it has.",
          [](const auto& storage) { return std::uint64_t{storage.nodes.size()}; });
    gauge("dst_storage_resync_done_sectors", "Of the resync under way.",
          [](const auto& storage) { return storage.resync.done.value(); });
    gauge("dst_storage_resync_total_sectors", "Of the resync under way; 0: there is none.",
          [](const auto& storage) { return storage.resync.total.value(); });
    gauge("dst_storage_resync_rate_bytes_per_second", "Of the resync under way.",
          [](const auto& storage) { return storage.resync.rate; });
    gauge("dst_storage_requests_waiting", "Requests that wait for a node.",
          [&](const auto& storage) {
              const auto at = figures.storages.find(storage.name);
              return at == figures.storages.end() ? 0 : at->second.waiting;
          });
    Measured all;
    for (const auto& [name, storage] : figures.storages) all.emplace_back(name, storage.measures);
    write_measures(page, "storage", all);
    page.begin("dst_storage_request_duration_seconds", "histogram",
               "How long requests took: total, and of that queue, behind others that overlap.");
    for (const auto& [name, storage] : figures.storages) {
        for (const block::Op op : kOperations) {
            const auto labels = [&](std::string_view stage) {
                return Labels{{"storage", name}, {"operation", to_string(op)}, {"stage", stage}};
            };
            page.histogram(labels("total"), (*storage.measures)[op].took);
            page.histogram(labels("queue"), (*storage.queueing)[op]);
        }
    }
}

using storage::NodeMeasures;

struct NodeFigures {
    const StorageStatus& storage;
    const NodeStatus& node;
    std::string name;
    NodeMeasures measures;

    [[nodiscard]] Labels labels() const {
        return {{"storage", storage.name}, {"node", name}, {"type", node.type}};
    }
};

/// Those that can be told from others.
std::vector<NodeFigures> all_nodes(const Figures& figures) {
    std::vector<NodeFigures> all;
    for (const StorageStatus& storage : figures.status.storages) {
        std::map<std::string, const NodeMeasures*> by_cookie;
        if (const auto at = figures.storages.find(storage.name); at != figures.storages.end())
            for (const NodeMeasures& measures : at->second.nodes)
                by_cookie.emplace(node::to_string(measures.cookie), &measures);
        for (const NodeStatus* const node : known_nodes(storage)) {
            all.push_back({storage, *node, node_name(*node), {}});
            const auto measured = by_cookie.find(node->cookie);
            if (measured != by_cookie.end()) all.back().measures = *measured->second;
        }
    }
    return all;
}

void write_node_times(Page& page, const std::vector<NodeFigures>& nodes) {
    page.begin("dst_node_request_duration_seconds", "histogram",
               "How long requests took: node, links lost and found included; wire, from when they "
               "were sent last to their answer; disk, in the kernel.");
    for (const NodeFigures& figures : nodes) {
        const auto add = [&](block::Op op, std::string_view stage, const Latency& latency) {
            Labels labels = figures.labels();
            labels.push_back({"operation", to_string(op)});
            labels.push_back({"stage", stage});
            page.histogram(std::move(labels), latency);
        };
        if (const auto* const remote = figures.measures.remote; remote != nullptr) {
            for (const block::Op op : kOperations) {
                add(op, "node", remote->requests[op].took);
                add(op, "wire", remote->wire[op]);
            }
        }
        if (const auto* const disk = figures.measures.disk; disk != nullptr) {
            add(block::Op::read, "disk", disk->read);
            add(block::Op::write, "disk", disk->write);
            add(block::Op::flush, "disk", disk->sync);
        }
    }
}

void write_nodes(Page& page, const Figures& figures) {
    const std::vector<NodeFigures> nodes = all_nodes(figures);
    const auto write = [&](std::string_view name, std::string_view type, std::string_view help,
                           auto value_of_one) {
        page.begin(name, type, help);
        for (const NodeFigures& one : nodes) page.sample(one.labels(), value_of_one(one));
    };
    write("dst_node_in_sync", "gauge", "1 if its state is sync, 0 if it is notsync.",
          [](const auto& one) { return std::uint64_t{one.node.in_sync}; });
    write("dst_node_connected", "gauge", "1 if it can be reached.",
          [](const auto& one) { return std::uint64_t{one.node.connected}; });
    write("dst_node_start_sectors", "gauge", "Where it begins in its storage.",
          [](const auto& one) { return one.node.start.value(); });
    write("dst_node_size_sectors", "gauge", "How much of it the storage uses.",
          [](const auto& one) { return one.node.size.value(); });
    write("dst_node_stale_sectors", "gauge", "What it may lack.",
          [](const auto& one) { return one.node.stale.value(); });
    write("dst_node_read_errors_total", "counter",
          "Reads that failed there and were answered by another copy.",
          [](const auto& one) { return one.node.read_errors; });
    write("dst_node_rewritten_total", "counter",
          "Of those, how many were written again from another copy.",
          [](const auto& one) { return one.node.rewritten; });
    write("dst_node_reconnects_total", "counter", "Connections made after one was lost.",
          [](const auto& one) { return one.measures.reconnects; });
    write("dst_node_replayed_changes_total", "counter", "Changes that were written again.",
          [](const auto& one) { return one.measures.replayed; });
    write("dst_node_checksum_errors_total", "counter",
          "Answers that did not hold what their checksum says.", [](const auto& one) {
              const auto* const remote = one.measures.remote;
              return remote == nullptr ? 0 : remote->checksum_errors;
          });
    write("dst_node_detached_total", "counter", "How often it got out of sync.",
          [&](const auto& one) {
              return figures.events == nullptr
                         ? 0
                         : figures.events->detachments(one.storage.name, one.node.cookie);
          });
    write_node_times(page, nodes);
}

void write_exports(Page& page, const Figures& figures) {
    page.begin("dst_export_size_sectors", "gauge", "0 while its device is not there.");
    for (const ExportStatus& share : figures.status.exports)
        page.sample({{"export", share.name}}, share.size.value());
    page.begin("dst_export_clients", "gauge", "Connections that use it.");
    for (const ExportStatus& share : figures.status.exports)
        page.sample({{"export", share.name}}, share.clients);
    page.begin("dst_export_checksum_errors_total", "counter",
               "Requests of clients that did not hold what their checksum says.");
    for (const auto& [name, share] : figures.exports)
        page.sample({{"export", name}}, share.checksum_errors);
    Measured all;
    for (const auto& [name, share] : figures.exports) all.emplace_back(name, share.measures);
    write_measures(page, "export", all);
    page.begin("dst_export_request_duration_seconds", "histogram",
               "From when a request is whole to the device's answer.");
    for (const auto& [name, measures] : all)
        for (const block::Op op : kOperations)
            page.histogram({{"export", name}, {"operation", to_string(op)}}, (*measures)[op].took);
}

void write_attachments(Page& page, const Status& status) {
    const auto labels = [](const AttachmentStatus& one) {
        return Labels{{"storage", one.name}, {"via", one.via}, {"device", one.device}};
    };
    page.begin("dst_attachment_size_sectors", "gauge", "As the local kernel has been told.");
    for (const AttachmentStatus& one : status.attachments)
        page.sample(labels(one), one.size.value());
    page.begin("dst_attachment_trouble", "gauge", "1 if something is wrong with it.");
    for (const AttachmentStatus& one : status.attachments)
        page.sample(labels(one), one.reason.empty() ? 0 : 1);
}

void write_events(Page& page, const EventLog& events) {
    page.begin("dst_events_total", "counter", "What 'dst events' has told.");
    for (std::size_t at = 0; at < kEventKinds; ++at) {
        const auto kind = static_cast<EventKind>(at);
        page.sample({{"event", to_string(kind)}}, events.count(kind));
    }
}

}  // namespace

std::string to_prometheus(const Figures& figures) {
    Page page;
    write_daemon(page, figures.status);
    write_storages(page, figures);
    write_nodes(page, figures);
    write_exports(page, figures);
    write_attachments(page, figures.status);
    if (figures.events != nullptr) write_events(page, *figures.events);
    return page.take();
}

}  // namespace dst::control
