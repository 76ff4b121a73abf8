// `dst apply`, `dst config`: what a file says, and what is in force.

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/session.h"
#include "cli/terminal.h"
#include "control/apply_plan.h"
#include "control/config_diff.h"
#include "control/config_file.h"
#include "control/config_value.h"

namespace dst::cli {
namespace {

using control::Value;

struct Apply {
    std::string file;
    bool is_agreed = false;
    bool is_dry_run = false;
    bool prune = false;
};

bool is_yes(const std::string& answer) { return answer == "y" || answer == "Y" || answer == "yes"; }

/// Whether a person agrees; refused where there is none who could be asked.
Outcome<bool> agreed(const Session& session, const Apply& apply) {
    if (apply.is_agreed) return true;
    if (session.json || !is_terminal(STDIN_FILENO) || !is_terminal(STDOUT_FILENO))
        return refuse(
            "nobody can be asked here whether to do this: say --yes, or --dry-run to "
            "see the plan alone");
    print("Do this? [y/N] ");
    std::fflush(stdout);
    std::string answer;
    std::getline(std::cin, answer);
    return is_yes(answer);
}

Outcome<> do_step(const Session& session, const control::Step& step) {
    if (!step.method.empty()) TRY_VOID(session.client().request(step.method, step.path, step.body));
    if (!step.waits_for.empty())
        TRY_VOID(wait_for_storage(session, step.waits_for, Goal::in_sync, {}));
    return {};
}

Outcome<> carry_out(const Session& session, const control::Plan& plan) {
    for (std::size_t i = 0; i < plan.steps.size(); ++i) {
        const auto done = do_step(session, plan.steps[i]);
        if (!done) {
            const std::string before = i == 0 ? "nothing is done" : fmt::format("{} done", i);
            return refuse(
                done.error().code,
                fmt::format("step {} of {}, {}: {}; {}; apply again when that is mended", i + 1,
                            plan.steps.size(), plan.steps[i].text, done.error().text, before));
        }
        if (!session.json)
            print(fmt::format("{}/{} done: {}\n", i + 1, plan.steps.size(), plan.steps[i].text));
        std::fflush(stdout);
    }
    return {};
}

Outcome<control::Plan> plan_for(const Session& session, const Apply& apply) {
    // Read here, so that what is wrong is named with the file's line.
    TRY(const control::Config wanted, control::load_config(apply.file));
    const Value::Table body = {{"toml", Value(control::to_toml(wanted))},
                               {"prune", Value(apply.prune)}};
    TRY(const std::string json,
        session.client().request("POST", "/v1/plan", control::format_json(Value(body))));
    return control::parse_plan(json);
}

int apply_file(const Session& session, const Apply& apply) {
    const auto plan = plan_for(session, apply);
    if (!plan) return fail(plan.error());
    if (session.json)
        print(control::to_json(*plan) + "\n");
    else
        print(control::to_text(*plan, output_style()));
    if (plan->steps.empty() && !session.json) print("nothing to do\n");
    if (plan->steps.empty() || apply.is_dry_run) return kExitDone;
    const auto may = agreed(session, apply);
    if (!may) return fail(may.error());
    if (!*may) return fail(Problem{ErrorCode::cancelled, "nothing was changed"});
    const auto done = carry_out(session, *plan);
    return done ? kExitDone : fail(done.error());
}

void add_apply(CLI::App& app, Session& session) {
    auto apply = std::make_shared<Apply>();
    auto* verb = app.add_subcommand("apply", "Make what runs what a file says, after showing how");
    verb->add_option("FILE", apply->file, "A configuration, as the daemon's")->required();
    auto* yes = verb->add_flag("--yes", apply->is_agreed, "Do it without asking");
    verb->add_flag("--dry-run", apply->is_dry_run, "Show the plan alone")->excludes(yes);
    verb->add_flag("--prune", apply->prune,
                   "Exports and storages that the file does not name are removed, too");
    verb->footer(
        "What runs already takes no step, so it may be done again at any time.\n"
        "New nodes are in sync before others are taken out. What was done stays done if a step\n"
        "is refused. Takes --json, too.\n"
        "Example: dst apply /etc/dst/dst.toml --dry-run");
    verb->callback([apply, &session] {
        session.action = [apply, &session] { return apply_file(session, *apply); };
    });
}

/// A member of what the daemon says of its configuration.
template <typename T>
Outcome<T> member_of(const std::string& json, const char* key) {
    try {
        return nlohmann::ordered_json::parse(json).at(key).get<T>();
    } catch (const std::exception&) {
        return refuse(ErrorCode::corrupt,
                      "the answer is no configuration; use a dst of the daemon's version");
    }
}

int show(const Session& session, bool from_file) {
    const auto json = session.client().request("GET", "/v1/config");
    if (!json || session.json) return finish(session, json);
    const auto text = member_of<std::string>(*json, from_file ? "file" : "in_force");
    if (!text) return fail(text.error());
    print(*text);
    return kExitDone;
}

/// What is in force against what the daemon has read, or against a file.
int diff(const Session& session, const std::string& file) {
    auto json = session.client().request("GET", "/v1/config");
    if (!json) return fail(json.error());
    const auto differences = control::parse_differences(*json);
    if (!differences) return fail(differences.error());
    std::vector<control::Difference> found = *differences;
    if (!file.empty()) {
        const auto wanted = control::load_config(file);
        if (!wanted) return fail(wanted.error());
        const auto text = member_of<std::string>(*json, "in_force");
        if (!text) return fail(text.error());
        const auto in_force = control::parse_config(*text, "what is in force");
        if (!in_force) return fail(in_force.error());
        found = control::compare(*wanted, *in_force);
    }
    print(session.json ? control::to_json(found) + "\n" : control::to_text(found, output_style()));
    return found.empty() ? kExitDone : kExitFailed;
}

}  // namespace

void add_config_verbs(CLI::App& app, Session& session) {
    add_apply(app, session);
    auto* group = app.add_subcommand("config", "Show the configuration in force, and what differs");
    group->require_subcommand(1);
    group->footer("Example: dst config diff");

    auto from_file = std::make_shared<bool>(false);
    auto* showing = group->add_subcommand(
        "show", "Print the configuration in force: the file, and what was changed since");
    showing->add_flag("--file", *from_file, "Only the file, as the daemon read it at its start");
    showing->footer(
        "It can be written to a file and applied. Takes --json, too.\n"
        "Example: dst config show");
    showing->callback([from_file, &session] {
        session.action = [from_file, &session] { return show(session, *from_file); };
    });

    auto file = std::make_shared<std::string>();
    auto* differing = group->add_subcommand(
        "diff", "Print in what the configuration in force differs from the file");
    differing->add_option("FILE", *file, "Another file than that which the daemon read");
    differing->footer(
        "\"+\" was added since, \"-\" removed, \"~\" changed. Exit code 0 if nothing differs, else "
        "1.\n"
        "Takes --json, too.\nExample: dst config diff");
    differing->callback(
        [file, &session] { session.action = [file, &session] { return diff(session, *file); }; });
}

}  // namespace dst::cli
