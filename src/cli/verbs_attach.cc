// `dst attach`, `dst detach`.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/session.h"
#include "cli/terminal.h"
#include "control/config.h"
#include "control/config_value.h"
#include "io/uring/loop_device.h"

namespace dst::cli {
namespace {

using control::Value;

struct Wish {
    std::string name;
    std::string via;
    bool read_only = false;
    bool file = false;
    bool list = false;
};

int list(const Session& session) {
    const auto json = session.client().request("GET", "/v1/attachments");
    if (!json || session.json) return finish(session, json);
    const auto status = control::parse_status(*json);
    if (!status) return fail(status.error());
    print(control::attachment_table(status->attachments, output_style()));
    return kExitDone;
}

/// The name in /dev is the last word.
int attach(const Session& session, const Wish& wish) {
    if (const auto named = control::check_name(wish.name); !named) return fail(named.error());
    Value::Table body = {{"name", Value(wish.name)}};
    if (!wish.via.empty()) body.push_back({"via", Value(wish.via)});
    if (wish.read_only) body.push_back({"read_only", Value(true)});
    if (wish.file) body.push_back({"file", Value(true)});
    const auto json = session.client().request("POST", "/v1/attachments",
                                               control::format_json(Value(std::move(body))));
    if (!json || session.json) return finish(session, json);
    const auto status = control::parse_status(*json);
    if (!status) return fail(status.error());
    for (const control::AttachmentStatus& done : status->attachments) {
        for (const std::string& why : done.passed_over) print("not by " + why + "\n");
        print(fmt::format("{} is attached by {}{} as {}\n", done.name, done.via,
                          done.read_only ? ", read only," : "", done.device));
    }
    return kExitDone;
}

int detach(const Session& session, const std::string& name, bool force) {
    if (const auto named = control::check_name(name); !named) return fail(named.error());
    const std::string body =
        force ? control::format_json(Value(Value::Table{{"force", Value(true)}})) : std::string();
    return finish(session, session.client().request("DELETE", "/v1/attachments/" + name, body));
}

void add_attach(CLI::App& app, Session& session) {
    auto wish = std::make_shared<Wish>();
    auto* verb = app.add_subcommand("attach", "Give a storage a name in /dev, or list those");
    auto* name = verb->add_option("NAME", wish->name, "The storage");
    auto* via = verb->add_option("--via", wish->via, "How; without it the best that works here")
                    ->check(CLI::IsMember({"ublk", "nbd", "fuse"}))
                    ->type_name("WAY");
    auto* read_only = verb->add_flag("--read-only", wish->read_only, "Nobody may write to it");
    auto* file =
        verb->add_flag("--file", wish->file, "A file alone, by fuse, without a block device on it");
    auto* listing = verb->add_flag("--list", wish->list, "List what is attached");
    for (auto* other : {name, via, read_only, file}) listing->excludes(other);
    verb->footer(
        "The last word that it prints is the name. Takes --json, too.\n"
        "Example: dst attach vol0 --via fuse");
    verb->callback([wish, &session] {
        if (wish->list == !wish->name.empty()) throw CLI::RequiredError("NAME or --list");
        if (wish->file && !wish->via.empty() && wish->via != "fuse")
            throw CLI::ValidationError("--file", "goes by fuse alone");
        session.action = [wish, &session] {
            return wish->list ? list(session) : attach(session, *wish);
        };
    });
}

void add_detach(CLI::App& app, Session& session) {
    auto name = std::make_shared<std::string>();
    auto force = std::make_shared<bool>(false);
    auto* verb = app.add_subcommand("detach", "Take a name in /dev away");
    verb->add_option("NAME", *name, "The storage")->required();
    verb->add_flag("--force", *force,
                   "Although it is in use or requests wait: those fail, within 5 s");
    verb->footer("Example: dst detach vol0");
    verb->callback([name, force, &session] {
        session.action = [name, force, &session] { return detach(session, *name, *force); };
    });
}

}  // namespace

void add_attach_verbs(CLI::App& app, Session& session) {
    auto* keeper = app.add_subcommand(io::uring::LoopDevice::kVerb, "Of a daemon's own");
    keeper->group("");  // nobody's to call
    keeper->callback([&session] { session.action = io::uring::keep_loop; });
    add_attach(app, session);
    add_detach(app, session);
}

}  // namespace dst::cli
