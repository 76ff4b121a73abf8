// `dst doctor`: is this host fit, and what is to be done.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/doctor.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "control/config_file.h"

namespace dst::cli {
namespace {

void append(Findings& all, Findings more) {
    for (Finding& finding : more) all.push_back(std::move(finding));
}

Findings ask_daemon(const Session& session, bool is_expected) {
    const auto status = session.client().status();
    if (status) return judge_status(*status, DST_VERSION);
    return {{"daemon", is_expected ? Verdict::bad : Verdict::doubtful, status.error().text}};
}

int doctor(const Session& session, const std::string& file) {
    control::Config config;
    Findings findings;
    if (!file.empty()) {
        auto loaded = control::load_config(file);
        if (loaded) {
            config = std::move(*loaded);
            findings.push_back({"config", Verdict::good, file + " is good"});
        } else {
            findings.push_back({"config", Verdict::bad, loaded.error().text, {}});
        }
    }
    append(findings, look_at_host(config));
    if (!file.empty()) append(findings, look_at_places(config));
    // Before a first start there is none, and a configuration is what there is to look at.
    append(findings, ask_daemon(session, file.empty()));
    print(session.json ? to_json(findings) + "\n" : to_text(findings, output_style()));
    return is_any_bad(findings) ? kExitFailed : kExitDone;
}

}  // namespace

void add_doctor_verb(CLI::App& app, Session& session) {
    auto file = std::make_shared<std::string>();
    auto* verb =
        app.add_subcommand("doctor", "Check this host, and say what to do about what is not right");
    verb->add_option("--config", *file,
                     "Look at what this file names, too: disks, folders, exporters, its state file")
        ->type_name("FILE");
    verb->footer(
        "Of the clock and limits of another host its own doctor knows; run it on each.\n"
        "Exit code 0 unless something is BAD; \"hmm\" is what works, but not as well as it could.\n"
        "Takes --json, too.\n"
        "Example: dst doctor --config /etc/dst/dst.toml");
    verb->callback(
        [file, &session] { session.action = [file, &session] { return doctor(session, *file); }; });
}

}  // namespace dst::cli
