// `dst storage verify`, `dst storage wait`: verbs that take long, with progress at a terminal.

#include <fmt/format.h>
#include <poll.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>

#include "cli/session.h"
#include "cli/terminal.h"
#include "control/config.h"
#include "control/durations.h"

namespace dst::cli {
namespace {

constexpr int kPauseMs = 200;

/// What its comparison has come to; refused if the storage, or the comparison, is gone.
Outcome<control::ComparisonStatus> comparison_of(const Session& session, const std::string& name) {
    TRY(const control::StorageStatus storage, storage_status(session, name));
    if (storage.verify) return *storage.verify;
    return refuse(ErrorCode::cancelled,
                  fmt::format("storage '{}' was stopped before all was compared", name));
}

/// What a person is to do about what a comparison found; empty: nothing.
std::string remedy(const std::string& name, const control::ComparisonStatus& found, bool repair) {
    if (found.undecided.value() > 0)
        return fmt::format(
            "{} sectors of storage '{}' are left as they are: no majority of the copies tells what "
            "is right; if you know which node is wrong, 'dst node mark-dirty {} NODE' has it "
            "copied anew",
            found.undecided.value(), name, name);
    if (found.different.value() > found.repaired.value())
        return repair ? fmt::format(
                            "not all of it could be made equal: 'dst status' and the "
                            "daemon's log say why; run it again")
                      : fmt::format(
                            "the copies of storage '{}' differ: 'dst storage verify {} "
                            "--repair' makes them what most nodes have",
                            name, name);
    if (found.skipped.value() > 0)
        return fmt::format(
            "{} sectors were not compared: fewer than two copies in sync, or one that can't be "
            "read; see 'dst status', and run it again",
            found.skipped.value());
    return {};
}

int report(const Session& session, const std::string& name, const control::ComparisonStatus& found,
           bool repair) {
    if (session.json)
        print(fmt::format("{{\"different\":{},\"repaired\":{},\"undecided\":{},\"skipped\":{}}}\n",
                          found.different.value(), found.repaired.value(), found.undecided.value(),
                          found.skipped.value()));
    else
        print(
            fmt::format("{} sectors compared, {} differ, {} were made equal, {} could not be "
                        "compared\n",
                        found.total.value(), found.different.value(), found.repaired.value(),
                        found.skipped.value()));
    const std::string what_to_do = remedy(name, found, repair);
    return what_to_do.empty() ? kExitDone : fail(Problem{ErrorCode::io_error, what_to_do});
}

int verify(const Session& session, const std::string& name, bool repair) {
    if (const auto named = control::check_name(name); !named) return fail(named.error());
    const auto begun = session.client().request("POST", "/v1/storages/" + name + "/verify",
                                                repair ? R"({"repair":true})" : "");
    if (!begun) return fail(begun.error());
    auto found = comparison_of(session, name);
    {
        Progress progress("verify of " + name, !session.json);
        for (; found && found->running; found = comparison_of(session, name)) {
            progress.show(to_bytes(found->done).value(), to_bytes(found->total).value());
            ::poll(nullptr, 0, kPauseMs);
        }
    }
    if (!found) return fail(found.error());
    if (!found->complete)
        return fail(Problem{ErrorCode::cancelled, "it ended before all was compared"});
    return report(session, name, *found, repair);
}

void add_verify(CLI::App& storage, Session& session) {
    auto name = std::make_shared<std::string>();
    auto repair = std::make_shared<bool>(false);
    auto* verb = storage.add_subcommand(
        "verify", "Compare the copies of a mirror while it is in use; fails if they differ");
    verb->add_option("NAME", *name, "The storage")->required();
    verb->add_flag("--repair", *repair,
                   "Make them equal: what more than half of the nodes have is right");
    verb->footer("Takes --json, too.\nExample: dst storage verify vol0");
    verb->callback([name, repair, &session] {
        session.action = [name, repair, &session] { return verify(session, *name, *repair); };
    });
}

bool has_reached(const control::StorageStatus& storage, Goal goal) {
    if (goal == Goal::formed && storage.state == control::StorageState::degraded) return true;
    return storage.state == control::StorageState::running &&
           (goal == Goal::formed ||
            std::ranges::all_of(storage.nodes, [](const control::NodeStatus& node) {
                return node.connected && node.in_sync && node.stale.value() == 0;
            }));
}

void add_wait(CLI::App& storage, Session& session) {
    auto name = std::make_shared<std::string>();
    auto most = std::make_shared<std::string>();
    auto is_formed_enough = std::make_shared<bool>(false);
    auto* verb =
        storage.add_subcommand("wait", "Wait until all nodes of a storage are there and in sync");
    verb->add_option("NAME", *name, "The storage")->required();
    verb->add_option("--timeout", *most, "At most so long, as 5m; fails then")->type_name("TIME");
    verb->add_flag("--formed", *is_formed_enough,
                   "Only until requests are answered, whichever nodes are missing");
    verb->footer("Example: dst storage wait vol0 --timeout 1h");
    verb->callback([name, most, is_formed_enough, &session] {
        const Goal goal = *is_formed_enough ? Goal::formed : Goal::in_sync;
        std::optional<std::chrono::nanoseconds> time;
        if (!most->empty()) {
            const auto parsed = control::parse_duration(*most);
            if (!parsed) throw CLI::ValidationError("--timeout", parsed.error().text);
            time = *parsed;
        }
        session.action = [name, time, goal, &session] {
            const auto done = wait_for_storage(session, *name, goal, time);
            return done ? kExitDone : fail(done.error());
        };
    });
}

}  // namespace

Outcome<control::StorageStatus> storage_status(const Session& session, const std::string& name) {
    TRY_VOID(control::check_name(name));
    TRY(const control::Status status, session.client().status());
    for (const auto& storage : status.storages)
        if (storage.name == name) return storage;
    return refuse(ErrorCode::not_found,
                  fmt::format("there is no storage '{}': 'dst storage list' has them", name));
}

Outcome<> wait_for_storage(const Session& session, const std::string& name, Goal goal,
                           std::optional<std::chrono::nanoseconds> most) {
    const auto begun = std::chrono::steady_clock::now();
    Progress progress("resync of " + name, !session.json);
    while (true) {
        TRY(const control::StorageStatus storage, storage_status(session, name));
        if (has_reached(storage, goal)) return {};
        if (storage.state == control::StorageState::stopped)
            return refuse(ErrorCode::cancelled,
                          fmt::format("storage '{}' is stopped; start it with 'dst storage start "
                                      "{}'",
                                      name, name));
        if (most && std::chrono::steady_clock::now() - begun > *most)
            return refuse(ErrorCode::timed_out, fmt::format("storage '{}' is not that far yet: {}",
                                                            name, storage.reason));
        progress.show(to_bytes(storage.resync.done).value(),
                      to_bytes(storage.resync.total).value());
        ::poll(nullptr, 0, kPauseMs);
    }
}

void add_long_storage_verbs(CLI::App& storage, Session& session) {
    add_verify(storage, session);
    add_wait(storage, session);
}

}  // namespace dst::cli
