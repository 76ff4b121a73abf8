#include "control/config_codecs.h"

namespace dst::control::codec {
namespace {

constexpr std::size_t kDescriptionMax = 4096;  // NBD: the longest string of a peer

constexpr std::string_view kSizeExample = "a size in quotes, such as \"64M\"";
constexpr std::string_view kPeriodExample =
    "a duration with a unit in quotes, such as \"5s\" or \"100ms\"";

Read<ByteCount> size_of(const Value& value, std::uint64_t bytes_per_unit) {
    if (const auto* number = value.as<std::int64_t>()) {
        if (*number < 0 || *number > (std::int64_t{1} << 53)) {
            return complain(fmt::format("{} is out of range; {}", *number, kSizeExample));
        }
        return ByteCount(static_cast<std::uint64_t>(*number) * bytes_per_unit);
    }
    const auto* text = value.as<std::string>();
    if (text == nullptr) return wrong_type(value, kSizeExample);
    return judged(parse_size(*text), value);
}

Read<ByteCount> not_zero(Read<ByteCount> size) {
    if (size && *size == ByteCount(0)) return complain("it is zero; give a size above zero");
    return size;
}

/// The first rule that an earlier one hides; it would never count.
Read<std::vector<AccessRule>> without_hidden(std::vector<AccessRule> rules, unsigned line) {
    for (std::size_t later = 1; later < rules.size(); ++later) {
        for (std::size_t earlier = 0; earlier < later; ++earlier) {
            const io::Subnet& wide = rules[earlier].subnet;
            const io::Subnet& narrow = rules[later].subnet;
            if (wide.prefix_bits > narrow.prefix_bits || !wide.contains(narrow.base)) continue;
            return complain(
                fmt::format("the rule for {} never counts, because the one for {} "
                            "stands before it and contains it; put the narrower first",
                            in_quotes(rules[later].from), in_quotes(rules[earlier].from)),
                line);
        }
    }
    return rules;
}

Read<AccessRule> read_rule(const Value& value) {
    const auto* members = value.as<Value::Table>();
    constexpr std::string_view kExample = "{ from = \"10.0.0.0/8\", mode = \"rw\" }";
    if (members == nullptr) return wrong_type(value, kExample);
    for (const Member& member : *members) {
        if (member.key != "from" && member.key != "mode") {
            return complain(
                fmt::format("unknown key {}; write {}", in_quotes(member.key), kExample),
                member.value.line);
        }
    }
    const Value* from = value.find("from");
    const Value* mode = value.find("mode");
    if (from == nullptr || mode == nullptr || from->as<std::string>() == nullptr) {
        return complain(fmt::format("a rule needs from and mode; write {}", kExample), value.line);
    }
    auto read_mode = OneOf<AccessMode>::read(*mode);
    if (!read_mode) return complain("mode: " + read_mode.error().text, mode->line);
    auto rule = judged(parse_access(*from->as<std::string>() + "=none"), *from);
    if (rule) rule->mode = *read_mode;
    return rule;
}

}  // namespace

Read<std::string> Text::read(const Value& value) {
    const auto* text = value.as<std::string>();
    if (text == nullptr) return wrong_type(value, "a string in quotes");
    if (text->size() > kDescriptionMax) {
        return complain(fmt::format("it is longer than {} bytes; shorten it", kDescriptionMax));
    }
    if (text->find('\0') != std::string::npos) return complain("it has a zero byte; remove that");
    return *text;
}

Read<std::string> Path::read(const Value& value) {
    auto text = Text::read(value);
    if (text && text->empty()) return complain("it is empty; write something or leave the key out");
    return text;
}

Read<std::string> Name::read(const Value& value) {
    const auto* text = value.as<std::string>();
    if (text == nullptr) return wrong_type(value, "a name in quotes");
    if (auto named = check_name(*text); !named) return complain(named.error().text);
    return *text;
}

Read<bool> Flag::read(const Value& value) {
    const auto* flag = value.as<bool>();
    if (flag == nullptr) return wrong_type(value, "true or false without quotes");
    return *flag;
}

Read<io::Endpoint> Endpoint::read(const Value& value) {
    const auto* text = value.as<std::string>();
    if (text == nullptr)
        return wrong_type(value, "an address in quotes, such as \"127.0.0.1:9100\"");
    return judged(io::parse_endpoint(*text, 0), value);
}

Read<std::vector<io::Endpoint>> Listen::read(const Value& value) {
    constexpr std::string_view kExample = "addresses in brackets, such as [\"127.0.0.1:10809\"]";
    const auto* items = value.as<Value::Array>();
    if (items == nullptr) return wrong_type(value, kExample);
    std::vector<io::Endpoint> endpoints;
    for (const Value& item : *items) {
        const auto* text = item.as<std::string>();
        if (text == nullptr) return wrong_type(item, kExample);
        auto endpoint = judged(io::parse_endpoint(*text, kDefaultPort), item);
        if (!endpoint) return std::unexpected(std::move(endpoint).error());
        const bool any_port = endpoint->unix_path.empty() && endpoint->port == 0;
        if (!any_port && std::ranges::find(endpoints, *endpoint) != endpoints.end()) {
            return complain(fmt::format("{} is listed twice; remove one", in_quotes(*text)),
                            item.line);
        }
        endpoints.push_back(*std::move(endpoint));
    }
    return endpoints;
}

Value Listen::write(const std::vector<io::Endpoint>& endpoints) {
    Value::Array items;
    for (const auto& endpoint : endpoints) items.emplace_back(io::to_string(endpoint));
    return Value(std::move(items));
}

Read<ByteCount> Size::read(const Value& value) { return not_zero(size_of(value, 1)); }

Read<ByteCount> MemoryLimit::read(const Value& value) {
    auto size = Size::read(value);
    if (size && *size < kMemoryMin) {
        return complain(fmt::format("{} is too little to work with; give at least {}",
                                    to_string(*size), to_string(kMemoryMin)));
    }
    return size;
}

Read<ByteCount> SectorSize::read(const Value& value) {
    auto size = not_zero(size_of(value, kSectorBytes));
    if (size && !sectors_exact(*size)) {
        return complain("it is no whole number of 512-byte sectors; use a multiple of 512",
                        value.line);
    }
    return size;
}

Read<Duration> Period::read(const Value& value) {
    if (const auto* number = value.as<std::int64_t>()) {
        return complain(fmt::format("{} has no unit; write {}", *number, kPeriodExample));
    }
    const auto* text = value.as<std::string>();
    if (text == nullptr) return wrong_type(value, kPeriodExample);
    if (*text == "forever") return complain("it can't be for ever; give a duration");
    return judged(parse_duration(*text), value);
}

Read<Duration> Milliseconds::read(const Value& value) {
    const auto* number = value.as<std::int64_t>();
    if (number == nullptr) return Period::read(value);
    return judged(parse_duration(fmt::format("{}ms", *number)), value);
}

Read<std::optional<Duration>> Patience::read(const Value& value) {
    const auto* text = value.as<std::string>();
    if (text != nullptr && *text == "forever") return std::optional<Duration>{};
    auto period = Period::read(value);
    if (!period) return complain(period.error().text + ", or \"forever\"", period.error().line);
    return *period;
}

Value Patience::write(const std::optional<Duration>& patience) {
    return Value(patience ? to_string(*patience) : std::string("forever"));
}

Read<DeviceSpec> Device::read(const Value& value) {
    const auto* text = value.as<std::string>();
    if (text == nullptr) return wrong_type(value, "a path, \"memory:SIZE\" or \"storage:NAME\"");
    return judged(parse_device(*text), value);
}

Read<std::vector<NodeSpec>> Nodes::read(const Value& value) {
    const auto* items = value.as<Value::Array>();
    if (items == nullptr) {
        return wrong_type(value, "nodes in brackets, such as [\"L: /dev/sdb\", \"R: host/disk0\"]");
    }
    std::vector<NodeSpec> nodes;
    for (const Value& item : *items) {
        auto node = read_node(item);
        if (!node) return std::unexpected(std::move(node).error());
        nodes.push_back(*std::move(node));
    }
    return nodes;
}

Value Nodes::write(const std::vector<NodeSpec>& nodes) {
    Value::Array items;
    for (const auto& node : nodes) items.push_back(write_node(node));
    return Value(std::move(items));
}

Read<std::vector<AccessRule>> Access::read(const Value& value) {
    const auto* items = value.as<Value::Array>();
    if (items == nullptr) {
        return wrong_type(value, "rules in brackets: [{ from = \"10.0.0.0/8\", mode = \"rw\" }]");
    }
    if (items->empty()) {
        return complain(
            "without a rule nobody could connect; add one, or leave the key out to let "
            "loopback in");
    }
    std::vector<AccessRule> rules;
    for (const Value& item : *items) {
        auto rule = read_rule(item);
        if (!rule) return std::unexpected(std::move(rule).error());
        rules.push_back(*std::move(rule));
    }
    return without_hidden(std::move(rules), value.line);
}

Value Access::write(const std::vector<AccessRule>& rules) {
    Value::Array items;
    for (const auto& rule : rules) {
        items.emplace_back(Value::Table{{"from", Value(rule.from)},
                                        {"mode", OneOf<AccessMode>::write(rule.mode)}});
    }
    return Value(std::move(items));
}

Read<Options::Pairs> Options::read(const Value& value) {
    const auto* members = value.as<Value::Table>();
    if (members == nullptr) return wrong_type(value, "a table, such as { chunk = \"64K\" }");
    Pairs options;
    for (const Member& member : *members) {
        std::string text;
        if (const auto* string = member.value.as<std::string>()) {
            text = *string;
        } else if (const auto* number = member.value.as<std::int64_t>()) {
            text = fmt::format("{}", *number);
        } else if (const auto* flag = member.value.as<bool>()) {
            text = *flag ? "true" : "false";
        } else {
            return complain(fmt::format("{} is {}; an option is a string, an integer or a boolean",
                                        in_quotes(member.key), member.value.type_name()),
                            member.value.line);
        }
        options.emplace_back(member.key, std::move(text));
    }
    std::ranges::sort(options);
    return options;
}

Value Options::write(const Pairs& options) {
    Value::Table members;
    for (const auto& [key, text] : options) members.push_back({key, Value(text)});
    return Value(std::move(members));
}

}  // namespace dst::control::codec
