// `dst daemon`, `dst check-config`.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "cli/session.h"
#include "control/config_file.h"
#include "control/daemon.h"
#include "control/daemon_options.h"

namespace dst::cli {
namespace {

const std::map<std::string, log::Level> kLevels = {{"debug", log::Level::debug},
                                                   {"info", log::Level::info},
                                                   {"warning", log::Level::warning},
                                                   {"error", log::Level::error}};

std::string counted(std::size_t count, std::string_view noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string summary(const std::string& file, const control::Config& config) {
    std::size_t nodes = 0;
    for (const auto& storage : config.storages) nodes += storage.nodes.size();
    std::string listen;
    for (const auto& endpoint : config.listen) {
        listen += (listen.empty() ? "" : ", ") + io::to_string(endpoint);
    }
    return fmt::format("{}: ok\n{}, {} of {}, {} to load; memory {}; listens at {}\n", file,
                       counted(config.exports.size(), "export"),
                       counted(config.storages.size(), "storage"), counted(nodes, "node"),
                       counted(config.algorithms.size(), "algorithm"),
                       control::to_string(config.memory), listen.empty() ? "nothing" : listen);
}

int check_config(const Session& session, const std::string& file) {
    const auto config = control::load_config(file);
    if (!config) return fail(config.error());
    if (session.json) {
        print(fmt::format("{{\"ok\":true,\"exports\":{},\"storages\":{},\"algorithms\":{}}}\n",
                          config->exports.size(), config->storages.size(),
                          config->algorithms.size()));
    } else {
        print(summary(file, *config));
    }
    return kExitDone;
}

void add_daemon(CLI::App& app, Session& session) {
    auto options = std::make_shared<control::DaemonOptions>();
    auto* verb = app.add_subcommand("daemon", "Serve exports and form storages, until SIGTERM");
    verb->add_option("--config", options->config_path, "Configuration file")
        ->required()
        ->type_name("FILE");
    verb->add_option("--ready-fd", options->ready_fd,
                     "Descriptor to write a byte to once it serves, and to close")
        ->check(CLI::Range(0, 1 << 20))
        ->type_name("N");
    auto level = std::make_shared<std::string>("info");
    verb->add_option("--log-level", *level, "The least that is logged")
        ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
        ->capture_default_str()
        ->type_name("LEVEL");
    verb->footer("Example: dst daemon --config /etc/dst/dst.toml");
    verb->callback([options, level, &session] {
        options->log_level = kLevels.at(*level);
        session.action = [options] { return control::daemon_main(*options); };
    });
}

void add_check_config(CLI::App& app, Session& session) {
    struct Files {
        std::string positional;
        std::string option;
    };
    auto files = std::make_shared<Files>();
    auto* verb = app.add_subcommand("check-config", "Say whether a configuration file is good");
    verb->add_option("FILE", files->positional, "Configuration file");
    verb->add_option("--config", files->option, "The same, as 'dst daemon' has it")
        ->type_name("FILE");
    verb->footer("Takes --json, too.\nExample: dst check-config /etc/dst/dst.toml");
    verb->callback([files, &session] {
        if (files->positional.empty() == files->option.empty()) {
            throw CLI::RequiredError("FILE (once)");
        }
        const std::string& file = files->positional.empty() ? files->option : files->positional;
        session.action = [file, &session] { return check_config(session, file); };
    });
}

}  // namespace

void add_daemon_verbs(CLI::App& app, Session& session) {
    add_daemon(app, session);
    add_check_config(app, session);
}

}  // namespace dst::cli
