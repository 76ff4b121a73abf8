#include "cli/session.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "cli/help.h"

namespace dst::cli {
namespace {

std::string one_line(std::string text) {
    std::ranges::replace_if(
        text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
    while (text.ends_with(' ')) text.pop_back();
    return text;
}

/// The verbs that were reached, for "see 'dst storage create --help'".
std::string verbs_of(const CLI::App& app) {
    std::string verbs = "dst";
    const CLI::App* at = &app;
    while (!at->get_subcommands().empty()) {
        at = at->get_subcommands().front();
        verbs += " " + at->get_name();
    }
    return verbs;
}

/// The first word that should have been a verb of `app` and is none; empty if there is none.
std::string unknown_verb(const CLI::App& app) {
    const CLI::App* at = &app;
    while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
    const bool wants_verb = !at->get_subcommands({}).empty();
    for (const std::string& word : app.remaining(true))
        if (wants_verb && !word.starts_with('-')) return word;
    return {};
}

int usage(const CLI::App& app, const CLI::ParseError& error) {
    if (const std::string word = unknown_verb(app); !word.empty()) {
        fail({ErrorCode::invalid,
              "unknown verb '" + one_line(word) + "'; see '" + verbs_of(app) + " --help'"});
        return kExitUsage;
    }
    fail({ErrorCode::invalid, one_line(error.what()) + "; see '" + verbs_of(app) + " --help'"});
    return kExitUsage;
}

/// What was printed has reached standard output, or the exit code says otherwise.
int flushed(int code) {
    errno = 0;
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
    const std::string why = std::generic_category().message(errno);
    return fail({ErrorCode::io_error,
                 "can't write to standard output: " + why + "; check where it goes to"});
}

}  // namespace

void add_verbs(CLI::App& app, Session& session) {
    app.formatter(make_help_formatter());
    app.fallthrough();  // so that --socket and --json may stand behind the verb
    app.require_subcommand(1);
    app.set_version_flag("--version", "dst " DST_VERSION);
    app.add_option("--socket", session.socket_path, "The daemon's socket")
        ->envname("DST_SOCKET")
        ->type_name("PATH")
        ->capture_default_str();
    app.add_flag("--json", session.json, "Print JSON");
    add_daemon_verbs(app, session);
    add_status_verbs(app, session);
    add_config_verbs(app, session);
    add_what_if_verb(app, session);
    add_doctor_verb(app, session);
    add_events_verb(app, session);
    add_storage_verbs(app, session);
    add_node_verbs(app, session);
    add_export_verbs(app, session);
    add_attach_verbs(app, session);
    add_algorithm_verbs(app, session);
    add_bench_verb(app, session);
    add_manual_verbs(app, session);
    app.footer(
        "--socket and --json may stand before or behind the verb.\n"
        "Exit codes: 0 done, 1 refused or failed, 2 wrong usage.\n"
        "Example: dst status --socket /run/dst/dst.sock");
}

std::string default_socket_path() { return "/run/dst/dst.sock"; }

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

int fail(const Problem& problem) {
    const std::string line = "dst: " + one_line(problem.text) + "\n";
    std::fflush(stdout);
    std::fwrite(line.data(), 1, line.size(), stderr);
    return kExitFailed;
}

int finish(const Session& session, const Outcome<std::string>& answer) {
    if (!answer) return fail(answer.error());
    if (session.json) print(*answer + "\n");
    return kExitDone;
}

int run(int argc, const char* const* argv) {
    Session session{default_socket_path(), false, {}};
    CLI::App app("Block devices made of block devices, over the network", "dst");
    try {
        add_verbs(app, session);
        app.parse(argc, argv);
    } catch (const CLI::Success& help) {
        return flushed(app.exit(help));
    } catch (const CLI::ParseError& error) {
        return usage(app, error);
    } catch (const std::exception& error) {
        return fail({ErrorCode::invalid, error.what()});
    }
    return flushed(session.action());
}

}  // namespace dst::cli
