// `dst node ...`.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>

#include "cli/paths.h"
#include "cli/session.h"
#include "control/config.h"
#include "control/config_value.h"
#include "node/node.h"

namespace dst::cli {
namespace {

/// What the verbs of nodes are given.
struct Given {
    std::string storage;
    std::string node;
    std::string place;
    bool is_witness = false;
    bool is_forced = false;
};

/// The node's path in the API. By its cookie, the name of its directory in the tree, or its type.
Outcome<std::string> path_of(const Session& session, const Given& given) {
    TRY_VOID(control::check_name(given.storage));
    TRY(const control::Status status, session.client().status());
    // 'R: host/disk0' is 'R: host:10809/disk0'.
    std::string type = given.node;
    if (const auto spec = read_node(given.node)) type = control::to_string(*spec);
    if (std::ranges::find(status.storages, given.storage, &control::StorageStatus::name) ==
        status.storages.end())
        return refuse(
            ErrorCode::not_found,
            fmt::format("there is no storage '{}': 'dst storage list' lists what there is",
                        given.storage));
    std::string cookie;
    unsigned found = 0;
    for (const auto& storage : status.storages) {
        if (storage.name != given.storage) continue;
        for (const auto& node : storage.nodes) {
            const std::string directory = fmt::format("n-{}-{}", node.start.value(), node.cookie);
            if (node.cookie != given.node && node.type != type && directory != given.node) continue;
            cookie = node.cookie;
            ++found;
        }
    }
    if (found == 1) return fmt::format("/v1/storages/{}/nodes/{}", given.storage, cookie);
    return refuse(ErrorCode::not_found,
                  found == 0 ? fmt::format("storage '{}' has no node '{}': 'dst status' lists them",
                                           given.storage, given.node)
                             : fmt::format("storage '{}' has {} nodes '{}': give the cookie, as "
                                           "'dst status --json' has it",
                                           given.storage, found, given.node));
}

Outcome<std::string> body_of(const Given& given) {
    TRY(const control::NodeSpec place, read_node(given.place));
    return fmt::format(R"({{"node":{},"witness":{},"force":{}}})", control::to_json(place),
                       given.is_witness, given.is_forced);
}

int add(const Session& session, const Given& given) {
    if (const auto named = control::check_name(given.storage); !named) return fail(named.error());
    const auto body = body_of(given);
    if (!body) return fail(body.error());
    return finish(session, session.client().request(
                               "POST", "/v1/storages/" + given.storage + "/nodes", *body));
}

int replace(const Session& session, const Given& given) {
    const auto body = body_of(given);
    if (!body) return fail(body.error());
    const auto path = path_of(session, given);
    if (!path) return fail(path.error());
    return finish(session, session.client().request("POST", *path + "/replace", *body));
}

std::string force_of(const Given& given) {
    return given.is_forced ? R"({"force":true})" : std::string();
}

int remove(const Session& session, const Given& given) {
    const auto path = path_of(session, given);
    if (!path) return fail(path.error());
    if (!path->ends_with(node::to_string(0)))
        return finish(session, session.client().request("DELETE", *path, force_of(given)));
    // A place of the configuration that is no node.
    const control::Value::Table body = {{"type", control::Value(given.node)}};
    return finish(session,
                  session.client().request("DELETE", "/v1/storages/" + given.storage + "/nodes",
                                           control::format_json(control::Value(body))));
}

int mark(const Session& session, const Given& given, const char* suffix) {
    const auto path = path_of(session, given);
    if (!path) return fail(path.error());
    return finish(session, session.client().request("POST", *path + suffix, force_of(given)));
}

using Act = int (*)(const Session& session, const Given& given);

struct Verb {
    const char* word;
    const char* help;
    bool takes_node;
    bool takes_place;
    const char* force;  // what that does
    Act act;
    const char* example;
};
constexpr char kOverwrite[] = "Overwrite whatever lies where a mirror's metadata will be";
constexpr Verb kVerbs[] = {
    {"add", "Add a node while the storage is in use", false, true, kOverwrite, add,
     "dst node add vol0 'R: host3/disk0'"},
    {"remove", "Take a node out of a mirror; it keeps its data", true, false,
     "Although it has the last clean copy: another one is declared to be right", remove,
     "dst node remove vol0 'R: host3/disk0'"},
    {"replace", "Take a node out of a mirror that is not in sync, and another one in", true, true,
     kOverwrite, replace, "dst node replace vol0 'R: host3/disk0' 'R: host4/disk0'"},
    {"mark-dirty", "Trust nothing on a node: all of it is copied to it anew", true, false,
     "Although it has the last clean copy: another one is declared to be right",
     [](const Session& session, const Given& given) { return mark(session, given, "/dirty"); },
     "dst node mark-dirty vol0 'R: host3/disk0'"},
    {"mark-clean", "Go on from this copy, whatever it lacks; only where no better one can be had",
     true, false, "Although a better one can be had: what this one lacks is lost",
     [](const Session& session, const Given& given) { return mark(session, given, "/clean"); },
     "dst node mark-clean vol0 'R: host3/disk0'"},
};

void add_verb(CLI::App& node, Session& session, const Verb& verb) {
    auto given = std::make_shared<Given>();
    auto* app = node.add_subcommand(verb.word, verb.help);
    app->add_option("STORAGE", given->storage, "The storage")->required();
    if (verb.takes_node)
        app->add_option("NODE", given->node,
                        "The node: its type as 'dst status' shows it, or its cookie")
            ->required();
    if (verb.takes_place) {
        app->add_option(verb.takes_node ? "BY" : "NODE", given->place,
                        "'L: DEVICE' or 'R: HOST[:PORT]/EXPORT'")
            ->required();
    }
    app->add_flag("--force", given->is_forced, verb.force);
    if (!verb.takes_node)
        app->add_flag("--witness", given->is_witness, "It votes, and holds no data");
    app->footer(std::string("Example: ") + verb.example);
    app->callback([given, act = verb.act, &session] {
        session.action = [given, act, &session] { return act(session, *given); };
    });
}

}  // namespace

void add_node_verbs(CLI::App& app, Session& session) {
    auto* node = app.add_subcommand("node", "Change the nodes of a storage, and look at them");
    node->require_subcommand(1);
    node->footer("Example: dst node add vol0 'R: host3/disk0'");
    for (const Verb& verb : kVerbs) add_verb(*node, session, verb);
    add_inspect_verb(*node, session);
}

}  // namespace dst::cli
