#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "control/config_value.h"

namespace dst::control {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kDepthMax = 8;  // a storage's node's table is 3 deep

Outcome<Value> from_json(const Json& json, int depth) {
    if (depth > kDepthMax) {
        return refuse(
            fmt::format("the JSON is nested more than {} deep; no setting is", kDepthMax));
    }
    if (json.is_string()) return Value(json.get<std::string>());
    if (json.is_boolean()) return Value(json.get<bool>());
    if (json.is_number_unsigned() &&
        json.get<std::uint64_t>() > std::uint64_t(std::numeric_limits<std::int64_t>::max())) {
        return Value(json.get<double>());
    }
    if (json.is_number_integer()) return Value(json.get<std::int64_t>());
    if (json.is_number_float()) return Value(json.get<double>());
    if (json.is_array()) {
        Value::Array items;
        for (const Json& item : json) {
            TRY(Value value, from_json(item, depth + 1));
            items.push_back(std::move(value));
        }
        return Value(std::move(items));
    }
    if (json.is_object()) {
        Value::Table members;
        for (const auto& [key, item] : json.items()) {
            TRY(Value value, from_json(item, depth + 1));
            members.push_back({key, std::move(value)});
        }
        return Value(std::move(members));
    }
    return Value();
}

struct JsonMaker {
    Json operator()(std::monostate) const { return nullptr; }
    Json operator()(const Value::Array& items) const {
        Json out = Json::array();
        for (const Value& item : items) out.push_back(std::visit(*this, item.data));
        return out;
    }
    Json operator()(const Value::Table& members) const {
        Json out = Json::object();
        for (const Member& member : members) {
            out[member.key] = std::visit(*this, member.value.data);
        }
        return out;
    }
    template <typename Scalar>
    Json operator()(const Scalar& scalar) const {
        return scalar;
    }
};

}  // namespace

Outcome<Value> parse_json(std::string_view text) {
    try {
        return from_json(Json::parse(text), 0);
    } catch (const Json::parse_error& error) {
        return refuse(fmt::format("not JSON: wrong at byte {}; send one JSON object", error.byte));
    } catch (const std::exception&) {
        return refuse("not JSON that can be read; send one JSON object");
    }
}

std::string format_json(const Value& value) {
    return std::visit(JsonMaker{}, value.data).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace dst::control
