// What was found on a node's disk, for people and for programs.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/inspect.h"
#include "control/durations.h"

namespace dst::cli {
namespace {

using Json = nlohmann::ordered_json;
using metadata::Age;
using metadata::BitmapKind;
using metadata::Form;
using metadata::NodeRecord;
using metadata::Reading;

std::string hex(std::uint64_t value) { return fmt::format("{:016x}", value); }
std::string shown(SectorCount size) { return control::human_size(to_bytes(size)); }

/// Columns as wide as their widest cell; what a terminal would obey is replaced.
std::string table(const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths(rows.front().size());
    for (const auto& row : rows)
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    std::string text;
    for (const auto& row : rows) {
        for (std::size_t i = 0; i + 1 < row.size(); ++i)
            text += fmt::format("{:<{}}  ", row[i], widths[i]);
        text += row.back() + "\n";
    }
    return text;
}

std::string copies_text(const Inspection& inspection) {
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < inspection.copies.size(); ++i) {
        const Reading& copy = inspection.copies[i];
        texts.push_back(copy ? fmt::format("copy {} good, sequence {}", i, copy->sequence)
                             : fmt::format("copy {} {}", i, to_string(copy.error())));
    }
    return fmt::format("{}", fmt::join(texts, "; "));
}

std::string path_text(const metadata::History& history) {
    std::vector<std::string> ages;
    if (history.is_cut_short) ages.emplace_back("(older ones are forgotten)");
    for (const Age& age : history.path) ages.push_back(to_string(age));
    return ages.empty() ? "-" : fmt::format("{}", fmt::join(ages, " "));
}

std::string quorum_text(const Form& form) {
    const std::string since = to_string(form.votes_since);
    if (form.quorum == metadata::Quorum::none) return "none, since age " + since;
    return fmt::format("majority: {} of {} votes, which are the same since age {}", form.majority(),
                       form.votes(), since);
}

const char* state_of(const NodeRecord& node) {
    if (node.is_witness) return "witness";
    return node.attached ? "attached" : "-";
}

std::string name_of(const BitmapSummary& bitmap, const Form& form) {
    switch (bitmap.name.kind) {
        case BitmapKind::intent:
            return "intent";
        case BitmapKind::unwritten:
            return "unwritten";
        case BitmapKind::stale:
            break;
    }
    const auto node = std::ranges::find(form.nodes, bitmap.name.slot, &NodeRecord::slot);
    return fmt::format("stale {} ({})", bitmap.name.slot, hex(node->cookie));
}

std::string condition_of(const BitmapSummary& bitmap) {
    if (bitmap.unreadable)
        return fmt::format("can't be read: {}", to_string(bitmap.unreadable->code));
    if (bitmap.damaged_sectors == 0) return "good";
    return fmt::format("{} damaged sectors, counted as {}", bitmap.damaged_sectors,
                       bitmap.name.kind == BitmapKind::unwritten ? "written" : "set");
}

std::string nodes_table(const Inspection& inspection) {
    std::vector<std::vector<std::string>> rows = {
        {"NODE", "SLOT", "SIZE", "STATE", "VOTE", "INSTANCE", "TYPE"}};
    for (const NodeRecord& node : inspection.superblock.form.nodes)
        rows.push_back({hex(node.cookie), node.is_witness ? "-" : fmt::format("{}", node.slot),
                        shown(node.size), state_of(node), node.has_vote ? "yes" : "no",
                        node.instance == 0 ? "-" : hex(node.instance), node.type});
    return table(rows);
}

std::string bitmaps_table(const Inspection& inspection) {
    if (inspection.bitmaps.empty()) return {};
    std::vector<std::vector<std::string>> rows = {{"BITMAP", "SET", "CONDITION"}};
    for (const BitmapSummary& bitmap : inspection.bitmaps)
        rows.push_back({name_of(bitmap, inspection.superblock.form),
                        bitmap.unreadable ? "-" : fmt::format("{}", bitmap.set.value()),
                        condition_of(bitmap)});
    return "\n" + table(rows);
}

Json age_json(const Age& age) { return {{"id", hex(age.id)}, {"generation", age.generation}}; }

Json copy_json(const Reading& copy) {
    constexpr const char* kKinds[] = {"blank", "foreign", "newer", "damaged"};
    if (copy) return {{"state", "good"}, {"sequence", copy->sequence}};
    return {{"state", kKinds[static_cast<std::size_t>(copy.error().kind)]},
            {"reason", to_string(copy.error())}};
}

Json node_json(const NodeRecord& node) {
    return {{"cookie", hex(node.cookie)},
            {"slot", node.is_witness ? Json() : Json(node.slot)},
            {"size", node.size.value()},
            {"attached", node.attached},
            {"witness", node.is_witness},
            {"vote", node.has_vote},
            {"instance", node.instance == 0 ? Json() : Json(hex(node.instance))},
            {"type", node.type}};
}

Json bitmap_json(const BitmapSummary& bitmap) {
    constexpr const char* kKinds[] = {"", "intent", "unwritten", "stale"};
    const bool is_stale = bitmap.name.kind == BitmapKind::stale;
    Json json = {{"kind", kKinds[static_cast<std::size_t>(bitmap.name.kind)]},
                 {"slot", is_stale ? Json(bitmap.name.slot) : Json()}};
    if (bitmap.unreadable) {
        json["error"] = to_string(bitmap.unreadable->code);
    } else {
        json["set"] = bitmap.set.value();
        json["damaged_sectors"] = bitmap.damaged_sectors;
    }
    return json;
}

template <typename Items, typename Make>
Json array_of(const Items& items, Make make) {
    Json array = Json::array();
    for (const auto& item : items) array.push_back(make(item));
    return array;
}

}  // namespace

std::string to_text(const Inspection& inspection) {
    const Form& form = inspection.superblock.form;
    const auto line = [](const char* key, const std::string& value) {
        return fmt::format("  {:<10} {}\n", key, value);
    };
    std::string text =
        fmt::format("node {} of the storage {}\n", hex(inspection.superblock.cookie), form.name);
    text += line("metadata", copies_text(inspection));
    text += line("storage", to_string(form.storage_id));
    text += line("algorithm", form.algorithm);
    if (!form.settings.empty()) {
        std::string settings = form.settings;
        std::ranges::replace(settings, '\n', ' ');
        text += line("settings", settings);
    }
    text += line("age", to_string(form.history.age) +
                            (form.is_forming ? ", the first: the storage is being made" : ""));
    text += line("path", path_text(form.history));
    text += line("quorum", quorum_text(form));
    text += line("blocks", fmt::format("{} bytes", form.block_bytes));
    text += line("takeover", control::to_string(control::Duration(form.takeover)));
    text += line(
        "head",
        fmt::format("{}, incarnation {}, {}", hex(form.head.id), form.head.incarnation,
                    form.stopped_cleanly ? "stopped cleanly" : "did not stop, or not cleanly"));
    text += line("data", fmt::format("{}: {} regions of {}; slots for {} nodes",
                                     shown(form.shape.data_size), form.shape.regions().value(),
                                     shown(form.shape.region_size()), form.shape.slots));
    if (form.zero_from.value() > 0)
        text += line("grown", fmt::format("from {}; what follows there is still to be made zero",
                                          shown(form.zero_from - SectorIndex(0))));
    return text + "\n" + nodes_table(inspection) + bitmaps_table(inspection);
}

std::string to_json(const Inspection& inspection) {
    const metadata::Superblock& superblock = inspection.superblock;
    const Form& form = superblock.form;
    const bool has_quorum = form.quorum == metadata::Quorum::majority;
    const Json json = {
        {"cookie", hex(superblock.cookie)},
        {"size", inspection.size.value()},
        {"sequence", superblock.sequence},
        {"copies", array_of(inspection.copies, copy_json)},
        {"storage", {{"id", to_string(form.storage_id)}, {"name", form.name}}},
        {"algorithm", form.algorithm},
        {"settings", form.settings},
        {"zero_from", form.zero_from.value()},
        {"age", age_json(form.history.age)},
        {"path", array_of(form.history.path, age_json)},
        {"path_cut_short", form.history.is_cut_short},
        {"quorum", has_quorum ? "majority" : "none"},
        {"votes", form.votes()},
        {"votes_since", age_json(form.votes_since)},
        {"block_bytes", form.block_bytes},
        {"takeover_ms", form.takeover.count()},
        {"head", {{"id", hex(form.head.id)}, {"incarnation", form.head.incarnation}}},
        {"stopped_cleanly", form.stopped_cleanly},
        {"forming", form.is_forming},
        {"data_size", form.shape.data_size.value()},
        {"region_size", form.shape.region_size().value()},
        {"regions", form.shape.regions().value()},
        {"slots", form.shape.slots},
        {"nodes", array_of(form.nodes, node_json)},
        {"bitmaps", array_of(inspection.bitmaps, bitmap_json)}};
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace dst::cli
