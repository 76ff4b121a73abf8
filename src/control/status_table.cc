// A status for people: columns as wide as their widest cell.

#include <fmt/format.h>

#include <algorithm>
#include <concepts>
#include <string>
#include <utility>
#include <vector>

#include "control/attributes.h"
#include "control/durations.h"
#include "control/status.h"

namespace dst::control {
namespace {

enum class Colour : std::uint8_t { none, good, doubtful, bad, faint };

std::string_view escape_of(Colour colour) {
    switch (colour) {
        case Colour::none:
            return "";
        case Colour::good:
            return "\x1b[32m";
        case Colour::doubtful:
            return "\x1b[33m";
        case Colour::bad:
            return "\x1b[31m";
        case Colour::faint:
            return "\x1b[2m";
    }
    return "";
}

/// Without what a terminal would obey: reasons and names may come from peers.
std::string harmless(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f) c = '?';
    }
    return out;
}

/// Columns that UTF-8 text takes, if each character takes one.
std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(std::ranges::count_if(
        text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

struct Cell {
    std::string text;
    Colour colour = Colour::none;

    template <std::convertible_to<std::string_view> Text>
    Cell(const Text& content, Colour of = Colour::none) : text(harmless(content)), colour(of) {
        if (text.empty()) text = "-";
    }
};
using Row = std::vector<Cell>;

std::string format_rows(const std::vector<Row>& rows, TableStyle style) {
    std::vector<std::size_t> widths;
    for (const Row& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i) {
            widths[i] = std::max(widths[i], width_of(row[i].text));
        }
    }
    std::string out;
    for (const Row& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            const bool painted = style.colour && row[i].colour != Colour::none;
            if (painted) out += escape_of(row[i].colour);
            out += row[i].text;
            if (painted) out += "\x1b[0m";
            if (i + 1 < row.size()) out.append(widths[i] - width_of(row[i].text) + 2, ' ');
        }
        out += '\n';
    }
    return out;
}

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

Row node_row(const StorageStatus& storage, const NodeStatus& node) {
    return {Cell(storage.name),
            Cell(node.type),
            Cell(shown(SectorCount(node.start.value()))),
            Cell(shown(node.size)),
            Cell(sync_state(node), node.in_sync ? Colour::good : Colour::doubtful),
            node.connected ? Cell("up", Colour::good) : Cell("down", Colour::bad),
            Cell(node.stale == SectorCount(0) ? "" : shown(node.stale)),
            Cell(joined(node.flags)),
            Cell(node.reason)};
}

std::string resync_line(const StorageStatus& storage) {
    const ResyncStatus& resync = storage.resync;
    if (resync.done == resync.total) return {};  // history
    const auto percent =
        static_cast<double>(resync.done.value()) * 100 / static_cast<double>(resync.total.value());
    return fmt::format("resync of {}: {:.1f} %, {} of {}, {} a second\n", harmless(storage.name),
                       percent, shown(resync.done), shown(resync.total),
                       human_size(ByteCount(resync.rate)));
}

std::string verify_line(const StorageStatus& storage) {
    if (!storage.verify) return {};
    const ComparisonStatus& found = *storage.verify;
    std::string line = fmt::format("verify of {}: ", harmless(storage.name));
    if (found.running)
        line += fmt::format("{} of {} compared, ", shown(found.done), shown(found.total));
    line += fmt::format("{} sectors differ", found.different.value());
    if (found.repaired.value() > 0)
        line += fmt::format(", {} were made equal", found.repaired.value());
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
    for (const auto& storage : status.storages) {
        storages.push_back(storage_row(storage, status.time));
        for (const auto& node : storage.nodes) nodes.push_back(node_row(storage, node));
        resyncs += resync_line(storage) + verify_line(storage);
    }
    std::string out = format_rows(storages, style);
    if (nodes.size() > 1) out += "\n" + format_rows(nodes, style);
    return resyncs.empty() ? out : out + "\n" + resyncs;
}

std::string export_table(const std::vector<ExportStatus>& exports) {
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
    return format_rows(rows, {});
}

std::string attachment_table(const std::vector<AttachmentStatus>& attachments) {
    if (attachments.empty()) return {};
    std::vector<Row> rows = {Row{"ATTACHED", "VIA", "DEVICE", "SIZE", "ACCESS", "REASON"}};
    for (const auto& attachment : attachments)
        rows.push_back({attachment.name, attachment.via, attachment.device, shown(attachment.size),
                        attachment.read_only ? "read only" : "read and write", attachment.reason});
    return format_rows(rows, {});
}

std::string algorithm_table(const std::vector<AlgorithmStatus>& algorithms) {
    if (algorithms.empty()) return {};
    std::vector<Row> rows = {Row{"ALGORITHM", "USES", "FILE", "DESCRIPTION"}};
    for (const auto& algorithm : algorithms) {
        rows.push_back({algorithm.name, std::to_string(algorithm.uses),
                        algorithm.file.empty() ? "(built in)" : algorithm.file,
                        algorithm.description});
    }
    return format_rows(rows, {});
}

std::string to_table(const Status& status, TableStyle style) {
    std::string out = fmt::format("dst {}, {} of {} memory in use\n", harmless(status.version),
                                  human_size(status.memory.used), human_size(status.memory.limit));
    const auto append = [&](const std::string& part) {
        if (!part.empty()) out += "\n" + part;
    };
    append(storage_table(status, style));
    append(export_table(status.exports));
    append(attachment_table(status.attachments));
    // Those that are always there are no news.
    std::vector<AlgorithmStatus> loaded;
    std::ranges::copy_if(status.algorithms, std::back_inserter(loaded),
                         [](const auto& algorithm) { return !algorithm.file.empty(); });
    append(algorithm_table(loaded));
    std::string warnings;
    for (const auto& warning : status.warnings) warnings += "warning: " + harmless(warning) + "\n";
    append(warnings);
    return out;
}

}  // namespace dst::control
