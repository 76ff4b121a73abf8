#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <tuple>

#include "control/config_value.h"
#include "control/durations.h"

namespace dst::control {
namespace {

unsigned line_of(const toml::node& node) { return static_cast<unsigned>(node.source().begin.line); }

// As deep as toml++ goes, and that stops at TOML_MAX_NESTED_VALUES.
Value from_toml(const toml::node& node) {
    const unsigned line = line_of(node);
    if (const auto* text = node.as_string()) return Value(text->get(), line);
    if (const auto* number = node.as_integer()) return Value(number->get(), line);
    if (const auto* number = node.as_floating_point()) return Value(number->get(), line);
    if (const auto* flag = node.as_boolean()) return Value(flag->get(), line);
    if (const auto* array = node.as_array()) {
        Value::Array items;
        for (const toml::node& item : *array) items.push_back(from_toml(item));
        return Value(std::move(items), line);
    }
    if (const auto* table = node.as_table()) {
        Value::Table members;
        for (const auto& [key, item] : *table) {
            members.push_back({std::string(key.str()), from_toml(item)});
        }
        // The library sorts by key; people read from top to bottom.
        std::ranges::sort(members, [](const Member& a, const Member& b) {
            return std::tie(a.value.line, a.key) < std::tie(b.value.line, b.key);
        });
        return Value(std::move(members), line);
    }
    return Value(std::monostate{}, line);
}

std::string toml_string(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (byte < 0x20 || byte == 0x7f) {
            out += fmt::format("\\u{:04X}", byte);
        } else {
            out += c;
        }
    }
    return out + "\"";
}

bool is_bare_key(std::string_view key) {
    return !key.empty() && key.find_first_not_of(
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvw"
                               "xyz0123456789_-") == std::string_view::npos;
}

std::string toml_key(std::string_view key) {
    return is_bare_key(key) ? std::string(key) : toml_string(key);
}

struct InlineWriter {
    std::string operator()(std::monostate) const { return "\"\""; }
    std::string operator()(const std::string& text) const { return toml_string(text); }
    std::string operator()(std::int64_t number) const { return fmt::format("{}", number); }
    std::string operator()(double number) const { return fmt::format("{:#}", number); }
    std::string operator()(bool flag) const { return flag ? "true" : "false"; }
    std::string operator()(const Value::Array& items) const {
        std::string out = "[";
        for (const Value& item : items) {
            if (out.size() > 1) out += ", ";
            out += std::visit(*this, item.data);
        }
        return out + "]";
    }
    std::string operator()(const Value::Table& members) const {
        std::string out = "{ ";
        for (const Member& member : members) {
            if (out.size() > 2) out += ", ";
            out += toml_key(member.key) + " = " + std::visit(*this, member.value.data);
        }
        return out + " }";
    }
};

/// The library's complaint, on one line.
std::string one_line(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte == '\n' || byte == '\r' || byte == '\t') {
            out += ' ';
        } else if (byte >= 0x20 && byte != 0x7f) {
            out += c;
        }
    }
    return out;
}

}  // namespace

Outcome<Value> parse_toml(std::string_view text, std::string_view file_name) {
    try {
        return from_toml(toml::parse(text, std::string(file_name)));
    } catch (const toml::parse_error& error) {
        return refuse(ErrorCode::corrupt,
                      fmt::format("{}:{}: not TOML: {}; correct that line", file_name,
                                  error.source().begin.line, one_line(error.description())));
    } catch (const std::exception& error) {
        return refuse(ErrorCode::corrupt, fmt::format("{}:1: can't be read: {}; correct the file",
                                                      file_name, one_line(error.what())));
    }
}

std::string format_toml(std::string_view header, const Value::Table& table) {
    std::string out;
    if (!header.empty()) out += fmt::format("{}\n", header);
    for (const Member& member : table) {
        out += toml_key(member.key) + " = " + std::visit(InlineWriter{}, member.value.data) + "\n";
    }
    return out;
}

}  // namespace dst::control
