#include "control/attach_record.h"

#include <fmt/format.h>

#include "control/config_value.h"

namespace dst::control {
namespace {

constexpr std::int64_t kVersion = 1;

/// Null if it is not there, or is something else.
template <typename T>
const T* member(const Value& table, std::string_view key) {
    const Value* const found = table.find(key);
    return found == nullptr ? nullptr : found->as<T>();
}

Outcome<attach::Spec> read_spec(const Value& value) {
    const auto* const name = member<std::string>(value, "name");
    const auto* const via = member<std::string>(value, "via");
    if (name == nullptr || via == nullptr) return refuse("an attachment has no name, or no way");
    TRY_VOID(check_name(*name));
    TRY(const attach::Kind kind, attach::parse_kind(*via));
    attach::Spec spec{.name = *name, .via = kind};
    if (const auto* flag = member<bool>(value, "read_only")) spec.read_only = *flag;
    if (const auto* flag = member<bool>(value, "file")) spec.file_only = *flag;
    if (const auto* device = member<std::string>(value, "device")) spec.device = *device;
    return spec;
}

Outcome<std::vector<attach::Spec>> read_all(std::string_view json) {
    TRY(const Value document, parse_json(json));
    const auto* const version = member<std::int64_t>(document, "version");
    const auto* const all = member<Value::Array>(document, "attachments");
    if (version == nullptr || *version != kVersion || all == nullptr)
        return refuse(fmt::format("it does not say \"version\": {}", kVersion));
    std::vector<attach::Spec> attached;
    for (const Value& value : *all) {
        TRY(attach::Spec spec, read_spec(value));
        attached.push_back(std::move(spec));
    }
    return attached;
}

}  // namespace

std::string attachments_to_json(const std::vector<attach::Spec>& attached) {
    Value::Array all;
    for (const attach::Spec& spec : attached)
        all.emplace_back(Value::Table{
            {"name", Value(spec.name)},
            {"via", Value(std::string(spec.via ? to_string(*spec.via) : std::string_view()))},
            {"read_only", Value(spec.read_only)},
            {"file", Value(spec.file_only)},
            {"device", Value(spec.device)}});
    return format_json(
               Value(Value::Table{{"version", Value(kVersion)}, {"attachments", Value(all)}})) +
           "\n";
}

Outcome<std::vector<attach::Spec>> parse_attachments(std::string_view json,
                                                     std::string_view file_name) {
    auto read = read_all(json);
    if (read) return read;
    return refuse(ErrorCode::corrupt,
                  fmt::format("{}: {}; move it away to begin with nothing attached", file_name,
                              read.error().text));
}

std::string attachments_path(const Config& config) {
    return config.state_dir + "/attachments.json";
}

Outcome<std::vector<attach::Spec>> load_attachments(io::FileSystem& files,
                                                    const std::string& path) {
    auto text = files.load(path);
    if (!text && text.error().code == ErrorCode::not_found) return std::vector<attach::Spec>{};
    if (!text) return std::unexpected(std::move(text).error());
    return parse_attachments(*text, path);
}

}  // namespace dst::control
