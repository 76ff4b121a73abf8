// `dst storage ...`.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/paths.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "control/config.h"
#include "control/config_value.h"

namespace dst::cli {
namespace {

using control::Value;

/// Options of `storage create` that stand for a key of the configuration.
struct Setting {
    const char* option;
    const char* key;
    const char* help;
};
constexpr Setting kSettings[] = {
    {"--init", "init", "zero, adopt or assume-clean"},
    {"--grace", "grace", "How long writes wait for a silent node"},
    {"--slow", "slow", "How much later than another a node may answer"},
    {"--hold", "hold", "How long requests wait when no copy can answer, or forever"},
    {"--takeover", "takeover", "How long a head may be gone before another takes over"},
    {"--quorum", "quorum", "none or majority"},
    {"--read-policy", "read_policy", "nearest, least-busy or local-first"},
    {"--resync-size", "resync_size", "Window of the resync"},
    {"--resync-timeout", "resync_timeout", "Time between the resync's checks"},
    {"--replay-window", "replay_window", "Changes kept for a replay"},
    {"--metadata", "metadata", "none or nodes"},
};

struct Creation {
    std::string name;
    std::string algorithm;
    std::vector<std::string> nodes;
    std::vector<std::string> witnesses;
    std::vector<std::string> options;
    std::vector<std::pair<const char*, std::string>> settings;  // by key
    std::optional<unsigned> spin_us;
    bool is_left_stopped = false;
};

Outcome<Value> options_value(const std::vector<std::string>& options) {
    Value::Table table;
    for (const std::string& option : options) {
        const auto equals = option.find('=');
        if (equals == 0 || equals == std::string::npos) {
            return refuse(fmt::format(
                "--option {} has no name or no value; write --option NAME=VALUE", option));
        }
        table.push_back({option.substr(0, equals), Value(option.substr(equals + 1))});
    }
    return Value(std::move(table));
}

Outcome<Value> nodes_value(const std::vector<std::string>& texts) {
    Value::Array nodes;
    for (const std::string& text : texts) {
        TRY(Value node, node_value(text));
        nodes.push_back(std::move(node));
    }
    return Value(std::move(nodes));
}

/// The same checks as for a configuration file, before the daemon is asked.
Outcome<control::StorageSpec> spec_of(const Creation& creation) {
    Value::Table table = {{"name", Value(creation.name)}, {"algorithm", Value(creation.algorithm)}};
    TRY(Value nodes, nodes_value(creation.nodes));
    table.push_back({"nodes", std::move(nodes)});
    if (!creation.witnesses.empty()) {
        TRY(Value witnesses, nodes_value(creation.witnesses));
        table.push_back({"witnesses", std::move(witnesses)});
    }
    for (const auto& [key, text] : creation.settings) {
        if (!text.empty()) table.push_back({key, Value(text)});
    }
    if (creation.spin_us) table.push_back({"spin_us", Value(std::int64_t{*creation.spin_us})});
    if (!creation.options.empty()) {
        TRY(Value options, options_value(creation.options));
        table.push_back({"options", std::move(options)});
    }
    TRY(control::StorageSpec spec,
        control::parse_storage_json(control::format_json(Value(std::move(table)))));
    for (auto& node : spec.nodes) make_absolute(node);
    for (auto& node : spec.witnesses) make_absolute(node);
    return spec;
}

int create(const Session& session, const Creation& creation) {
    const auto spec = spec_of(creation);
    if (!spec) return fail(spec.error());
    std::string body = control::to_json(*spec);
    if (creation.is_left_stopped) body.insert(body.size() - 1, ",\"start\":false");
    return finish(session, session.client().request("POST", "/v1/storages", body));
}

int list(const Session& session) {
    if (session.json) return finish(session, session.client().request("GET", "/v1/storages"));
    auto status = session.client().status();
    if (!status) return fail(status.error());
    for (auto& storage : status->storages) storage.nodes.clear();
    print(control::storage_table(*status, output_style()));
    return kExitDone;
}

void add_witnesses(CLI::App& verb, Creation& creation) {
    verb.add_option("--witness", creation.witnesses,
                    "Of a mirror: votes, and holds no data; written as a node")
        ->allow_extra_args(false)
        ->type_name("NODE");
}

void add_create(CLI::App& storage, Session& session) {
    auto creation = std::make_shared<Creation>();
    auto* verb = storage.add_subcommand("create", "Make a storage of nodes and start it");
    verb->add_option("NAME", creation->name, "Its name")->required();
    verb->add_option("--algorithm", creation->algorithm, "mirror, linear, or one that was loaded")
        ->required()
        ->type_name("NAME");
    verb->add_option("--node", creation->nodes,
                     "'L: DEVICE' or 'R: HOST[:PORT]/EXPORT', as often as there are nodes")
        ->required()
        ->allow_extra_args(false)
        ->type_name("NODE");
    add_witnesses(*verb, *creation);
    verb->add_option("--option", creation->options, "A setting of the algorithm's own")
        ->allow_extra_args(false)
        ->type_name("NAME=VALUE");
    creation->settings.reserve(std::size(kSettings));  // the options keep pointers into it
    for (const Setting& setting : kSettings) {
        creation->settings.emplace_back(setting.key, "");
        verb->add_option(setting.option, creation->settings.back().second, setting.help)
            ->type_name("VALUE");
    }
    verb->add_option("--spin-us", creation->spin_us, "How long to poll before sleeping, in us")
        ->type_name("N");
    verb->add_flag("--no-start", creation->is_left_stopped, "Leave it stopped");
    verb->footer(
        "docs/configuration.md says what each setting means.\n"
        "Example: dst storage create vol0 --algorithm linear --node 'L: /dev/sdb' "
        "--node 'R: host2/disk0'");
    verb->callback([creation, &session] {
        session.action = [creation, &session] { return create(session, *creation); };
    });
}

void add_assemble(CLI::App& storage, Session& session) {
    auto creation = std::make_shared<Creation>();
    creation->algorithm = control::kMirror;
    auto* verb = storage.add_subcommand(
        "assemble", "Take over a mirror that is there already; nothing is made anew");
    verb->add_option("NAME", creation->name, "Its name, as its nodes have it")->required();
    verb->add_option("--node", creation->nodes,
                     "Where a node is: 'L: DEVICE' or 'R: HOST[:PORT]/EXPORT'; as often as needed")
        ->required()
        ->allow_extra_args(false)
        ->type_name("NODE");
    add_witnesses(*verb, *creation);
    verb->footer("Example: dst storage assemble vol0 --node 'L: /dev/sdb' --node 'R: host2/disk0'");
    verb->callback([creation, &session] {
        session.action = [creation, &session] {
            const auto spec = spec_of(*creation);
            if (!spec) return fail(spec.error());
            return finish(session, session.client().request("POST", "/v1/assemblies",
                                                            control::to_json(*spec)));
        };
    });
}

int start(const Session& session, const std::string& name, const std::string& body) {
    if (const auto named = control::check_name(name); !named) return fail(named.error());
    return finish(session,
                  session.client().request("POST", "/v1/storages/" + name + "/start", body));
}

void add_start(CLI::App& storage, Session& session) {
    auto name = std::make_shared<std::string>();
    auto is_forced = std::make_shared<bool>(false);
    auto* verb = storage.add_subcommand("start", "Form a storage that was stopped, or that waits");
    verb->add_option("NAME", *name, "The storage")->required();
    verb->add_flag("--force", *is_forced,
                   "Although what the reason in 'dst status' names is not there");
    verb->footer("Example: dst storage start vol0");
    verb->callback([name, is_forced, &session] {
        session.action = [name, is_forced, &session] {
            return start(session, *name, *is_forced ? R"({"force":true})" : "");
        };
    });
}

void add_resolve(CLI::App& storage, Session& session) {
    auto name = std::make_shared<std::string>();
    auto keep = std::make_shared<std::string>();
    auto* verb = storage.add_subcommand(
        "resolve", "Of sides that have diverged say which one counts; the others are overwritten");
    verb->add_option("NAME", *name, "The storage")->required();
    verb->add_option("--keep", *keep, "A node of the side that counts: its 16 hex digits")
        ->required()
        ->type_name("COOKIE");
    verb->footer("Example: dst storage resolve vol0 --keep 0123456789abcdef");
    verb->callback([name, keep, &session] {
        session.action = [name, keep, &session] {
            const Value::Table body = {{"keep", Value(*keep)}};
            return start(session, *name, control::format_json(Value(body)));
        };
    });
}

/// A verb that names a storage and asks for `method` at its path with `suffix`.
void add_named(CLI::App& storage, Session& session, const std::string& word,
               const std::string& help, std::string method, std::string suffix) {
    auto name = std::make_shared<std::string>();
    auto* verb = storage.add_subcommand(word, help);
    verb->add_option("NAME", *name, "The storage")->required();
    verb->footer(fmt::format("Example: dst storage {} vol0", word));
    verb->callback([name, method, suffix, &session] {
        session.action = [name, method, suffix, &session] {
            if (const auto named = control::check_name(*name); !named) return fail(named.error());
            return finish(session,
                          session.client().request(method, "/v1/storages/" + *name + suffix));
        };
    });
}

}  // namespace

void add_storage_verbs(CLI::App& app, Session& session) {
    auto* storage = app.add_subcommand("storage", "Create, start, stop, remove, list storages");
    storage->require_subcommand(1);
    storage->footer("Example: dst storage list");
    add_create(*storage, session);
    add_assemble(*storage, session);
    add_start(*storage, session);
    add_resolve(*storage, session);
    add_long_storage_verbs(*storage, session);
    add_named(*storage, session, "stop", "Finish its requests, flush, and let go of its nodes",
              "POST", "/stop");
    add_named(*storage, session, "grow",
              "Take the size that the nodes of a mirror allow, which have all grown", "POST",
              "/grow");
    add_named(*storage, session, "remove", "Forget a storage; its nodes keep their data", "DELETE",
              "");
    auto* verb = storage->add_subcommand("list", "List the storages");
    verb->footer("Takes --json, too.\nExample: dst storage list");
    verb->callback([&session] { session.action = [&session] { return list(session); }; });
}

}  // namespace dst::cli
