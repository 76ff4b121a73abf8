// What all verbs of the command line share: which daemon, how to print, how to fail.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/api_client.h"

namespace CLI {
class App;
}

namespace dst::cli {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

struct Session {
    std::string socket_path;
    bool json = false;
    /// What the verb that was chosen does; its result is the exit code.
    std::function<int()> action;

    [[nodiscard]] control::ApiClient client() const { return control::ApiClient(socket_path); }
};

/// Where a daemon is, unless $DST_SOCKET or --socket says otherwise.
[[nodiscard]] std::string default_socket_path();

/// Writes to standard output.
void print(std::string_view text);
/// "dst: WHAT" on one line of standard error.
int fail(const Problem& problem);
/// The end of a verb that asks for something to be done: silent if it was, but for --json.
int finish(const Session& session, const Outcome<std::string>& answer);

// Each adds its verbs to the program; the verb chosen sets `session.action`. The session outlives
// the app.
void add_daemon_verbs(CLI::App& app, Session& session);
void add_status_verbs(CLI::App& app, Session& session);
void add_events_verb(CLI::App& app, Session& session);
void add_storage_verbs(CLI::App& app, Session& session);
void add_node_verbs(CLI::App& app, Session& session);
void add_inspect_verb(CLI::App& node, Session& session);
void add_export_verbs(CLI::App& app, Session& session);
void add_attach_verbs(CLI::App& app, Session& session);
void add_algorithm_verbs(CLI::App& app, Session& session);
void add_bench_verb(CLI::App& app, Session& session);

/// The whole program: reads the command line, does what it says. The exit code.
int run(int argc, const char* const* argv);

}  // namespace dst::cli
