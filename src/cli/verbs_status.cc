// `dst status`: once, or again and again.

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "cli/session.h"

namespace dst::cli {
namespace {

constexpr int kWatchPauseMs = 1000;

Outcome<std::string> picture(const Session& session, control::TableStyle style) {
    TRY(const std::string json, session.client().request("GET", "/v1/status"));
    if (session.json) return json + "\n";
    TRY(const control::Status status, control::parse_status(json));
    return control::to_table(status, style);
}

/// Over what was there, without a moment of emptiness between.
std::string redrawn(const std::string& text) {
    std::string out = "\x1b[H";
    for (const char c : text) {
        if (c == '\n') out += "\x1b[K";
        out += c;
    }
    return out + "\x1b[J";
}

/// Ctrl-C is how it is meant to end, even while a daemon does not answer.
void end_on_interrupt() {
    struct sigaction action{};
    action.sa_handler = [](int) { ::_exit(kExitDone); };
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
}

int watch(const Session& session) {
    const bool is_terminal = ::isatty(STDOUT_FILENO) == 1;
    const bool redraws = is_terminal && !session.json;
    end_on_interrupt();
    if (redraws) print("\x1b[2J");
    for (bool is_first = true;; is_first = false) {
        const auto text = picture(session, {.colour = is_terminal});
        if (!text) return fail(text.error());
        if (redraws) {
            print(redrawn(*text));
        } else {
            print((is_first || session.json ? "" : "\n") + *text);
        }
        if (std::fflush(stdout) != 0) return kExitFailed;
        ::poll(nullptr, 0, kWatchPauseMs);
    }
}

int status(const Session& session) {
    const auto text = picture(session, {.colour = ::isatty(STDOUT_FILENO) == 1});
    if (!text) return fail(text.error());
    print(*text);
    return kExitDone;
}

}  // namespace

void add_status_verbs(CLI::App& app, Session& session) {
    auto is_watching = std::make_shared<bool>(false);
    auto* verb = app.add_subcommand("status", "Show storages, nodes, exports, and why they are so");
    verb->add_flag("--watch", *is_watching, "Again each second, until Ctrl-C");
    verb->footer("Takes --json, too.\nExample: dst status --watch");
    verb->callback([is_watching, &session] {
        session.action = [is_watching, &session] {
            return *is_watching ? watch(session) : status(session);
        };
    });
}

}  // namespace dst::cli
