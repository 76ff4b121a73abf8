// Reading a whole table by its fields: unknown keys, missing keys, and where each error stands.
#pragma once

#include <algorithm>
#include <concepts>
#include <string>
#include <string_view>
#include <vector>

#include "control/config_fields.h"

namespace dst::control {

/// "FILE:LINE: ", or nothing where there is no file or no line.
[[nodiscard]] std::string location(std::string_view file_name, unsigned line);
/// The known key that `key` is most likely meant to be; empty if none is close.
[[nodiscard]] std::string_view closest(std::string_view key,
                                       std::span<const std::string_view> known);
/// The refusal of a key that `object` does not have.
[[nodiscard]] Problem unknown_key(std::string_view location, std::string_view key,
                                  std::string_view object, std::span<const std::string_view> known);
/// "storage 'vol0'", or "[[storage]]" for one without a usable name.
[[nodiscard]] std::string object_name(std::string_view kind, const Value& table);

/// Keys that a document has beside the fields; whoever calls reads them.
using ExtraKeys = std::span<const std::string_view>;

template <typename Spec>
[[nodiscard]] Outcome<> read_fields(Spec& spec, std::span<const Field<Spec>> fields,
                                    ExtraKeys extra, const Value& table, std::string_view object,
                                    std::string_view file_name) {
    std::vector<std::string_view> known(extra.begin(), extra.end());
    for (const auto& field : fields) known.push_back(field.key);
    for (const Member& member : *table.as<Value::Table>()) {
        const std::string at = location(file_name, member.value.line);
        if (std::ranges::find(known, member.key) == known.end()) {
            return std::unexpected(unknown_key(at, member.key, object, known));
        }
        const auto field = std::ranges::find(fields, member.key, &Field<Spec>::key);
        if (field == fields.end()) continue;  // an extra key
        if (auto judged = field->read(spec, member.value); !judged) {
            const unsigned line = judged.error().line;
            return refuse(line == 0 ? at + std::string(object) + ": " + member.key + ": " +
                                          judged.error().text
                                    : location(file_name, line) + std::string(object) + ": " +
                                          member.key + ": " + judged.error().text);
        }
    }
    for (const auto& field : fields) {
        if (field.required && table.find(field.key) == nullptr) {
            return refuse(location(file_name, table.line) + std::string(object) + " has no " +
                          std::string(field.key) + ", and can't be without; add it");
        }
    }
    return {};
}

/// One table of `kind` as a spec of its own; `extra` keys are left to the caller.
template <typename Spec>
[[nodiscard]] Outcome<Spec> read_spec(std::string_view kind, std::span<const Field<Spec>> fields,
                                      ExtraKeys extra, const Value& table,
                                      std::string_view file_name) {
    const std::string object = object_name(kind, table);
    if (table.as<Value::Table>() == nullptr) {
        return refuse(location(file_name, table.line) + object + " is " +
                      std::string(table.type_name()) + ", not a table; write its keys below [[" +
                      std::string(kind) + "]]");
    }
    Spec spec;
    if (!file_name.empty() && table.line != 0) {
        spec.where.text = std::string(file_name) + ":" + std::to_string(table.line);
    }
    TRY_VOID(read_fields(spec, fields, extra, table, object, file_name));
    return spec;
}

/// All tables of `kind` in a document; `take(table)` reads one and may refuse it.
template <typename Take>
[[nodiscard]] Outcome<> for_each_table(const Value& document, std::string_view kind,
                                       std::string_view file_name, Take&& take) {
    const Value* const value = document.find(kind);
    if (value == nullptr) return {};
    const auto* const tables = value->template as<Value::Array>();
    if (tables == nullptr) {
        return refuse(location(file_name, value->line) + std::string(kind) + " is " +
                      std::string(value->type_name()) +
                      ", not a list of tables; write its keys below [[" + std::string(kind) +
                      "]] (two brackets)");
    }
    for (const Value& table : *tables) TRY_VOID(take(table));
    return {};
}

}  // namespace dst::control
