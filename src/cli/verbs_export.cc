// `dst export ...`.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
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

struct Addition {
    std::string name;
    std::string device;
    std::vector<std::string> access;
    std::string cache;
    std::string description;
    bool read_only = false;
};

Outcome<Value> access_value(const std::vector<std::string>& access) {
    Value::Array rules;
    for (const std::string& text : access) {
        const auto equals = text.find('=');
        if (equals == std::string::npos) {
            return refuse(
                fmt::format("--access {} says not what may be done; write --access "
                            "FROM=rw, FROM=ro or FROM=none",
                            text));
        }
        rules.emplace_back(Value::Table{{"from", Value(text.substr(0, equals))},
                                        {"mode", Value(text.substr(equals + 1))}});
    }
    return Value(std::move(rules));
}

/// The same checks as for a configuration file, before the daemon is asked.
Outcome<control::ExportSpec> spec_of(const Addition& addition) {
    Value::Table table = {{"name", Value(addition.name)}, {"device", Value(addition.device)}};
    if (!addition.access.empty()) {
        TRY(Value access, access_value(addition.access));
        table.push_back({"access", std::move(access)});
    }
    if (!addition.cache.empty()) table.push_back({"cache", Value(addition.cache)});
    if (addition.read_only) table.push_back({"read_only", Value(true)});
    if (!addition.description.empty()) {
        table.push_back({"description", Value(addition.description)});
    }
    TRY(control::ExportSpec spec,
        control::parse_export_json(control::format_json(Value(std::move(table)))));
    make_absolute(spec.device);
    return spec;
}

int add(const Session& session, const Addition& addition) {
    const auto spec = spec_of(addition);
    if (!spec) return fail(spec.error());
    return finish(session,
                  session.client().request("POST", "/v1/exports", control::to_json(*spec)));
}

int remove(const Session& session, const std::string& name) {
    if (const auto named = control::check_name(name); !named) return fail(named.error());
    return finish(session, session.client().request("DELETE", "/v1/exports/" + name));
}

int list(const Session& session) {
    const auto json = session.client().request("GET", "/v1/exports");
    if (!json || session.json) return finish(session, json);
    const auto status = control::parse_status(*json);
    if (!status) return fail(status.error());
    print(control::export_table(status->exports, output_style()));
    return kExitDone;
}

void add_add(CLI::App& group, Session& session) {
    auto addition = std::make_shared<Addition>();
    auto* verb = group.add_subcommand("add", "Show a device to the network");
    verb->add_option("NAME", addition->name, "The name that clients ask for")->required();
    verb->add_option("--device", addition->device, "A path, memory:SIZE or storage:NAME")
        ->required()
        ->type_name("DEVICE");
    verb->add_option("--access", addition->access,
                     "Who may do what: rw, ro or none; the first that fits counts (default: "
                     "loopback only)")
        ->allow_extra_args(false)
        ->type_name("FROM=MODE");
    verb->add_option("--cache", addition->cache, "direct or buffered")->type_name("MODE");
    verb->add_option("--description", addition->description, "For who lists exports")
        ->type_name("TEXT");
    verb->add_flag("--read-only", addition->read_only, "Nobody may write");
    verb->footer("Example: dst export add disk0 --device storage:vol0 --access 10.0.0.0/8=rw");
    verb->callback([addition, &session] {
        session.action = [addition, &session] { return add(session, *addition); };
    });
}

}  // namespace

void add_export_verbs(CLI::App& app, Session& session) {
    auto* group = app.add_subcommand("export", "Add, remove, list exports");
    group->require_subcommand(1);
    group->footer("Example: dst export list");
    add_add(*group, session);
    auto name = std::make_shared<std::string>();
    auto* removing = group->add_subcommand("remove", "Close its connections and show it no more");
    removing->add_option("NAME", *name, "The export")->required();
    removing->footer("Example: dst export remove disk0");
    removing->callback(
        [name, &session] { session.action = [name, &session] { return remove(session, *name); }; });
    auto* listing = group->add_subcommand("list", "List the exports");
    listing->footer("Takes --json, too.\nExample: dst export list");
    listing->callback([&session] { session.action = [&session] { return list(session); }; });
}

}  // namespace dst::cli
