// What two configurations differ in, key by key: for `dst config diff`, and for the plan of
// `dst apply`. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "control/config.h"
#include "control/table.h"

namespace dst::control {

/// A key with another value; as JSON, empty: at its default.
struct KeyChange {
    std::string key;
    std::string from;
    std::string to;
    friend bool operator==(const KeyChange&, const KeyChange&) = default;
};

struct Difference {
    enum class Kind : std::uint8_t { daemon, algorithm, storage, share };
    enum class Change : std::uint8_t { added, removed, changed };
    Kind kind = Kind::daemon;
    /// Of the storage or export; file of the algorithm; empty for the daemon itself.
    std::string name;
    Change change = Change::changed;
    std::vector<KeyChange> keys;

    [[nodiscard]] const KeyChange* find(std::string_view key) const;
    friend bool operator==(const Difference&, const Difference&) = default;
};
/// "storage 'vol0'", "the daemon"
[[nodiscard]] std::string name_of(const Difference& difference);

/// What it takes to come from one to the other: the daemon's own settings, algorithms, storages,
/// exports. Where a storage may be stopped plays no role.
[[nodiscard]] std::vector<Difference> compare(const Config& from, const Config& to);

/// A line each, with "+", "-" or "~", and one for each key of what changed; empty if nothing
/// differs.
[[nodiscard]] std::string to_text(const std::vector<Difference>& differences, TableStyle style);
/// {"differences": [{"kind", "name", "change", "keys": [{"key", "from", "to"}]}]}
[[nodiscard]] std::string to_json(const std::vector<Difference>& differences);
[[nodiscard]] Outcome<std::vector<Difference>> parse_differences(std::string_view json);

}  // namespace dst::control
