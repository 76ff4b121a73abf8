#include "control/config.h"

#include <algorithm>

#include "control/config_reader.h"

namespace dst::control {
namespace {

constexpr std::string_view kLists[] = {"export", "storage", "algorithm"};

/// A JSON document as one spec; the object stands alone, so there is no place to name.
template <typename Spec>
Outcome<Spec> parse_json_spec(std::string_view kind, std::span<const Field<Spec>> fields,
                              std::string_view json) {
    TRY(const Value value, parse_json(json));
    if (value.as<Value::Table>() == nullptr) {
        return refuse("the JSON is " + std::string(value.type_name()) + "; send one object");
    }
    return read_spec(kind, fields, {}, value, {});
}

}  // namespace

const ExportSpec* Config::find_export(std::string_view name) const {
    const auto found = std::ranges::find(exports, name, &ExportSpec::name);
    return found == exports.end() ? nullptr : &*found;
}

const StorageSpec* Config::find_storage(std::string_view name) const {
    const auto found = std::ranges::find(storages, name, &StorageSpec::name);
    return found == storages.end() ? nullptr : &*found;
}

Outcome<Config> parse_config(std::string_view toml, std::string_view file_name) {
    TRY(const Value document, parse_toml(toml, file_name));
    Config config;
    TRY_VOID(read_fields(config, daemon_fields(), kLists, document, "daemon", file_name));
    TRY_VOID(for_each_table(document, "export", file_name, [&](const Value& table) -> Outcome<> {
        TRY(ExportSpec spec, read_spec("export", export_fields(), {}, table, file_name));
        config.exports.push_back(std::move(spec));
        return {};
    }));
    TRY_VOID(for_each_table(document, "storage", file_name, [&](const Value& table) -> Outcome<> {
        TRY(StorageSpec spec, read_spec("storage", storage_fields(), {}, table, file_name));
        config.storages.push_back(std::move(spec));
        return {};
    }));
    TRY_VOID(for_each_table(document, "algorithm", file_name, [&](const Value& table) -> Outcome<> {
        TRY(AlgorithmSpec spec, read_spec("algorithm", algorithm_fields(), {}, table, file_name));
        config.algorithms.push_back(std::move(spec));
        return {};
    }));
    TRY_VOID(check(config));
    return config;
}

std::string to_toml(const ExportSpec& spec) {
    return format_toml("[[export]]", write_fields(export_fields(), spec));
}
std::string to_toml(const StorageSpec& spec) {
    return format_toml("[[storage]]", write_fields(storage_fields(), spec));
}
std::string to_toml(const AlgorithmSpec& spec) {
    return format_toml("[[algorithm]]", write_fields(algorithm_fields(), spec));
}

std::string to_toml(const Config& config) {
    std::string out = format_toml("", write_fields(daemon_fields(), config));
    const auto append = [&](const auto& specs) {
        for (const auto& spec : specs) out += (out.empty() ? "" : "\n") + to_toml(spec);
    };
    append(config.exports);
    append(config.storages);
    append(config.algorithms);
    return out;
}

Outcome<ExportSpec> parse_export_json(std::string_view json) {
    return parse_json_spec("export", export_fields(), json);
}
Outcome<StorageSpec> parse_storage_json(std::string_view json) {
    return parse_json_spec("storage", storage_fields(), json);
}
Outcome<NodeSpec> parse_node_json(std::string_view json) {
    TRY(const Value value, parse_json(json));
    auto node = read_node(value);
    if (!node) return refuse("node: " + node.error().text);
    return *std::move(node);
}

std::string to_json(const ExportSpec& spec) {
    return format_json(Value(write_fields(export_fields(), spec)));
}
std::string to_json(const StorageSpec& spec) {
    return format_json(Value(write_fields(storage_fields(), spec)));
}
std::string to_json(const NodeSpec& node) { return format_json(write_node(node)); }

ByteCount replay_window(const StorageSpec& spec, const Config& config) {
    constexpr ByteCount kReplayWindow = ByteCount(64 << 20);
    return spec.replay_window.value_or(
        std::min(kReplayWindow, ByteCount(config.memory.value() / 4)));
}

unsigned spin_us(const StorageSpec& spec, const Config& config) {
    return spec.spin_us.value_or(config.spin_us);
}

}  // namespace dst::control
