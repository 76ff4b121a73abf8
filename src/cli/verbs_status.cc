// `dst status`: once, or again and again.

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "cli/session.h"
#include "cli/terminal.h"

namespace dst::cli {
namespace {

constexpr int kWatchPauseMs = 1000;

Outcome<std::string> picture(const Session& session, control::TableStyle style) {
    TRY(const std::string json, session.client().request("GET", "/v1/status"));
    if (session.json) return json + "\n";
    TRY(const control::Status status, control::parse_status(json));
    return control::to_table(status, style);
}

/// A live screen: goes on when the daemon does not answer, for it may be started again.
int watch_screen(const Session& session) {
    Screen screen;
    while (true) {
        const auto text = picture(session, output_style());
        const std::string shown = text ? *text : "dst: " + text.error().text + "\n";
        if (!screen.draw(shown + "\nEach second; Ctrl-C ends it.\n")) return kExitFailed;
        ::poll(nullptr, 0, kWatchPauseMs);
    }
}

/// One picture below the other, for who reads them by program; ends with the daemon.
int watch_stream(const Session& session) {
    struct sigaction action{};
    action.sa_handler = [](int) { ::_exit(kExitDone); };
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
    for (bool is_first = true;; is_first = false) {
        const auto text = picture(session, {});
        if (!text) return fail(text.error());
        print((is_first || session.json ? "" : "\n") + *text);
        if (std::fflush(stdout) != 0) return kExitFailed;
        ::poll(nullptr, 0, kWatchPauseMs);
    }
}

int status(const Session& session) {
    const auto text = picture(session, output_style());
    if (!text) return fail(text.error());
    print(*text);
    return kExitDone;
}

}  // namespace

void add_status_verbs(CLI::App& app, Session& session) {
    auto is_watching = std::make_shared<bool>(false);
    auto* verb = app.add_subcommand("status", "Show storages, nodes, exports, and why they are so");
    verb->add_flag("--watch", *is_watching, "A live screen, until Ctrl-C");
    verb->footer("Takes --json, too.\nExample: dst status --watch");
    verb->callback([is_watching, &session] {
        session.action = [is_watching, &session] {
            if (!*is_watching) return status(session);
            return is_terminal(STDOUT_FILENO) && !session.json ? watch_screen(session)
                                                               : watch_stream(session);
        };
    });
}

}  // namespace dst::cli
