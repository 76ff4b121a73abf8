// The state file as text: the tables of a configuration, with three keys more.

#include <fmt/format.h>

#include "control/config_reader.h"
#include "control/state_file.h"
#include "control/state_file_kinds.h"

namespace dst::control {
namespace {

constexpr std::int64_t kVersion = 1;
constexpr std::string_view kDocumentKeys[] = {"version", "export", "storage", "algorithm"};
constexpr std::string_view kEntryKeys[] = {"overrides", "removed", "stopped"};

struct Flags {
    std::string overrides;
    bool removed = false;
    bool stopped = false;
};

Outcome<> read_flag(bool& into, const Value& value, std::string_view at, std::string_view key) {
    const auto* flag = value.as<bool>();
    if (flag == nullptr) return refuse(fmt::format("{}{} is neither true nor false", at, key));
    into = *flag;
    return {};
}

Outcome<Flags> read_flags(const Value& table, std::string_view file_name) {
    Flags flags;
    if (table.as<Value::Table>() == nullptr) return flags;
    for (const Member& member : *table.as<Value::Table>()) {
        const std::string at = location(file_name, member.value.line);
        if (member.key == "removed") {
            TRY_VOID(read_flag(flags.removed, member.value, at, member.key));
        } else if (member.key == "stopped") {
            TRY_VOID(read_flag(flags.stopped, member.value, at, member.key));
        } else if (member.key == "overrides") {
            const auto* text = member.value.as<std::string>();
            if (text == nullptr) return refuse(fmt::format("{}overrides is no string", at));
            flags.overrides = *text;
        }
    }
    return flags;
}

/// Whether the table says no more than a name and flags.
template <typename Spec>
bool is_without_spec(const Value& table) {
    const auto* members = table.as<Value::Table>();
    return members != nullptr && std::ranges::all_of(*members, [](const Member& member) {
               return member.key == Kind<Spec>::kNameKey ||
                      std::ranges::find(kEntryKeys, member.key) != std::end(kEntryKeys);
           });
}

template <typename Spec>
Outcome<RuntimeEntry<Spec>> read_entry(const Value& table, std::string_view file_name) {
    TRY(const Flags flags, read_flags(table, file_name));
    RuntimeEntry<Spec> entry{{}, {}, flags.removed, flags.stopped, flags.overrides};
    if ((flags.removed || flags.stopped) && is_without_spec<Spec>(table)) {
        const Value* const name = table.find(Kind<Spec>::kNameKey);
        if (name == nullptr || name->template as<std::string>() == nullptr) {
            return refuse(fmt::format("{}[[{}]] has no {}", location(file_name, table.line),
                                      Kind<Spec>::kWord, Kind<Spec>::kNameKey));
        }
        entry.name = *name->template as<std::string>();
        return entry;
    }
    TRY(Spec spec,
        read_spec(Kind<Spec>::kWord, Kind<Spec>::fields(), kEntryKeys, table, file_name));
    entry.name = Kind<Spec>::name(spec);
    entry.spec = std::move(spec);
    return entry;
}

template <typename Spec>
Outcome<> read_entries(RuntimeState& state, const Value& document, std::string_view file_name) {
    auto& entries = Kind<Spec>::in(state);
    return for_each_table(
        document, Kind<Spec>::kWord, file_name, [&](const Value& table) -> Outcome<> {
            TRY(RuntimeEntry<Spec> entry, read_entry<Spec>(table, file_name));
            if (std::ranges::find(entries, entry.name, &RuntimeEntry<Spec>::name) !=
                entries.end()) {
                return refuse(fmt::format("{}{} '{}' stands here a second time",
                                          location(file_name, table.line), Kind<Spec>::kWord,
                                          entry.name));
            }
            entries.push_back(std::move(entry));
            return {};
        });
}

Outcome<RuntimeState> read_state(std::string_view toml, std::string_view file_name) {
    TRY(const Value document, parse_toml(toml, file_name));
    for (const Member& member : *document.as<Value::Table>()) {
        if (std::ranges::find(kDocumentKeys, member.key) == std::end(kDocumentKeys)) {
            return std::unexpected(unknown_key(location(file_name, member.value.line), member.key,
                                               "state", kDocumentKeys));
        }
    }
    const Value* const version = document.find("version");
    const auto* const number = version == nullptr ? nullptr : version->as<std::int64_t>();
    if (number == nullptr || *number != kVersion) {
        return refuse(
            fmt::format("{}:1: it does not say version = {}, so it is cut off or of "
                        "another program",
                        file_name, kVersion));
    }
    RuntimeState state;
    TRY_VOID(read_entries<ExportSpec>(state, document, file_name));
    TRY_VOID(read_entries<StorageSpec>(state, document, file_name));
    TRY_VOID(read_entries<AlgorithmSpec>(state, document, file_name));
    return state;
}

template <typename Spec>
std::string entry_to_toml(const RuntimeEntry<Spec>& entry) {
    Value::Table table;
    if (entry.spec) {
        table = write_fields(Kind<Spec>::fields(), *entry.spec);
    } else {
        table.push_back({std::string(Kind<Spec>::kNameKey), Value(entry.name)});
    }
    if (entry.removed) table.push_back({"removed", Value(true)});
    if (entry.stopped) table.push_back({"stopped", Value(true)});
    if (!entry.overrides.empty()) table.push_back({"overrides", Value(entry.overrides)});
    return "\n" + format_toml(fmt::format("[[{}]]", Kind<Spec>::kWord), table);
}

}  // namespace

Outcome<RuntimeState> parse_state(std::string_view toml, std::string_view file_name) {
    auto state = read_state(toml, file_name);
    if (state) return state;
    return refuse(ErrorCode::corrupt,
                  fmt::format("{}; or else move {} away to begin from the configuration file "
                              "alone (changes made at run time are lost then)",
                              state.error().text, file_name));
}

std::string to_toml(const RuntimeState& state) {
    std::string out = fmt::format(
        "# Changes made at run time, kept by dst. The configuration file is the place to edit.\n"
        "version = {}\n",
        kVersion);
    for (const auto& entry : state.exports) out += entry_to_toml(entry);
    for (const auto& entry : state.storages) out += entry_to_toml(entry);
    for (const auto& entry : state.algorithms) out += entry_to_toml(entry);
    return out;
}

}  // namespace dst::control
