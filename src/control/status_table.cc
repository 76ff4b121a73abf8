// A status for people: columns as wide as their widest cell.

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "control/attributes.h"
#include "control/durations.h"
#include "control/status.h"
#include "control/table.h"

namespace dst::control {
namespace {

Colour colour_of(StorageState state) {
    switch (state) {
        case StorageState::running:
            return Colour::good;
        case StorageState::degraded:
        case StorageState::waiting:
            return Colour::doubtful;
        case StorageState::holding:
        case StorageState::fenced:
            return Colour::bad;
        case StorageState::stopped:
            return Colour::faint;
    }
    return Colour::none;
}

std::string shown(SectorCount size) { return human_size(to_bytes(size)); }

std::string joined(const std::vector<std::string>& words) {
    return fmt::format("{}", fmt::join(words, " "));
}

Row storage_row(const StorageStatus& storage, io::WallTime now) {
    return {Cell(storage.name),
            Cell(storage.algorithm),
            Cell(shown(storage.size)),
            Cell(to_string(storage.state), colour_of(storage.state)),
            Cell(human_duration(now - storage.since)),
            Cell(joined(storage.attached_as)),
            Cell(storage.reason)};
}

/// A disk that can't read all of its data does not leave for that, and is worth a look.
std::string shown_reason(const NodeStatus& node) {
    if (node.read_errors == 0) return node.reason;
    return fmt::format("{}; {} reads failed, {} of them written again", node.reason,
                       node.read_errors, node.rewritten);
}

/// `has_starts`: where a node begins is of interest.
Row node_row(const StorageStatus& storage, const NodeStatus& node, bool has_starts) {
    return {Cell(storage.name),
            Cell(node.type),
            Cell(has_starts ? shown(SectorCount(node.start.value())) : ""),
            Cell(shown(node.size)),
            Cell(sync_state(node), node.in_sync ? Colour::good : Colour::doubtful),
            node.connected ? Cell("up", Colour::good) : Cell("down", Colour::bad),
            Cell(node.stale == SectorCount(0) ? "" : shown(node.stale)),
            Cell(joined(node.flags)),
            Cell(shown_reason(node))};
}

constexpr std::size_t kBarWidth = 22;

/// At a terminal: "[####....] " before what is under way.
std::string bar(SectorCount done, SectorCount total, TableStyle style) {
    if (style.width == 0 || total == SectorCount(0)) return {};
    return progress_bar(std::min(done, total).value(), total.value(), kBarWidth) + " ";
}

std::string resync_line(const StorageStatus& storage, TableStyle style) {
    const ResyncStatus& resync = storage.resync;
    if (resync.done == resync.total) return {};  // history
    const auto percent =
        static_cast<double>(resync.done.value()) * 100 / static_cast<double>(resync.total.value());
    return fmt::format("resync of {}: {}{:.1f} %, {} of {}, {} a second\n", harmless(storage.name),
                       bar(resync.done, resync.total, style), percent, shown(resync.done),
                       shown(resync.total), human_size(ByteCount(resync.rate)));
}

std::string verify_line(const StorageStatus& storage, TableStyle style) {
    if (!storage.verify) return {};
    const ComparisonStatus& found = *storage.verify;
    std::string line = fmt::format("verify of {}: ", harmless(storage.name));
    if (found.running)
        line += bar(found.done, found.total, style) +
                fmt::format("{} of {} compared, ", shown(found.done), shown(found.total));
    line += fmt::format("{} sectors differ", found.different.value());
    if (found.repaired.value() > 0)
        line += fmt::format(", {} were made equal", found.repaired.value());
    if (found.undecided.value() > 0)
        line += fmt::format(", {} have no majority", found.undecided.value());
    if (found.skipped.value() > 0)
        line += fmt::format(", {} could not be compared", found.skipped.value());
    return line + "\n";
}

}  // namespace

std::string storage_table(const Status& status, TableStyle style) {
    if (status.storages.empty()) return {};
    std::vector<Row> storages = {
        Row{"STORAGE", "ALGORITHM", "SIZE", "STATE", "SINCE", "ATTACHED", "REASON"}};
    std::vector<Row> nodes = {
        Row{"STORAGE", "NODE", "START", "SIZE", "STATE", "LINK", "STALE", "FLAGS", "REASON"}};
    std::string resyncs;
    const bool has_starts =
        style.width == 0 || std::ranges::any_of(status.storages, [](const StorageStatus& storage) {
            return std::ranges::any_of(
                storage.nodes, [](const NodeStatus& node) { return node.start != SectorIndex(0); });
        });
    for (const auto& storage : status.storages) {
        storages.push_back(storage_row(storage, status.time));
        for (const auto& node : storage.nodes) nodes.push_back(node_row(storage, node, has_starts));
        resyncs += resync_line(storage, style) + verify_line(storage, style);
    }
    std::string out = format_rows(storages, style);
    if (nodes.size() > 1) out += "\n" + format_rows(nodes, style);
    return resyncs.empty() ? out : out + "\n" + resyncs;
}

std::string export_table(const std::vector<ExportStatus>& exports, TableStyle style) {
    if (exports.empty()) return {};
    const bool any_reserved =
        std::ranges::any_of(exports, [](const auto& share) { return !share.reserved_by.empty(); });
    std::vector<Row> rows = {Row{"EXPORT", "DEVICE", "SIZE", "ACCESS", "CLIENTS"}};
    if (any_reserved) rows.front().emplace_back("RESERVED BY");
    for (const auto& share : exports) {
        rows.push_back({share.name, share.device, shown(share.size),
                        share.read_only ? "read only" : "read and write",
                        std::to_string(share.clients)});
        if (any_reserved)
            rows.back().emplace_back(share.reserved_by.empty() ? "" : "head " + share.reserved_by);
    }
    return format_rows(rows, style);
}

std::string attachment_table(const std::vector<AttachmentStatus>& attachments, TableStyle style) {
    if (attachments.empty()) return {};
    std::vector<Row> rows = {Row{"ATTACHED", "VIA", "DEVICE", "SIZE", "ACCESS", "REASON"}};
    for (const auto& attachment : attachments)
        rows.push_back({attachment.name, attachment.via, attachment.device, shown(attachment.size),
                        attachment.read_only ? "read only" : "read and write", attachment.reason});
    return format_rows(rows, style);
}

std::string algorithm_table(const std::vector<AlgorithmStatus>& algorithms, TableStyle style) {
    if (algorithms.empty()) return {};
    std::vector<Row> rows = {Row{"ALGORITHM", "USES", "FILE", "DESCRIPTION"}};
    for (const auto& algorithm : algorithms) {
        rows.push_back({algorithm.name, std::to_string(algorithm.uses),
                        algorithm.file.empty() ? "(built in)" : algorithm.file,
                        algorithm.description});
    }
    return format_rows(rows, style);
}

std::string to_table(const Status& status, TableStyle style) {
    std::string out = fmt::format("dst {}, {} of {} memory in use\n", harmless(status.version),
                                  human_size(status.memory.used), human_size(status.memory.limit));
    const auto append = [&](const std::string& part) {
        if (!part.empty()) out += "\n" + part;
    };
    append(storage_table(status, style));
    append(export_table(status.exports, style));
    append(attachment_table(status.attachments, style));
    // Those that are always there are no news.
    std::vector<AlgorithmStatus> loaded;
    std::ranges::copy_if(status.algorithms, std::back_inserter(loaded),
                         [](const auto& algorithm) { return !algorithm.file.empty(); });
    append(algorithm_table(loaded, style));
    std::string warnings;
    for (const auto& warning : status.warnings) {
        std::string line = "warning: " + harmless(warning);
        if (style.width > 0)
            line = fmt::format("{}", fmt::join(wrapped(line, style.width), "\n    "));
        warnings += line + "\n";
    }
    append(warnings);
    return out;
}

}  // namespace dst::control
