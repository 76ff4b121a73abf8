// What surrounds the daemon: files, signals, log lines, the reactor's thread.
#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "async/scope.h"
#include "attach/fuse.h"
#include "attach/nbd.h"
#include "attach/ublk.h"
#include "control/api_server.h"
#include "control/daemon.h"
#include "control/head_identity.h"
#include "control/tree_mount.h"
#include "io/uring/lock_holder.h"
#include "io/uring/reactor.h"
#include "io/uring/unique_fd.h"
#include "io/uring/write_back.h"

namespace dst::control {
namespace {

void to_spdlog(log::Level level, std::string_view line) {
    constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                     spdlog::level::warn, spdlog::level::err};
    spdlog::default_logger_raw()->log(kLevels[static_cast<int>(level)],
                                      spdlog::string_view_t(line.data(), line.size()));
}

void start_logging(log::Level level) {
    auto logger = spdlog::stderr_logger_mt("dst");
    logger->set_level(spdlog::level::debug);
    logger->flush_on(spdlog::level::debug);
    // A journal has its own clock.
    logger->set_pattern(std::getenv("JOURNAL_STREAM") != nullptr ? "%l: %v"
                                                                 : "%Y-%m-%dT%T.%e%z %l: %v");
    spdlog::set_default_logger(std::move(logger));
    log::set_level(level);
    log::set_sink(to_spdlog);
}

Outcome<std::string> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return refuse(fmt::format("{}: can't be read: {}", path, std::strerror(errno)));
    return std::string(std::istreambuf_iterator<char>(file), {});
}

/// Waits for SIGTERM or SIGINT on a thread of its own, because a handler may do next to nothing.
/// Both are blocked everywhere else while it lives.
class Signals {
  public:
    /// `on_signal` runs on that thread, once.
    explicit Signals(std::function<void()> on_signal) {
        sigemptyset(&set_);
        for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&set_, signal);
        pthread_sigmask(SIG_BLOCK, &set_, nullptr);
        std::signal(SIGPIPE, SIG_IGN);
        thread_ = std::thread([set = set_, action = std::move(on_signal)] {
            int signal = 0;
            while (sigwait(&set, &signal) != 0) {
            }
            if (signal != SIGUSR1) action();
        });
    }
    ~Signals() {
        pthread_kill(thread_.native_handle(), SIGUSR1);
        thread_.join();
    }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

  private:
    sigset_t set_{};
    std::thread thread_;
};

void tell_ready(const DaemonOptions& options) {
    sd_notify(0, "READY=1");
    if (!options.ready_fd) return;
    const int fd = *options.ready_fd;
    if (::write(fd, "ready\n", 6) != 6)
        log::warning("--ready-fd {}: writing failed: {}", fd, std::strerror(errno));
    ::close(fd);
}

Outcome<> make_folder(const std::string& path, const char* setting) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error)
        return refuse(
            fmt::format("{} = \"{}\": can't be made: {}", setting, path, error.message()));
    return {};
}

/// Two daemons that remember in one folder would be the same head, and take each other's nodes
/// without a wait. Held as long as this process lives, however it ends.
Outcome<io::uring::UniqueFd> lock_state(const std::string& folder) {
    const std::string path = folder + "/lock";
    io::uring::UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file.is_open())
        return refuse(
            fmt::format("state_dir = \"{}\": {}: {}", folder, path, std::strerror(errno)));
    if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return file;
    if (errno != EWOULDBLOCK)
        return refuse(fmt::format("state_dir = \"{}\": {} can't be locked: {}", folder, path,
                                  std::strerror(errno)));
    const std::string holder = io::uring::lock_holder(file.get());
    return refuse(
        ErrorCode::busy,
        fmt::format("state_dir = \"{}\": another daemon{} uses it already; stop that one, "
                    "or give this one its own state_dir and run_dir",
                    folder, holder.empty() ? "" : ", " + holder + ","));
}

/// What was read from files before anything runs.
struct Wishes {
    io::uring::UniqueFd state_lock;
    Config file;
    RuntimeState state;
};

Outcome<Wishes> read_wishes(const DaemonOptions& options, io::FileSystem& files) {
    TRY(const std::string text, read_file(options.config_path));
    Wishes wishes;
    TRY(wishes.file, parse_config(text, options.config_path));
    TRY_VOID(make_folder(wishes.file.run_dir, "run_dir"));
    TRY_VOID(make_folder(wishes.file.state_dir, "state_dir"));
    TRY(wishes.state_lock, lock_state(wishes.file.state_dir));
    const std::string state = state_path(wishes.file);
    TRY(RuntimeState loaded, load_state(files, state));
    wishes.state = without_overtaken(wishes.file, loaded);
    if (!(wishes.state == loaded)) TRY_VOID(store_state(files, state, wishes.state));
    TRY_VOID(check(effective(wishes.file, wishes.state)));
    return wishes;
}

std::vector<std::unique_ptr<attach::Way>> all_ways(io::uring::Reactor& reactor,
                                                   const Config& config) {
    std::vector<std::unique_ptr<attach::Way>> ways;
    ways.push_back(std::make_unique<attach::Ublk>(reactor));
    ways.push_back(std::make_unique<attach::Nbd>(reactor));
    ways.push_back(attach::make_fuse_way(reactor, config.run_dir + "/disk"));
    return ways;
}

Outcome<> serve(const DaemonOptions& options, io::uring::Reactor& reactor, Daemon& daemon,
                const Config& config) {
    async::Scope operations;
    const auto spawn = [&](std::function<async::Task<void>()> make) {
        reactor.post([&operations, make = std::move(make)] { operations.spawn(make()); });
    };
    // First, for it is what two daemons in one run_dir fall out over.
    TRY(const auto api, ApiServer::start(socket_path(config), daemon, spawn));
    TreeMount tree(reactor, config, daemon.tree(), operations);
    daemon.on_change([&tree] { tree.changed(); });
    daemon.engine().attachments().offer(all_ways(reactor, config));
    Outcome<> started = reactor.block_on(daemon.start());
    if (started) {
        const Signals signals([&reactor] { reactor.post([&reactor] { reactor.stop(); }); });
        log::info("serving");
        tell_ready(options);
        reactor.run();
        sd_notify(0, "STOPPING=1");
        log::info("told to stop: finishing requests");
    }
    api->stop();
    daemon.on_change({});
    tree.close();
    reactor.block_on(daemon.stop(operations));
    return started;
}

/// All storages share one thread, so who wants to spin the longest decides.
std::chrono::microseconds longest_spin(const Config& config) {
    unsigned longest = config.spin_us;
    for (const StorageSpec& storage : config.storages)
        longest = std::max(longest, spin_us(storage, config));
    return std::chrono::microseconds(longest);
}

Outcome<> run(const DaemonOptions& options) {
    io::uring::join_write_back();  // before any thread is started, so that all are
    TRY(auto first, io::uring::Reactor::create());
    TRY(Wishes wishes, read_wishes(options, first->world().files));
    first.reset();
    const io::uring::UniqueFd state_lock = std::move(wishes.state_lock);
    TRY(auto reactor, io::uring::Reactor::create({.spin = longest_spin(wishes.file)}));
    if (!reactor->warning().empty()) log::warning("{}", reactor->warning());
    io::World world = reactor->world();
    TRY(const auto head, begin_incarnation(world.files, world.random, wishes.file.state_dir));
    log::info("dst {}: head {:016x}, start {}, {}", DST_VERSION, head.id, head.incarnation,
              options.config_path);
    const Config file = wishes.file;
    Daemon daemon(world, std::move(wishes.file), std::move(wishes.state), head);
    return serve(options, *reactor, daemon, file);
}

}  // namespace

int daemon_main(const DaemonOptions& options) {
    start_logging(options.log_level);
    const Outcome<> done = run(options);
    if (!done) {
        std::fprintf(stderr, "dst: %s\n", done.error().text.c_str());
        return 1;
    }
    log::info("stopped");
    return 0;
}

}  // namespace dst::control
