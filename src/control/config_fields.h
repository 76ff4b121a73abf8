// The keys of each spec: how one is read from a Value, and how it is written back.
//
// Each key stands in one table only, so what is read, what is written, what counts as unknown and
// what two specs differ in can't disagree.
#pragma once

#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "control/config.h"
#include "control/config_value.h"

namespace dst::control {

/// What is wrong with one value, for a person; `line` if it is another than the value's own.
struct Complaint {
    std::string text;
    unsigned line = 0;
};
using Judged = std::expected<void, Complaint>;

template <typename Spec>
struct Field {
    std::string_view key;
    Judged (*read)(Spec& into, const Value& value);
    /// Nothing, if the spec has the default.
    std::optional<Value> (*write)(const Spec& from);
    bool required = false;
};

[[nodiscard]] std::span<const Field<Config>> daemon_fields();
[[nodiscard]] std::span<const Field<ExportSpec>> export_fields();
[[nodiscard]] std::span<const Field<StorageSpec>> storage_fields();
[[nodiscard]] std::span<const Field<AlgorithmSpec>> algorithm_fields();

/// A node: a string, or a table {device, size, cache}.
[[nodiscard]] std::expected<NodeSpec, Complaint> read_node(const Value& value);
[[nodiscard]] Value write_node(const NodeSpec& node);

template <typename Spec>
[[nodiscard]] Value::Table write_fields(std::span<const Field<Spec>> fields, const Spec& spec) {
    Value::Table table;
    for (const auto& field : fields) {
        if (auto value = field.write(spec)) {
            table.push_back({std::string(field.key), *std::move(value)});
        }
    }
    return table;
}

}  // namespace dst::control
