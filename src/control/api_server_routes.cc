#include "control/api_server_routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "control/config_value.h"

namespace dst::control {
namespace {

/// What a route is given: the name in its path (if it has one), and the body.
struct Call {
    Operations& operations;
    ReactorCalls& calls;
    std::string name;
    std::string body;

    /// Runs an operation on the reactor; its outcome is the answer.
    template <typename Start>
    ApiAnswer run(Start start) {
        const auto outcome = calls.run(std::move(start));
        if (!outcome) return refusal(outcome.error());
        if constexpr (std::is_void_v<typename std::remove_cvref_t<decltype(outcome)>::value_type>) {
            return ApiAnswer{};
        } else {
            return ApiAnswer{200, to_json(*outcome)};
        }
    }
};

/// The member `key` of a body that must be an object, taken out of it; empty if it has none.
Outcome<Value> take_member(Value& body, std::string_view key) {
    auto* members = std::get_if<Value::Table>(&body.data);
    if (members == nullptr) {
        return refuse(fmt::format("the body is {}; send one JSON object", body.type_name()));
    }
    const auto found = std::ranges::find(*members, key, &Member::key);
    if (found == members->end()) return Value();
    Value value = std::move(found->value);
    members->erase(found);
    return value;
}

ApiAnswer status(Call& call) {
    return call.run([&o = call.operations] { return o.status(); });
}

ApiAnswer list_storages(Call& call) {
    const auto all = call.calls.run([&o = call.operations] { return o.status(); });
    return all ? ApiAnswer{200, to_json(all->storages)} : refusal(all.error());
}

struct Creation {
    StorageSpec spec;
    bool start = true;
};

Outcome<Creation> read_creation(const std::string& body) {
    TRY(Value value, parse_json(body));
    TRY(const Value start, take_member(value, "start"));
    TRY(StorageSpec spec, parse_storage_json(format_json(value)));
    if (std::holds_alternative<std::monostate>(start.data)) return Creation{std::move(spec)};
    const auto* flag = start.as<bool>();
    if (flag == nullptr)
        return refuse("start is " + std::string(start.type_name()) +
                      "; send true or false, or leave it out");
    return Creation{std::move(spec), *flag};
}

ApiAnswer create_storage(Call& call) {
    auto creation = read_creation(call.body);
    if (!creation) return refusal(creation.error());
    return call.run([&o = call.operations, c = *std::move(creation)] {
        return o.storage_create(c.spec, c.start);
    });
}

ApiAnswer remove_storage(Call& call) {
    return call.run([&o = call.operations, name = call.name] { return o.storage_remove(name); });
}
ApiAnswer start_storage(Call& call) {
    return call.run([&o = call.operations, name = call.name] { return o.storage_start(name); });
}
ApiAnswer stop_storage(Call& call) {
    return call.run([&o = call.operations, name = call.name] { return o.storage_stop(name); });
}

Outcome<NodeSpec> read_new_node(const std::string& body) {
    TRY(Value value, parse_json(body));
    TRY(const Value node, take_member(value, "node"));
    return parse_node_json(format_json(node));
}

ApiAnswer add_node(Call& call) {
    auto node = read_new_node(call.body);
    if (!node) return refusal(node.error());
    return call.run([&o = call.operations, name = call.name, node = *std::move(node)] {
        return o.node_add(name, node);
    });
}

ApiAnswer list_exports(Call& call) {
    return call.run([&o = call.operations] { return o.export_list(); });
}

ApiAnswer add_export(Call& call) {
    auto spec = parse_export_json(call.body);
    if (!spec) return refusal(spec.error());
    return call.run([&o = call.operations, spec = *std::move(spec)] { return o.export_add(spec); });
}

ApiAnswer remove_export(Call& call) {
    return call.run([&o = call.operations, name = call.name] { return o.export_remove(name); });
}

ApiAnswer list_algorithms(Call& call) {
    return call.run([&o = call.operations] { return o.algorithm_list(); });
}

Outcome<std::string> read_file_name(const std::string& body) {
    TRY(Value value, parse_json(body));
    TRY(const Value file, take_member(value, "file"));
    const auto* path = file.as<std::string>();
    if (path != nullptr && path->starts_with('/')) return *path;
    return refuse("file names no shared object; send its absolute path");
}

ApiAnswer load_algorithm(Call& call) {
    auto file = read_file_name(call.body);
    if (!file) return refusal(file.error());
    const auto loaded = call.calls.run(
        [&o = call.operations, file = *std::move(file)] { return o.algorithm_load(file); });
    return loaded ? ApiAnswer{200, to_json(std::vector{*loaded})} : refusal(loaded.error());
}

ApiAnswer unload_algorithm(Call& call) {
    return call.run([&o = call.operations, name = call.name] { return o.algorithm_unload(name); });
}

/// "*" stands for a name.
struct Route {
    std::string_view method;
    std::string_view pattern;
    ApiAnswer (*handle)(Call& call);
};
constexpr auto kRoutes = std::to_array<Route>({
    {"GET", "/v1/status", status},
    {"GET", "/v1/storages", list_storages},
    {"POST", "/v1/storages", create_storage},
    {"DELETE", "/v1/storages/*", remove_storage},
    {"POST", "/v1/storages/*/start", start_storage},
    {"POST", "/v1/storages/*/stop", stop_storage},
    {"POST", "/v1/storages/*/nodes", add_node},
    {"GET", "/v1/exports", list_exports},
    {"POST", "/v1/exports", add_export},
    {"DELETE", "/v1/exports/*", remove_export},
    {"GET", "/v1/algorithms", list_algorithms},
    {"POST", "/v1/algorithms", load_algorithm},
    {"DELETE", "/v1/algorithms/*", unload_algorithm},
});

/// "/v1/storages/vol0/start" is {"v1", "storages", "vol0", "start"}.
std::vector<std::string_view> split(std::string_view path) {
    std::vector<std::string_view> parts;
    while (path.starts_with('/')) {
        path.remove_prefix(1);
        const auto end = std::min(path.find('/'), path.size());
        parts.push_back(path.substr(0, end));
        path.remove_prefix(end);
    }
    return parts;
}

bool matches(std::string_view pattern, const std::vector<std::string_view>& parts) {
    return std::ranges::equal(split(pattern), parts, [](auto expected, auto part) {
        return expected == "*" || expected == part;
    });
}

}  // namespace

ApiAnswer Routes::answer(const ApiRequest& request) {
    const auto parts = split(request.path);
    std::string methods;
    for (const Route& route : kRoutes) {
        if (!matches(route.pattern, parts)) continue;
        if (route.method != request.method) {
            methods += (methods.empty() ? "" : ", ") + std::string(route.method);
            continue;
        }
        Call call{operations, calls, std::string(parts.size() > 2 ? parts[2] : ""), request.body};
        return route.handle(call);
    }
    if (methods.empty()) return refusal(404, "there is no such path in the API");
    return refusal(
        405, fmt::format("{} can't be done with this path, only {}", request.method, methods));
}

}  // namespace dst::control
