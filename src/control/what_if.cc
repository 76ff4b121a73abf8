#include "control/what_if.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "control/durations.h"
#include "node/node.h"

namespace dst::control {
namespace {

using Json = nlohmann::ordered_json;
using storage::Loss;

Json made(const Loss& loss) {
    Json nodes = Json::array();
    for (const node::Cookie cookie : loss.nodes) nodes.push_back(node::to_string(cookie));
    return {{"kind", to_string(loss.kind)},
            {"name", loss.name},
            {"nodes", std::move(nodes)},
            {"writable", loss.goes_on},
            {"pause", std::chrono::duration<double>(loss.pause).count()},
            {"reason", loss.reason},
            {"copies", loss.copies},
            {"at_risk", loss.at_risk.value()},
            {"resync", loss.resync.value()},
            {"whole", loss.whole.value()},
            {"starts", loss.starts},
            {"start_reason", loss.start_reason},
            {"starts_after", loss.starts_after},
            {"start_after_reason", loss.start_after_reason}};
}

Loss::Kind read_kind(const std::string& text) {
    for (const auto kind : {Loss::Kind::link, Loss::Kind::host})
        if (to_string(kind) == text) return kind;
    return Loss::Kind::node;
}

Loss read_loss(const Json& json) {
    const auto sectors = [&](const char* key) {
        return SectorCount(json.value(key, std::uint64_t{0}));
    };
    const std::chrono::duration<double> pause(json.value("pause", 0.0));
    return {.kind = read_kind(json.value("kind", "")),
            .name = json.value("name", ""),
            .nodes = {},
            .goes_on = json.value("writable", false),
            .pause = std::chrono::duration_cast<std::chrono::milliseconds>(pause),
            .reason = json.value("reason", ""),
            .copies = json.value("copies", std::size_t{0}),
            .at_risk = sectors("at_risk"),
            .resync = sectors("resync"),
            .whole = sectors("whole"),
            .starts = json.value("starts", false),
            .start_reason = json.value("start_reason", ""),
            .starts_after = json.value("starts_after", false),
            .start_after_reason = json.value("start_after_reason", "")};
}

std::string name_of(const Loss& loss) {
    if (!loss.name.empty()) return fmt::format("{} {}", to_string(loss.kind), loss.name);
    return loss.kind == Loss::Kind::link ? "all links of this host" : "this host";
}

std::string amount(SectorCount sectors) {
    return sectors == SectorCount(0) ? "" : human_size(to_bytes(sectors));
}

Cell writes(const Loss& loss) {
    if (!loss.goes_on) return {"wait", Colour::bad};
    if (loss.pause.count() == 0) return {"go on", Colour::good};
    return {"after " + to_string(Duration(loss.pause)), Colour::good};
}

Cell start(const Loss& loss) {
    if (loss.starts) return {"yes", Colour::good};
    return loss.starts_after ? Cell("when back", Colour::doubtful) : Cell("no", Colour::bad);
}

/// The same text for several losses is said once.
void note(std::vector<std::pair<std::string, std::string>>& notes, const std::string& name,
          const std::string& text) {
    const auto same = std::ranges::find(notes, text, &std::pair<std::string, std::string>::second);
    if (same == notes.end())
        notes.emplace_back(name, text);
    else
        same->first += ", " + name;
}

}  // namespace

std::string to_json(const WhatIf& what_if) {
    Json losses = Json::array();
    for (const Loss& loss : what_if.losses) losses.push_back(made(loss));
    const Json json = {{"storage", what_if.storage},
                       {"algorithm", what_if.algorithm},
                       {"losses", std::move(losses)}};
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Outcome<WhatIf> parse_what_if(std::string_view text) {
    try {
        const Json json = Json::parse(text);
        WhatIf what_if{json.value("storage", ""), json.value("algorithm", ""), {}};
        for (const Json& loss : json.at("losses")) what_if.losses.push_back(read_loss(loss));
        return what_if;
    } catch (const std::exception&) {
        return refuse(ErrorCode::corrupt,
                      "the answer says nothing of losses; use a dst of the daemon's version");
    }
}

std::string to_table(const WhatIf& what_if, TableStyle style) {
    const bool has_copies = std::ranges::any_of(
        what_if.losses, [](const Loss& loss) { return loss.copies > 0 || loss.whole.value() > 0; });
    std::vector<Row> rows = {Row{"LOST", "REQUESTS", "AT RISK"}};
    if (has_copies)
        for (const char* const title : {"COPIES", "RESYNC", "NEW DISK"})
            rows.front().emplace_back(title);
    rows.front().emplace_back("STARTS");
    std::vector<std::pair<std::string, std::string>> notes;
    for (const Loss& loss : what_if.losses) {
        const std::string name = name_of(loss);
        Row row = {
            Cell(name), writes(loss),
            Cell(amount(loss.at_risk), loss.at_risk.value() > 0 ? Colour::bad : Colour::none)};
        if (has_copies) {
            row.emplace_back(std::to_string(loss.copies));
            row.emplace_back(amount(loss.resync));
            row.emplace_back(amount(loss.whole));
        }
        row.push_back(start(loss));
        rows.push_back(std::move(row));
        if (!loss.goes_on) note(notes, name, loss.reason);
        if (!loss.starts) note(notes, name, "a start meanwhile " + loss.start_reason);
        if (!loss.starts_after)
            note(notes, name, "a start when it is back " + loss.start_after_reason);
    }
    std::string out = format_rows(rows, style);
    const std::size_t width = style.width > 0 ? style.width : 1 << 20;
    for (const auto& [names, text] : notes)
        out += fmt::format("\n{}:\n    {}\n", fmt::join(wrapped(harmless(names), width), "\n"),
                           fmt::join(wrapped(harmless(text), width - 4), "\n    "));
    return out;
}

}  // namespace dst::control
