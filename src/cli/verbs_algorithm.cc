// `dst algorithm ...`.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/paths.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "control/config.h"
#include "control/config_value.h"

namespace dst::cli {
namespace {

using control::Value;

int load(const Session& session, const std::string& file) {
    const Value body(Value::Table{{"file", Value(absolute(file))}});
    return finish(session,
                  session.client().request("POST", "/v1/algorithms", control::format_json(body)));
}

int unload(const Session& session, const std::string& name) {
    if (const auto named = control::check_name(name); !named) return fail(named.error());
    return finish(session, session.client().request("DELETE", "/v1/algorithms/" + name));
}

int list(const Session& session) {
    const auto json = session.client().request("GET", "/v1/algorithms");
    if (!json || session.json) return finish(session, json);
    const auto status = control::parse_status(*json);
    if (!status) return fail(status.error());
    print(control::algorithm_table(status->algorithms, output_style()));
    return kExitDone;
}

}  // namespace

void add_algorithm_verbs(CLI::App& app, Session& session) {
    auto* group = app.add_subcommand("algorithm", "Load, list, unload algorithms");
    group->require_subcommand(1);
    group->footer("Example: dst algorithm list");

    auto file = std::make_shared<std::string>();
    auto* loading = group->add_subcommand("load", "Load an algorithm from a shared object");
    loading->add_option("FILE", *file, "The shared object, on the daemon's host")->required();
    loading->footer("Example: dst algorithm load /usr/lib/dst/stripe.so");
    loading->callback(
        [file, &session] { session.action = [file, &session] { return load(session, *file); }; });

    auto name = std::make_shared<std::string>();
    auto* unloading = group->add_subcommand("unload", "Unload one that no storage uses");
    unloading->add_option("NAME", *name, "The algorithm's name")->required();
    unloading->footer("Example: dst algorithm unload stripe");
    unloading->callback(
        [name, &session] { session.action = [name, &session] { return unload(session, *name); }; });

    auto* listing = group->add_subcommand("list", "List the algorithms");
    listing->footer("Takes --json, too.\nExample: dst algorithm list");
    listing->callback([&session] { session.action = [&session] { return list(session); }; });
}

}  // namespace dst::cli
