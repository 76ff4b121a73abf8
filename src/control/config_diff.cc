#include "control/config_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "control/state_file_kinds.h"

namespace dst::control {
namespace {

using Json = nlohmann::ordered_json;

template <typename Spec>
constexpr Difference::Kind kKindOf = Difference::Kind::daemon;
template <>
constexpr Difference::Kind kKindOf<ExportSpec> = Difference::Kind::share;
template <>
constexpr Difference::Kind kKindOf<StorageSpec> = Difference::Kind::storage;
template <>
constexpr Difference::Kind kKindOf<AlgorithmSpec> = Difference::Kind::algorithm;

std::string_view word_of(Difference::Kind kind) {
    switch (kind) {
        case Difference::Kind::daemon:
            return "daemon";
        case Difference::Kind::algorithm:
            return "algorithm";
        case Difference::Kind::storage:
            return "storage";
        case Difference::Kind::share:
            return "export";
    }
    return "";
}

std::string_view word_of(Difference::Change change) {
    switch (change) {
        case Difference::Change::added:
            return "added";
        case Difference::Change::removed:
            return "removed";
        case Difference::Change::changed:
            return "changed";
    }
    return "";
}

template <typename Spec>
std::vector<KeyChange> changes_of(std::span<const Field<Spec>> fields, const Spec& from,
                                  const Spec& to) {
    std::vector<KeyChange> changes;
    for (const auto& field : fields) {
        const auto written = [&](const Spec& spec) {
            const auto value = field.write(spec);
            return value ? format_json(*value) : std::string();
        };
        KeyChange change{std::string(field.key), written(from), written(to)};
        if (change.from != change.to) changes.push_back(std::move(change));
    }
    return changes;
}

template <typename Spec>
void compare_kind(const Config& from, const Config& to, std::vector<Difference>& all) {
    const auto& before = Kind<Spec>::in(from);
    const auto& after = Kind<Spec>::in(to);
    for (const Spec& spec : before)
        if (find_spec(after, Kind<Spec>::name(spec)) == nullptr)
            all.push_back({kKindOf<Spec>, Kind<Spec>::name(spec), Difference::Change::removed, {}});
    for (const Spec& spec : after) {
        const Spec* const old = find_spec(before, Kind<Spec>::name(spec));
        if (old == nullptr) {
            all.push_back({kKindOf<Spec>, Kind<Spec>::name(spec), Difference::Change::added, {}});
            continue;
        }
        auto keys = changes_of<Spec>(Kind<Spec>::fields(), *old, spec);
        if (!keys.empty())
            all.push_back({kKindOf<Spec>, Kind<Spec>::name(spec), Difference::Change::changed,
                           std::move(keys)});
    }
}

std::string shown(const std::string& value) { return value.empty() ? "(default)" : value; }

}  // namespace

const KeyChange* Difference::find(std::string_view key) const {
    const auto at = std::ranges::find(keys, key, &KeyChange::key);
    return at == keys.end() ? nullptr : &*at;
}

std::string name_of(const Difference& difference) {
    if (difference.kind == Difference::Kind::daemon) return "the daemon";
    return fmt::format("{} '{}'", word_of(difference.kind), difference.name);
}

std::vector<Difference> compare(const Config& from, const Config& to) {
    std::vector<Difference> all;
    if (auto keys = changes_of<Config>(daemon_fields(), from, to); !keys.empty())
        all.push_back({Difference::Kind::daemon, "", Difference::Change::changed, std::move(keys)});
    compare_kind<AlgorithmSpec>(from, to, all);
    compare_kind<StorageSpec>(from, to, all);
    compare_kind<ExportSpec>(from, to, all);
    return all;
}

std::string to_text(const std::vector<Difference>& differences, TableStyle style) {
    const auto paint = [&](std::string_view colour, const std::string& line) {
        return style.colour ? fmt::format("\x1b[{}m{}\x1b[0m\n", colour, line) : line + "\n";
    };
    std::string out;
    for (const Difference& difference : differences) {
        const std::string name = harmless(name_of(difference));
        switch (difference.change) {
            case Difference::Change::added:
                out += paint("32", "+ " + name);
                break;
            case Difference::Change::removed:
                out += paint("31", "- " + name);
                break;
            case Difference::Change::changed:
                out += paint("33", "~ " + name);
        }
        for (const KeyChange& key : difference.keys)
            out += fmt::format("    {}: {} -> {}\n", key.key, harmless(shown(key.from)),
                               harmless(shown(key.to)));
    }
    return out;
}

std::string to_json(const std::vector<Difference>& differences) {
    Json all = Json::array();
    for (const Difference& difference : differences) {
        Json keys = Json::array();
        for (const KeyChange& key : difference.keys)
            keys.push_back({{"key", key.key}, {"from", key.from}, {"to", key.to}});
        all.push_back({{"kind", word_of(difference.kind)},
                       {"name", difference.name},
                       {"change", word_of(difference.change)},
                       {"keys", std::move(keys)}});
    }
    return Json{{"differences", std::move(all)}}.dump(-1, ' ', false,
                                                      Json::error_handler_t::replace);
}

Outcome<std::vector<Difference>> parse_differences(std::string_view text) {
    using enum Difference::Change;
    try {
        std::vector<Difference> all;
        const Json json = Json::parse(text);
        for (const Json& from : json.at("differences")) {
            Difference to{.kind = {}, .name = from.at("name"), .change = changed, .keys = {}};
            for (const auto kind : {Difference::Kind::daemon, Difference::Kind::algorithm,
                                    Difference::Kind::storage, Difference::Kind::share})
                if (word_of(kind) == from.at("kind").get<std::string>()) to.kind = kind;
            for (const auto change : {added, removed, changed})
                if (word_of(change) == from.at("change").get<std::string>()) to.change = change;
            for (const Json& key : from.at("keys"))
                to.keys.push_back({key.at("key"), key.at("from"), key.at("to")});
            all.push_back(std::move(to));
        }
        return all;
    } catch (const std::exception&) {
        return refuse(ErrorCode::corrupt,
                      "the answer has no differences; use a dst of the daemon's version");
    }
}

}  // namespace dst::control
