// A tree of settings, as it was written: what TOML and JSON have in common. Between the parsers of
// others (config_toml.cc, config_json.cc) and our own reading of the fields (config_fields.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace dst::control {

struct Member;

struct Value {
    using Array = std::vector<Value>;
    using Table = std::vector<Member>;
    /// `monostate`: something that no setting is (a date, a null).
    std::variant<std::monostate, std::string, std::int64_t, double, bool, Array, Table> data;
    unsigned line = 0;  // 0: unknown

    Value() = default;
    template <typename T>
    explicit Value(T content, unsigned at_line = 0) : data(std::move(content)), line(at_line) {}

    template <typename T>
    [[nodiscard]] const T* as() const {
        return std::get_if<T>(&data);
    }
    /// The member of a table, or null.
    [[nodiscard]] const Value* find(std::string_view key) const;
    /// "a string", "an integer", ...: for messages.
    [[nodiscard]] std::string_view type_name() const;
};

struct Member {
    std::string key;
    Value value;
};

/// A whole document. The refusal begins with "FILE:LINE: ".
[[nodiscard]] Outcome<Value> parse_toml(std::string_view text, std::string_view file_name);
/// `key = value` lines for a table, below `header` ("[[export]]") if that is not empty.
[[nodiscard]] std::string format_toml(std::string_view header, const Value::Table& table);

[[nodiscard]] Outcome<Value> parse_json(std::string_view text);
[[nodiscard]] std::string format_json(const Value& value);

}  // namespace dst::control
