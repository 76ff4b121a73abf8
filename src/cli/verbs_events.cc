// `dst events`: what has changed, a line of JSON each.

#include <poll.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/session.h"

namespace dst::cli {
namespace {

/// If the daemon has too many who wait it answers at once; then it is asked less often.
constexpr auto kAtOnce = std::chrono::milliseconds(500);
constexpr int kPauseMs = 1000;

/// Prints the events of an answer; the number to ask with next time.
Outcome<std::uint64_t> print_events(const std::string& answer) {
    try {
        const auto json = nlohmann::ordered_json::parse(answer);
        for (const auto& event : json.at("events")) print(event.dump() + "\n");
        return json.at("last").get<std::uint64_t>();
    } catch (const std::exception&) {
        return refuse(ErrorCode::corrupt,
                      "the answer is no list of events; use a dst of the daemon's version");
    }
}

Outcome<std::uint64_t> ask(const Session& session, const std::string& path) {
    TRY(const std::string answer, session.client().request("GET", path));
    return print_events(answer);
}

int events(const Session& session, bool follows) {
    auto last = ask(session, "/v1/events");
    while (last && follows) {
        if (std::fflush(stdout) != 0) return kExitFailed;
        const auto begun = std::chrono::steady_clock::now();
        const std::uint64_t before = *last;
        last = ask(session, "/v1/events/" + std::to_string(before) + "/wait");
        const bool was_quick = std::chrono::steady_clock::now() - begun < kAtOnce;
        if (last && *last == before && was_quick) ::poll(nullptr, 0, kPauseMs);
    }
    return last ? kExitDone : fail(last.error());
}

}  // namespace

void add_events_verb(CLI::App& app, Session& session) {
    auto follows = std::make_shared<bool>(false);
    auto* verb = app.add_subcommand("events", "Print what has changed, a line of JSON each");
    verb->add_flag("--follow", *follows, "Go on with what comes, until Ctrl-C");
    verb->footer(
        "Events since the daemon's start, the last 1024 of them.\n"
        "Example: dst events --follow");
    verb->callback([follows, &session] {
        session.action = [follows, &session] { return events(session, *follows); };
    });
}

}  // namespace dst::cli
