// What `dst doctor` finds on a host, and what to do about it. Judging is pure; looking is not.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "control/config.h"
#include "control/status.h"
#include "control/table.h"

namespace dst::cli {

enum class Verdict : std::uint8_t {
    good,
    doubtful,  // works, with less than there could be
    bad,       // does not work
};
[[nodiscard]] std::string_view to_string(Verdict verdict);

struct Finding {
    std::string what;  // "kernel"
    Verdict verdict = Verdict::good;
    std::string found;
    std::string advice{};  // empty: nothing is to be done
    friend bool operator==(const Finding&, const Finding&) = default;
};
using Findings = std::vector<Finding>;

// Judging.

/// `release` as uname(2) tells it: "6.1.0-18-amd64".
[[nodiscard]] Finding judge_kernel(std::string_view release);
/// How many files a process may open; none: any number. `needed`: connections and disks.
[[nodiscard]] Finding judge_open_files(std::optional<std::uint64_t> most, std::uint64_t needed);
/// How much memory a process may lock, and how much an attached device would.
[[nodiscard]] Finding judge_locked_memory(std::optional<ByteCount> most, ByteCount needed);
/// Which of the ways to attach a device there are; a module that can be loaded counts.
struct WaysToAttach {
    bool ublk = false;
    bool nbd = false;
    bool fuse = false;
};
[[nodiscard]] Finding judge_attachments(const WaysToAttach& has);
/// Kept by a time server, and the kernel's bound of its error.
[[nodiscard]] Finding judge_clock(bool is_synchronized, std::int64_t error_us);
/// Who may come by `access` can come by `listen`.
[[nodiscard]] Findings judge_listening(const control::Config& config);
/// What a daemon says of itself and its peers. `version` is that of the program that asks.
[[nodiscard]] Findings judge_status(const control::Status& status, std::string_view version);

// Looking. Blocks.

[[nodiscard]] Findings look_at_host(const control::Config& config);
/// Folders, disks, the state file, and each exporter that `config` names.
[[nodiscard]] Findings look_at_places(const control::Config& config);

// Showing.

[[nodiscard]] bool is_any_bad(const Findings& findings);
[[nodiscard]] std::string to_text(const Findings& findings, control::TableStyle style);
/// {"findings": [{"what", "verdict": "good|doubtful|bad", "found", "advice"}]}
[[nodiscard]] std::string to_json(const Findings& findings);

}  // namespace dst::cli
