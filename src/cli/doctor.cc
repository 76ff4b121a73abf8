#include "cli/doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "control/durations.h"

namespace dst::cli {
namespace {

constexpr std::size_t kWhatWidth = 12;

/// The number at the front, taken off; 0 if there is none.
unsigned take_number(std::string_view& text) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (text.starts_with('.')) text.remove_prefix(1);
    return error == std::errc() ? number : 0;
}

bool is_near(const io::Endpoint& endpoint) {
    return !endpoint.unix_path.empty() || endpoint.host == "localhost" || endpoint.host == "::1" ||
           endpoint.host.starts_with("127.");
}

bool is_near(const control::AccessRule& rule) {
    return rule.from == "::1" || rule.from.starts_with("::1/") || rule.from.starts_with("127.") ||
           rule.mode == control::AccessMode::none;
}

Finding judge_node(const control::StorageStatus& storage, const control::NodeStatus& node) {
    const std::string what = "node";
    const std::string name = fmt::format("{} of storage '{}'", node.type, storage.name);
    const auto has = [&](std::string_view flag) {
        return std::ranges::find(node.flags, flag) != node.flags.end();
    };
    if (!node.connected)
        return {what, Verdict::bad, fmt::format("{}: {}", name, node.reason),
                "see that its exporter runs and that the port is open between the hosts: 'dst "
                "node inspect nbd://HOST:PORT/EXPORT' tries it"};
    if (has("unprotected"))
        return {what, Verdict::doubtful, fmt::format("{}: connected, a plain NBD server", name),
                "nothing fences old connections there, and it has no vote: export the disk with "
                "'dst daemon' instead"};
    if (has("volatile"))
        return {what, Verdict::doubtful, fmt::format("{}: connected, without flush", name),
                "what it acknowledges may be lost with its power"};
    if (!node.in_sync && node.reason.empty())
        return {what, Verdict::doubtful, fmt::format("{}: not in sync", name), {}};
    if (!node.in_sync)
        return {what, Verdict::doubtful, fmt::format("{}: {}", name, node.reason), {}};
    return {what, Verdict::good, fmt::format("{}: connected", name)};
}

}  // namespace

std::string_view to_string(Verdict verdict) {
    switch (verdict) {
        case Verdict::good:
            return "good";
        case Verdict::doubtful:
            return "doubtful";
        case Verdict::bad:
            return "bad";
    }
    return "";
}

Finding judge_kernel(std::string_view release) {
    std::string_view rest = release;
    const unsigned major = take_number(rest);
    const unsigned minor = take_number(rest);
    const std::string found = fmt::format("Linux {}", release);
    if (major > 6 || (major == 6 && minor >= 1)) return {"kernel", Verdict::good, found};
    if (major == 6 || (major == 5 && minor >= 11))
        return {"kernel", Verdict::doubtful, found,
                "from 6.1 on each completion costs less, and ublk is there"};
    return {"kernel", Verdict::bad, found,
            "5.11 is the oldest that has what io_uring needs; 6.1 "
            "is better"};
}

Finding judge_open_files(std::optional<std::uint64_t> most, std::uint64_t needed) {
    if (!most) return {"open files", Verdict::good, "no limit"};
    const std::string found = fmt::format("at most {}", *most);
    const std::string advice =
        "raise it: LimitNOFILE=65536 in the unit of systemd, or 'ulimit -n 65536'";
    if (*most < needed) return {"open files", Verdict::bad, found, advice};
    if (*most < 4 * needed) return {"open files", Verdict::doubtful, found, advice};
    return {"open files", Verdict::good, found};
}

Finding judge_locked_memory(std::optional<ByteCount> most, ByteCount needed) {
    if (!most) return {"memory lock", Verdict::good, "no limit"};
    const std::string found = fmt::format("at most {}", control::human_size(*most));
    if (*most >= needed) return {"memory lock", Verdict::good, found};
    return {"memory lock", Verdict::doubtful, found,
            fmt::format("a daemon that attaches devices locks its memory ({}): "
                        "LimitMEMLOCK=infinity in the unit of systemd, or 'ulimit -l unlimited'",
                        control::human_size(needed))};
}

Finding judge_attachments(const WaysToAttach& has) {
    std::vector<std::string_view> ways;
    if (has.ublk) ways.emplace_back("ublk");
    if (has.nbd) ways.emplace_back("nbd");
    if (has.fuse) ways.emplace_back("fuse");
    const std::string found =
        ways.empty() ? "no way to get a /dev name" : fmt::format("by {}", fmt::join(ways, ", "));
    if (has.fuse) return {"attach", Verdict::good, found};
    return {"attach", Verdict::doubtful, found + "; no FUSE, so no tree either",
            "'modprobe fuse'; exports work without"};
}

Finding judge_clock(bool is_synchronized, std::int64_t error_us) {
    if (is_synchronized)
        return {"clock", Verdict::good,
                fmt::format("kept by a time server, within {} ms", (error_us + 999) / 1000)};
    return {"clock", Verdict::doubtful, "kept by no time server",
            "no decision hangs on it, but times in logs and events do not fit those of peers: run "
            "chrony or systemd-timesyncd on each host"};
}

Findings judge_listening(const control::Config& config) {
    if (config.exports.empty()) return {};
    if (config.listen.empty())
        return {{"listen", Verdict::bad, "there are exports, and listen is empty",
                 "write listen = [\"0.0.0.0:10809\"]"}};
    std::string addresses;
    for (const io::Endpoint& endpoint : config.listen)
        addresses += (addresses.empty() ? "" : ", ") + io::to_string(endpoint);
    const bool is_all_near = std::ranges::all_of(
        config.listen, [](const io::Endpoint& endpoint) { return is_near(endpoint); });
    for (const control::ExportSpec& shown : config.exports) {
        const bool lets_others_in = std::ranges::any_of(
            shown.access, [](const control::AccessRule& rule) { return !is_near(rule); });
        if (lets_others_in && is_all_near)
            return {{"listen", Verdict::bad,
                     fmt::format("export '{}' lets other hosts in, but {} is for this host alone",
                                 shown.name, addresses),
                     "add an address that they reach to listen"}};
        if (!lets_others_in && !is_all_near)
            return {
                {"listen", Verdict::doubtful,
                 fmt::format("{}, but export '{}' lets only this host in", addresses, shown.name),
                 "other hosts need a rule of its access: { from = \"10.0.0.0/8\", mode = "
                 "\"rw\" }"}};
    }
    return {{"listen", Verdict::good, addresses}};
}

Findings judge_status(const control::Status& status, std::string_view version) {
    Findings findings;
    if (status.version == version)
        findings.push_back({"version", Verdict::good, fmt::format("{}, as the daemon", version)});
    else
        findings.push_back({"version", Verdict::doubtful,
                            fmt::format("this is {}, the daemon is {}", version, status.version),
                            "start the daemon anew, so that it is the program that is installed"});
    for (const control::StorageStatus& storage : status.storages) {
        const std::string found = fmt::format("'{}' is {}: {}", storage.name,
                                              control::to_string(storage.state), storage.reason);
        using enum control::StorageState;
        if (storage.state == running)
            findings.push_back({"storage", Verdict::good, found});
        else if (storage.state == degraded || storage.state == stopped)
            findings.push_back({"storage", Verdict::doubtful, found});
        else
            findings.push_back({"storage", Verdict::bad, found,
                                "docs/operations.md says how to recover from each state"});
        if (storage.state == stopped) continue;
        for (const control::NodeStatus& node : storage.nodes)
            findings.push_back(judge_node(storage, node));
    }
    for (const std::string& warning : status.warnings)
        findings.push_back({"warning", Verdict::doubtful, warning});
    return findings;
}

bool is_any_bad(const Findings& findings) {
    return std::ranges::any_of(
        findings, [](const Finding& finding) { return finding.verdict == Verdict::bad; });
}

std::string to_text(const Findings& findings, control::TableStyle style) {
    constexpr std::size_t kFront = 6;
    constexpr std::size_t kEndless = 1 << 20;
    const std::size_t indent = kFront + kWhatWidth;
    const std::size_t width = style.width > 0 ? style.width - indent : kEndless;
    const std::string margin = "\n" + std::string(indent, ' ');
    std::string out;
    for (const Finding& finding : findings) {
        const bool is_good = finding.verdict == Verdict::good;
        const bool is_bad = finding.verdict == Verdict::bad;
        const std::string mark = is_good ? "ok" : is_bad ? "BAD" : "hmm";
        const std::string_view colour = is_good ? "32" : is_bad ? "31" : "33";
        out += style.colour ? fmt::format("\x1b[{}m{:<{}}\x1b[0m", colour, mark, kFront)
                            : fmt::format("{:<{}}", mark, kFront);
        out += fmt::format(
            "{:<{}}{}\n", finding.what, kWhatWidth,
            fmt::join(control::wrapped(control::harmless(finding.found), width), margin));
        if (!finding.advice.empty())
            out += fmt::format("{}{}\n", margin.substr(1),
                               fmt::join(control::wrapped("-> " + finding.advice, width), margin));
    }
    return out;
}

std::string to_json(const Findings& findings) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const Finding& finding : findings)
        all.push_back({{"what", finding.what},
                       {"verdict", to_string(finding.verdict)},
                       {"found", finding.found},
                       {"advice", finding.advice}});
    return nlohmann::ordered_json{{"findings", std::move(all)}}.dump(
        -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace dst::cli
