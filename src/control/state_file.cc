#include "control/state_file.h"

#include <fmt/format.h>

#include "control/state_file_kinds.h"

namespace dst::control {
namespace {

/// FNV-1a over what the file says, in our own spelling; empty for nothing.
template <typename Spec>
std::string fingerprint(const Spec* spec) {
    if (spec == nullptr) return {};
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : to_toml(*spec)) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    }
    return fmt::format("{:016x}", hash);
}

/// Whether the configuration's entry was changed after `entry` was made.
template <typename Spec>
bool is_overtaken(const RuntimeEntry<Spec>& entry, const Config& file) {
    return entry.overrides != fingerprint(find_spec(Kind<Spec>::in(file), entry.name));
}

template <typename Spec>
void apply(const RuntimeEntry<Spec>& entry, std::vector<Spec>& specs) {
    if (entry.removed) {
        std::erase_if(specs, [&](const Spec& s) { return Kind<Spec>::name(s) == entry.name; });
        return;
    }
    Spec* spec = find_spec(specs, entry.name);
    if (entry.spec) {
        if (spec == nullptr) spec = &specs.emplace_back();
        *spec = *entry.spec;
    }
    if constexpr (std::is_same_v<Spec, StorageSpec>) {
        if (spec != nullptr) spec->stopped = entry.stopped;
    }
}

template <typename Spec>
void put(RuntimeState& state, RuntimeEntry<Spec> entry) {
    auto& entries = Kind<Spec>::in(state);
    std::erase_if(entries, [&](const auto& e) { return e.name == entry.name; });
    if (entry.spec || entry.removed || entry.stopped) entries.push_back(std::move(entry));
}

template <typename Spec>
void record_spec(RuntimeState& state, const Config& file, Spec spec) {
    const Spec* const in_file = find_spec(Kind<Spec>::in(file), Kind<Spec>::name(spec));
    RuntimeEntry<Spec> entry{Kind<Spec>::name(spec), {}, false, false, fingerprint(in_file)};
    if constexpr (std::is_same_v<Spec, StorageSpec>) {
        entry.stopped = std::exchange(spec.stopped, false);
    }
    if (in_file == nullptr || *in_file != spec) entry.spec = std::move(spec);
    put(state, std::move(entry));
}

template <typename Spec>
void record_removed(RuntimeState& state, const Config& file, std::string_view name) {
    const Spec* const in_file = find_spec(Kind<Spec>::in(file), name);
    put(state,
        RuntimeEntry<Spec>{std::string(name), {}, in_file != nullptr, false, fingerprint(in_file)});
}

/// The keys in which two specs differ.
template <typename Spec>
std::string differing_keys(const Spec& a, const Spec& b) {
    std::string keys;
    for (const auto& field : Kind<Spec>::fields()) {
        const auto written = [&](const Spec& spec) {
            const auto value = field.write(spec);
            return value ? format_json(*value) : std::string();
        };
        if (written(a) == written(b)) continue;
        keys += (keys.empty() ? "" : ", ") + std::string(field.key);
    }
    return keys;
}

template <typename Spec>
std::string difference(const RuntimeEntry<Spec>& entry, const Config& file) {
    const std::string object = fmt::format("{} '{}'", Kind<Spec>::kWord, entry.name);
    const Spec* const in_file = find_spec(Kind<Spec>::in(file), entry.name);
    if (is_overtaken(entry, file)) {
        return fmt::format(
            "{} was changed at run time, and then in the configuration file, which "
            "is the newer and counts",
            object);
    }
    if (entry.removed) {
        return fmt::format("{} was removed at run time; the configuration file still has it",
                           object);
    }
    const std::string stopped = entry.stopped ? ", and stopped" : "";
    if (!entry.spec) return fmt::format("{} was stopped at run time", object);
    if (in_file == nullptr) {
        return fmt::format("{} was made at run time{}; the configuration file lacks it", object,
                           stopped);
    }
    return fmt::format("{} differs from the configuration file since a change at run time{}: {}",
                       object, stopped, differing_keys(*entry.spec, *in_file));
}

/// Calls `visit` with the entries of each kind.
void for_each_kind(auto& state, auto&& visit) {
    visit(state.exports);
    visit(state.storages);
    visit(state.algorithms);
}

}  // namespace

Config effective(const Config& file, const RuntimeState& state) {
    Config config = file;
    for_each_kind(state, [&]<typename Spec>(const std::vector<RuntimeEntry<Spec>>& entries) {
        for (const auto& entry : entries) {
            if (!is_overtaken(entry, file)) apply(entry, Kind<Spec>::in(config));
        }
    });
    return config;
}

void record(RuntimeState& state, const Config& file, const ExportSpec& spec) {
    record_spec(state, file, spec);
}
void record(RuntimeState& state, const Config& file, const StorageSpec& spec) {
    record_spec(state, file, spec);
}
void record(RuntimeState& state, const Config& file, const AlgorithmSpec& spec) {
    record_spec(state, file, spec);
}
void record_export_removed(RuntimeState& state, const Config& file, std::string_view name) {
    record_removed<ExportSpec>(state, file, name);
}
void record_storage_removed(RuntimeState& state, const Config& file, std::string_view name) {
    record_removed<StorageSpec>(state, file, name);
}
void record_algorithm_removed(RuntimeState& state, const Config& file, std::string_view name) {
    record_removed<AlgorithmSpec>(state, file, name);
}

RuntimeState without_overtaken(const Config& file, RuntimeState state) {
    for_each_kind(state, [&](auto& entries) {
        std::erase_if(entries, [&](const auto& entry) { return is_overtaken(entry, file); });
    });
    return state;
}

std::vector<std::string> differences(const Config& file, const RuntimeState& state) {
    std::vector<std::string> lines;
    for_each_kind(state, [&](const auto& entries) {
        for (const auto& entry : entries) lines.push_back(difference(entry, file));
    });
    return lines;
}

std::string state_path(const Config& config) { return config.state_dir + "/runtime.toml"; }

Outcome<RuntimeState> load_state(io::FileSystem& files, const std::string& path) {
    auto text = files.load(path);
    if (!text && text.error().code == ErrorCode::not_found) return RuntimeState{};
    if (!text) return std::unexpected(std::move(text).error());
    return parse_state(*text, path);
}

Outcome<> store_state(io::FileSystem& files, const std::string& path, const RuntimeState& state) {
    return files.store(path, to_toml(state));
}

}  // namespace dst::control
