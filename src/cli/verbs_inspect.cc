// `dst node inspect`: opens what is named, looks, prints.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "base/log.h"
#include "cli/bench_uri.h"
#include "cli/inspect.h"
#include "cli/session.h"
#include "cli/visitor.h"
#include "control/durations.h"
#include "io/uring/reactor.h"
#include "node/local.h"

namespace dst::cli {
namespace {

struct Target {
    std::string name;  // as it was typed
    std::optional<SectorCount> size;
};

bool is_uri(const std::string& name) { return name.find("://") != std::string::npos; }

async::Task<Outcome<Inspection>> inspect_file(io::World world, Target target) {
    // Its user may be writing it: that is when people want to look.
    auto file = co_await world.files.open(target.name, {.read_only = true, .looks_on = true});
    if (!file) co_return std::unexpected(std::move(file.error()));
    node::FileDevice device(std::move(*file), {.read_only = true}, 1);
    co_return co_await inspect(world.clock, device, target.name, target.size);
}

async::Task<Outcome<Inspection>> inspect_export(io::World world, Target target) {
    CO_TRY(const NbdUri uri, parse_uri(target.name));
    Visitor visitor(world, uri.endpoint, uri.export_name);
    Outcome<Inspection> found;
    if (co_await visitor.connect()) {
        found = co_await inspect(world.clock, visitor.remote(), target.name, target.size);
    } else {
        found = refuse(ErrorCode::node_lost,
                       fmt::format("{}: {}", target.name, visitor.remote().status().reason));
    }
    co_await visitor.leave();
    co_return found;
}

int inspect_and_print(const Session& session, const Target& target) {
    log::set_sink(nullptr);  // what there is to say is said once, at the end
    auto reactor = io::uring::Reactor::create({});
    if (!reactor) return fail(reactor.error());
    const io::World world = (*reactor)->world();
    const auto found = (*reactor)->block_on(is_uri(target.name) ? inspect_export(world, target)
                                                                : inspect_file(world, target));
    if (!found) return fail(found.error());
    print(session.json ? to_json(*found) + "\n" : to_text(*found));
    return kExitDone;
}

}  // namespace

void add_inspect_verb(CLI::App& node, Session& session) {
    auto target = std::make_shared<Target>();
    auto size = std::make_shared<std::string>();
    auto* verb = node.add_subcommand("inspect", "Print the metadata on a node's disk");
    verb->add_option("NODE", target->name, "A path, or nbd://HOST[:PORT]/EXPORT")->required();
    verb->add_option("--size", *size, "Where it ended before it has grown")->type_name("SIZE");
    verb->footer(
        "Changes nothing, and looks at a disk in use, too. Takes --json.\n"
        "docs/on-disk.md says what the fields mean.\n"
        "Example: dst node inspect /dev/sdc");
    verb->callback([target, size, &session] {
        if (!size->empty()) {
            const auto bytes = control::parse_size(*size);
            if (!bytes) throw CLI::ValidationError("--size", bytes.error().text);
            target->size = sectors_exact(*bytes);
            if (!target->size) throw CLI::ValidationError("--size", "no whole number of sectors");
        }
        session.action = [target, &session] { return inspect_and_print(session, *target); };
    });
}

}  // namespace dst::cli
