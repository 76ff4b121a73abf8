#include "control/api_server_routes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include "control/config_value.h"
#include "control/metrics.h"

namespace dst::control {
namespace {

/// What a route is given: the name in its path (if it has one), and the body.
struct Call {
    Operations& operations;
    ReactorCalls& calls;
    std::string name;
    std::string second;  // of a node, where the path has one
    /// What "**" stands for.
    std::string rest;
    std::string body;

    /// Runs an operation on the reactor; its outcome is the answer.
    template <typename Start>
    ApiAnswer run(Start start) {
        const auto outcome = calls.run(std::move(start));
        if (!outcome) return refusal(outcome.error());
        if constexpr (std::is_void_v<typename std::remove_cvref_t<decltype(outcome)>::value_type>) {
            return ApiAnswer{};
        } else if constexpr (std::is_same_v<std::remove_cvref_t<decltype(*outcome)>, std::string>) {
            return ApiAnswer{200, *outcome};
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

ApiAnswer no_such_path() { return refusal(404, "there is no such path in the API"); }

ApiAnswer status(Call& call) {
    return call.run([&o = call.operations] { return o.status(); });
}

ApiAnswer metrics(Call& call) {
    ApiAnswer answer = call.run([&o = call.operations] { return o.metrics(); });
    if (answer.status == 200) answer.type = kPrometheusType;
    return answer;
}

ApiAnswer events(Call& call) {
    std::uint64_t after = 0;
    const char* const end = call.name.data() + call.name.size();
    const auto [at, error] = std::from_chars(call.name.data(), end, after);
    if (!call.name.empty() && (error != std::errc() || at != end))
        return refusal(404, "events are asked for by a number: those after it");
    if (!call.rest.empty() && call.rest != "wait") return no_such_path();
    return call.run(
        [&o = call.operations, after, wait = !call.rest.empty()] { return o.events(after, wait); });
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
/// The members of a body, which may be left out; the one that is none of `known` is refused.
Outcome<Value> read_options(const std::string& body,
                            std::initializer_list<std::string_view> known) {
    if (body.empty()) return Value(Value::Table{});
    TRY(Value value, parse_json(body));
    const auto* members = std::get_if<Value::Table>(&value.data);
    if (members == nullptr)
        return refuse(fmt::format("the body is {}; send one JSON object", value.type_name()));
    for (const Member& member : *members)
        if (std::ranges::find(known, member.key) == known.end())
            return refuse(
                fmt::format("{} is not known here; send {}", member.key, fmt::join(known, ", ")));
    return value;
}

template <typename T>
Outcome<T> read_option(Value& options, std::string_view key, T otherwise, std::string_view what) {
    TRY(const Value value, take_member(options, key));
    if (std::holds_alternative<std::monostate>(value.data)) return otherwise;
    if (const auto* read = value.as<T>()) return *read;
    return refuse(fmt::format("{} is {}; send {}", key, value.type_name(), what));
}

constexpr std::string_view kFlag = "true or false";

ApiAnswer config(Call& call) {
    return call.run([&o = call.operations] { return o.config(); });
}

struct Wish {
    Config config;
    bool prune = false;
};

Outcome<Wish> read_wish(const std::string& body) {
    TRY(Value options, read_options(body, {"toml", "prune"}));
    TRY(const std::string toml, read_option(options, "toml", std::string(), "a configuration"));
    TRY(const bool prune, read_option(options, "prune", false, kFlag));
    auto config = parse_config(toml, "what is wanted");
    if (!config) return refuse(config.error().text);  // who asks is wrong, no file of ours
    return Wish{*std::move(config), prune};
}

ApiAnswer plan(Call& call) {
    auto wish = read_wish(call.body);
    if (!wish) return refusal(wish.error());
    return call.run([&o = call.operations, wish = *std::move(wish)] {
        return o.plan(wish.config, wish.prune);
    });
}

Outcome<Starting> read_starting(const std::string& body) {
    TRY(Value options, read_options(body, {"force", "keep"}));
    TRY(const bool force, read_option(options, "force", false, kFlag));
    TRY(std::string keep, read_option(options, "keep", std::string(), "the cookie of a node"));
    return Starting{.force = force, .keep = std::move(keep)};
}

ApiAnswer start_storage(Call& call) {
    const auto how = read_starting(call.body);
    if (!how) return refusal(how.error());
    return call.run([&o = call.operations, name = call.name, how = *how] {
        return o.storage_start(name, how);
    });
}

ApiAnswer assemble_storage(Call& call) {
    auto spec = parse_storage_json(call.body);
    if (!spec) return refusal(spec.error());
    return call.run(
        [&o = call.operations, spec = *std::move(spec)] { return o.storage_assemble(spec); });
}

Outcome<bool> read_repair(const std::string& body) {
    TRY(Value options, read_options(body, {"repair"}));
    return read_option(options, "repair", false, kFlag);
}

ApiAnswer verify_storage(Call& call) {
    const auto repair = read_repair(call.body);
    if (!repair) return refusal(repair.error());
    return call.run([&o = call.operations, name = call.name, repair = *repair] {
        return o.storage_verify(name, repair);
    });
}

ApiAnswer grow_storage(Call& call) {
    return call.run([&o = call.operations, name = call.name] { return o.storage_grow(name); });
}

ApiAnswer what_if(Call& call) {
    return call.run([&o = call.operations, name = call.name] { return o.storage_what_if(name); });
}

Outcome<ResyncChange> read_resync(const std::string& body) {
    TRY(Value options, read_options(body, {"size", "timeout"}));
    TRY(const std::int64_t size,
        read_option(options, "size", std::int64_t{-1}, "the window in sectors"));
    TRY(const std::int64_t timeout,
        read_option(options, "timeout", std::int64_t{-1}, "the time between checks in ms"));
    ResyncChange change;
    if (size == 0 || timeout == 0 || size < -1 || timeout < -1)
        return refuse("size and timeout are numbers above 0");
    if (size > 0) change.size = SectorCount(static_cast<std::uint64_t>(size));
    if (timeout > 0) change.timeout = std::chrono::milliseconds(timeout);
    if (!change.size && !change.timeout)
        return refuse("nothing is to be changed; send size (sectors) or timeout (ms)");
    return change;
}

ApiAnswer set_resync(Call& call) {
    const auto change = read_resync(call.body);
    if (!change) return refusal(change.error());
    return call.run([&o = call.operations, name = call.name, change = *change] {
        return o.storage_set_resync(name, change);
    });
}
ApiAnswer stop_storage(Call& call) {
    return call.run([&o = call.operations, name = call.name] { return o.storage_stop(name); });
}

struct NewNode {
    NodeSpec spec;
    Adding how;
};

Outcome<NewNode> read_new_node(const std::string& body) {
    TRY(Value value, parse_json(body));
    TRY(const Value node, take_member(value, "node"));
    TRY(const bool is_witness, read_option(value, "witness", false, kFlag));
    TRY(const bool force, read_option(value, "force", false, kFlag));
    TRY(NodeSpec spec, parse_node_json(format_json(node)));
    return NewNode{std::move(spec), {.is_witness = is_witness, .force = force}};
}

ApiAnswer add_node(Call& call) {
    auto node = read_new_node(call.body);
    if (!node) return refusal(node.error());
    return call.run([&o = call.operations, name = call.name, node = *std::move(node)] {
        return o.node_add(name, node.spec, node.how);
    });
}

/// An empty body says no.
Outcome<bool> read_force(const std::string& body) {
    TRY(Value options, read_options(body, {"force"}));
    return read_option(options, "force", false, kFlag);
}

ApiAnswer remove_node(Call& call) {
    const auto force = read_force(call.body);
    if (!force) return refusal(force.error());
    return call.run([&o = call.operations, name = call.name, node = call.second, force = *force] {
        return o.node_remove(name, node, force);
    });
}

Outcome<std::string> read_type(const std::string& body) {
    TRY(Value options, read_options(body, {"type"}));
    TRY(std::string type, read_option(options, "type", std::string(), "the node's type"));
    if (type.empty()) return refuse("type is missing: send the node's type, as its status has it");
    return type;
}

/// One that has no cookie, because it is no node yet, or none any more.
ApiAnswer remove_place(Call& call) {
    const auto type = read_type(call.body);
    if (!type) return refusal(type.error());
    return call.run([&o = call.operations, name = call.name, type = *type] {
        return o.node_remove(name, type, false);
    });
}

ApiAnswer replace_node(Call& call) {
    auto by = read_new_node(call.body);
    if (!by) return refusal(by.error());
    return call.run([&o = call.operations, name = call.name, node = call.second,
                     by = *std::move(by)] { return o.node_replace(name, node, by.spec, by.how); });
}

template <NodeMark kMark>
ApiAnswer mark_node(Call& call) {
    const auto force = read_force(call.body);
    if (!force) return refusal(force.error());
    return call.run([&o = call.operations, name = call.name, node = call.second, force = *force] {
        return o.node_mark(name, node, kMark, force);
    });
}

ApiAnswer read_tree(Call& call) {
    return call.run([&o = call.operations, path = call.rest] { return o.tree_read(path); });
}

Outcome<std::string> read_value(const std::string& body) {
    TRY(Value value, parse_json(body));
    TRY(const Value text, take_member(value, "value"));
    if (const auto* string = text.as<std::string>()) return *string;
    return refuse("value is no string; send what would be written to the file");
}

ApiAnswer write_tree(Call& call) {
    auto value = read_value(call.body);
    if (!value) return refusal(value.error());
    return call.run([&o = call.operations, path = call.rest, value = *std::move(value)] {
        return o.tree_write(path, value);
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

ApiAnswer list_attachments(Call& call) {
    return call.run([&o = call.operations] { return o.attach_list(); });
}

Outcome<attach::Spec> read_attachment(const std::string& body) {
    TRY(Value options, read_options(body, {"name", "via", "read_only", "file"}));
    attach::Spec spec;
    TRY(spec.name, read_option(options, "name", std::string(), "the name of a storage"));
    TRY_VOID(check_name(spec.name));
    TRY(const std::string via, read_option(options, "via", std::string(), "ublk, nbd or fuse"));
    if (!via.empty()) {
        TRY(spec.via, attach::parse_kind(via));
    }
    TRY(spec.read_only, read_option(options, "read_only", false, kFlag));
    TRY(spec.file_only, read_option(options, "file", false, kFlag));
    if (spec.file_only && spec.via && *spec.via != attach::Kind::fuse)
        return refuse(fmt::format("file goes by fuse alone; leave via out, or file"));
    return spec;
}

ApiAnswer add_attachment(Call& call) {
    const auto spec = read_attachment(call.body);
    if (!spec) return refusal(spec.error());
    const auto attached =
        call.calls.run([&o = call.operations, spec = *spec] { return o.attach(spec); });
    return attached ? ApiAnswer{200, to_json(std::vector{*attached})} : refusal(attached.error());
}

ApiAnswer remove_attachment(Call& call) {
    const auto force = read_force(call.body);
    if (!force) return refusal(force.error());
    return call.run(
        [&o = call.operations, name = call.name, force = *force] { return o.detach(name, force); });
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

/// "*" stands for a name, "**" for all that follows, if anything does.
struct Route {
    std::string_view method;
    std::string_view pattern;
    ApiAnswer (*handle)(Call& call);
};
constexpr auto kRoutes = std::to_array<Route>({
    {"GET", "/metrics", metrics},
    {"GET", "/v1/status", status},
    {"GET", "/v1/config", config},
    {"POST", "/v1/plan", plan},
    {"GET", "/v1/events", events},
    {"GET", "/v1/events/*/**", events},
    {"GET", "/v1/storages", list_storages},
    {"POST", "/v1/storages", create_storage},
    {"DELETE", "/v1/storages/*", remove_storage},
    {"POST", "/v1/storages/*/start", start_storage},
    {"POST", "/v1/storages/*/stop", stop_storage},
    {"POST", "/v1/assemblies", assemble_storage},
    {"POST", "/v1/storages/*/verify", verify_storage},
    {"POST", "/v1/storages/*/grow", grow_storage},
    {"GET", "/v1/storages/*/what-if", what_if},
    {"POST", "/v1/storages/*/resync", set_resync},
    {"POST", "/v1/storages/*/nodes", add_node},
    {"DELETE", "/v1/storages/*/nodes", remove_place},
    {"DELETE", "/v1/storages/*/nodes/*", remove_node},
    {"POST", "/v1/storages/*/nodes/*/replace", replace_node},
    {"POST", "/v1/storages/*/nodes/*/dirty", mark_node<NodeMark::dirty>},
    {"POST", "/v1/storages/*/nodes/*/clean", mark_node<NodeMark::clean>},
    {"GET", "/v1/tree/**", read_tree},
    {"PUT", "/v1/tree/**", write_tree},
    {"GET", "/v1/exports", list_exports},
    {"POST", "/v1/exports", add_export},
    {"DELETE", "/v1/exports/*", remove_export},
    {"GET", "/v1/attachments", list_attachments},
    {"POST", "/v1/attachments", add_attachment},
    {"DELETE", "/v1/attachments/*", remove_attachment},
    {"GET", "/v1/algorithms", list_algorithms},
    {"POST", "/v1/algorithms", load_algorithm},
    {"DELETE", "/v1/algorithms/*", unload_algorithm},
});

constexpr std::string_view kRest = "**";

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

/// What follows the parts of `pattern` in `path`.
std::string rest_of(std::string_view pattern, std::span<const std::string_view> parts) {
    const std::size_t before = split(pattern).size() - 1;
    if (!pattern.ends_with(kRest) || parts.size() <= before) return {};
    return fmt::format("{}", fmt::join(parts.subspan(before), "/"));
}

bool matches(std::string_view pattern, std::span<const std::string_view> parts) {
    auto expected_parts = split(pattern);
    if (expected_parts.back() == kRest) {
        expected_parts.pop_back();
        parts = parts.first(std::min(parts.size(), expected_parts.size()));
    }
    return std::ranges::equal(expected_parts, parts, [](auto expected, auto part) {
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
        Call call{operations,
                  calls,
                  std::string(parts.size() > 2 ? parts[2] : ""),
                  std::string(parts.size() > 4 ? parts[4] : ""),
                  rest_of(route.pattern, parts),
                  request.body};
        return route.handle(call);
    }
    if (methods.empty()) return no_such_path();
    return refusal(
        405, fmt::format("{} can't be done with this path, only {}", request.method, methods));
}

}  // namespace dst::control
