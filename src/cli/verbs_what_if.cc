// `dst what-if`: what the loss of each node, link and host of a storage would mean.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/session.h"
#include "cli/terminal.h"
#include "control/config.h"
#include "control/what_if.h"

namespace dst::cli {
namespace {

int what_if(const Session& session, const std::string& name) {
    if (const auto named = control::check_name(name); !named) return fail(named.error());
    const auto json = session.client().request("GET", "/v1/storages/" + name + "/what-if");
    if (!json || session.json) return finish(session, json);
    const auto found = control::parse_what_if(*json);
    if (!found) return fail(found.error());
    print(control::to_table(*found, output_style()));
    return kExitDone;
}

}  // namespace

void add_what_if_verb(CLI::App& app, Session& session) {
    auto name = std::make_shared<std::string>();
    auto* verb = app.add_subcommand("what-if",
                                    "Say what the loss of each node, link and host would mean now");
    verb->add_option("NAME", *name, "The storage")->required();
    verb->footer(
        "REQUESTS: go on (after so long), or wait until what is lost is back.\n"
        "AT RISK: what is then nowhere but on what is lost.\n"
        "COPIES: nodes in sync that are left.\n"
        "RESYNC: copied when it is back, with what is written meanwhile; NEW DISK: copied\n"
        "to blank disks in its place.\n"
        "STARTS: whether a head that is started meanwhile forms the storage by itself.\n"
        "Takes --json, too.\n"
        "Example: dst what-if vol0");
    verb->callback([name, &session] {
        session.action = [name, &session] { return what_if(session, *name); };
    });
}

}  // namespace dst::cli
