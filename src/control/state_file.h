// What was changed at run time, so that it survives a restart: `<state_dir>/runtime.toml`.
//
// The configuration file is what the administrator wrote and is never touched; this file has the
// changes since, in the same format. For one name the newer wins: every entry remembers a
// fingerprint of the file's entry that it replaced, and where that has changed since, the
// configuration file is the newer. A removed thing leaves a tombstone, else it would come back.
// Merging is pure; only `load_state` and `store_state` touch a disk.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/config.h"
#include "io/file.h"

namespace dst::control {

/// One thing that differs from the configuration file.
template <typename Spec>
struct RuntimeEntry {
    /// Name of the storage or export; file of the algorithm.
    std::string name;
    /// What it is now; unset if only the flags below differ from the configuration.
    std::optional<Spec> spec;
    bool removed = false;
    /// For storages: stopped by a command, and to stay so.
    bool stopped = false;
    /// Fingerprint of the configuration's entry of that name; empty if it had none.
    std::string overrides;
    friend bool operator==(const RuntimeEntry&, const RuntimeEntry&) = default;
};

struct RuntimeState {
    std::vector<RuntimeEntry<ExportSpec>> exports;
    std::vector<RuntimeEntry<StorageSpec>> storages;
    std::vector<RuntimeEntry<AlgorithmSpec>> algorithms;
    friend bool operator==(const RuntimeState&, const RuntimeState&) = default;
};

/// Both together: what the daemon shall run. Each part is consistent, their sum may not be: see
/// `check`. `stopped` storages are in it.
[[nodiscard]] Config effective(const Config& file, const RuntimeState& state);

/// Notes what a thing is from now on. `file` is the configuration that the daemon was started with.
/// What equals the configuration leaves no entry.
void record(RuntimeState& state, const Config& file, const ExportSpec& spec);
void record(RuntimeState& state, const Config& file, const StorageSpec& spec);
void record(RuntimeState& state, const Config& file, const AlgorithmSpec& spec);
void record_export_removed(RuntimeState& state, const Config& file, std::string_view name);
void record_storage_removed(RuntimeState& state, const Config& file, std::string_view name);
void record_algorithm_removed(RuntimeState& state, const Config& file, std::string_view name);

/// Drops the entries that the configuration file has overtaken. To be stored at start, lest they
/// come back when the file is changed back.
[[nodiscard]] RuntimeState without_overtaken(const Config& file, RuntimeState state);

/// A line for each difference, for `status`: "storage 'vol0' differs from the configuration file
/// since a change at run time: nodes, grace".
[[nodiscard]] std::vector<std::string> differences(const Config& file, const RuntimeState& state);

/// A refusal names the line and the way back; `file_name` is for messages.
[[nodiscard]] Outcome<RuntimeState> parse_state(std::string_view toml, std::string_view file_name);
[[nodiscard]] std::string to_toml(const RuntimeState& state);

/// `<state_dir>/runtime.toml`
[[nodiscard]] std::string state_path(const Config& config);
/// Nothing there is an empty state. Blocks: for start-up and control.
[[nodiscard]] Outcome<RuntimeState> load_state(io::FileSystem& files, const std::string& path);
/// Replaces the file as a whole and durably. Blocks: for start-up and control.
[[nodiscard]] Outcome<> store_state(io::FileSystem& files, const std::string& path,
                                    const RuntimeState& state);

}  // namespace dst::control
