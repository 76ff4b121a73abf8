// What all verbs of the command line share: which daemon, how to print, how to fail.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
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
/// The storage of that name as the daemon sees it now; refused if there is none.
[[nodiscard]] Outcome<control::StorageStatus> storage_status(const Session& session,
                                                             const std::string& name);
enum class Goal : std::uint8_t {
    formed,   // requests are answered, whoever is missing
    in_sync,  // and all nodes are there, and lack nothing
};
/// Waits until the storage is there, with a bar at a terminal; at most so long, if a time is given.
/// Refused when that can't come any more without a command.
[[nodiscard]] Outcome<> wait_for_storage(const Session& session, const std::string& name, Goal goal,
                                         std::optional<std::chrono::nanoseconds> most);
/// The end of a verb that asks for something to be done: silent if it was, but for --json.
int finish(const Session& session, const Outcome<std::string>& answer);

// Each adds its verbs to the program; the verb chosen sets `session.action`. The session outlives
// the app.
void add_daemon_verbs(CLI::App& app, Session& session);
void add_status_verbs(CLI::App& app, Session& session);
/// `app` is the program: all verbs are added, and it lives as long as the session.
void add_manual_verbs(CLI::App& app, Session& session);
void add_what_if_verb(CLI::App& app, Session& session);
void add_config_verbs(CLI::App& app, Session& session);
void add_doctor_verb(CLI::App& app, Session& session);
void add_events_verb(CLI::App& app, Session& session);
void add_storage_verbs(CLI::App& app, Session& session);
/// Those that take long: `storage verify`, `storage wait`.
void add_long_storage_verbs(CLI::App& storage, Session& session);
void add_node_verbs(CLI::App& app, Session& session);
void add_inspect_verb(CLI::App& node, Session& session);
void add_export_verbs(CLI::App& app, Session& session);
void add_attach_verbs(CLI::App& app, Session& session);
void add_algorithm_verbs(CLI::App& app, Session& session);
void add_bench_verb(CLI::App& app, Session& session);

/// All of them. Both outlive the parsing.
void add_verbs(CLI::App& app, Session& session);

/// The whole program: reads the command line, does what it says. The exit code.
int run(int argc, const char* const* argv);

}  // namespace dst::cli
