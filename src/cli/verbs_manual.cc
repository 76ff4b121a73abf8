// `dst man`, `dst completion`: the text of --help for man(1) and for shells.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "cli/manual.h"
#include "cli/session.h"

namespace dst::cli {
namespace {

struct Wanted {
    std::vector<std::string> verbs;
    std::string folder;
};

Outcome<const CLI::App*> find_verb(const CLI::App& program, const std::vector<std::string>& words) {
    const CLI::App* at = &program;
    for (const std::string& word : words) {
        const CLI::App* below = nullptr;
        for (const CLI::App* const verb : verbs_below(*at))
            if (verb->get_name() == word) below = verb;
        if (below == nullptr)
            return refuse(
                fmt::format("there is no verb '{} {}'; see 'dst --help'", path_of(*at), word));
        at = below;
    }
    return at;
}

Outcome<> write_page(const std::string& folder, const CLI::App& verb) {
    std::string name = path_of(verb);
    std::ranges::replace(name, ' ', '-');
    const std::string path = folder + "/" + name + ".1";
    std::ofstream file(path);
    file << manual_page(verb);
    file.close();
    if (!file)
        return refuse(ErrorCode::io_error,
                      fmt::format("can't write {}: {}; is there such a folder?", path,
                                  std::generic_category().message(errno)));
    return {};
}

/// One of the program, and one of each of its verbs.
int write_pages(const CLI::App& program, const std::string& folder) {
    if (const auto done = write_page(folder, program); !done) return fail(done.error());
    for (const CLI::App* const verb : verbs_below(program))
        if (const auto done = write_page(folder, *verb); !done) return fail(done.error());
    return kExitDone;
}

int man(const CLI::App& program, const Wanted& wanted) {
    if (!wanted.folder.empty()) return write_pages(program, wanted.folder);
    const auto verb = find_verb(program, wanted.verbs);
    if (!verb) return fail(verb.error());
    print(manual_page(**verb));
    return kExitDone;
}

}  // namespace

void add_manual_verbs(CLI::App& app, Session& session) {
    auto wanted = std::make_shared<Wanted>();
    auto* verb = app.add_subcommand("man", "Print the manual page of a verb, as man(1) reads it");
    verb->add_option("VERB", wanted->verbs, "A verb, with those that come before it");
    verb->add_option("--to", wanted->folder, "Write all pages into this folder instead")
        ->type_name("PATH");
    verb->footer("Example: dst man storage | man -l -");
    verb->callback([wanted, &app, &session] {
        session.action = [wanted, &app] { return man(app, *wanted); };
    });

    auto shell = std::make_shared<std::string>();
    auto* completion =
        app.add_subcommand("completion", "Print the script with which a shell completes dst");
    completion->add_option("SHELL", *shell, "The shell")
        ->required()
        ->check(CLI::IsMember({"bash"}));
    completion->footer(
        "'cmake --install' puts it where bash finds it.\n"
        "Example: source <(dst completion bash)");
    completion->callback([shell, &app, &session] {  // the option writes to it when it is parsed
        session.action = [&app] {
            print(bash_completion(app));
            return kExitDone;
        };
    });
}

}  // namespace dst::cli
