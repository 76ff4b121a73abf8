#include "io/uring/loop_device.h"

#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "io/uring/errors.h"

namespace dst::io::uring {
namespace {

constexpr std::size_t kPacketMax = 8192;

/// This program again, as a keeper that has `socket` as its standard input.
Outcome<pid_t> start_keeper(int socket) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_adddup2(&actions, socket, STDIN_FILENO);
    // A group of its own: what a terminal tells the daemon is not for it.
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    std::array<char*, 3> words = {const_cast<char*>("dst"), const_cast<char*>(LoopDevice::kVerb),
                                  nullptr};
    pid_t child = 0;
    const int failed =
        ::posix_spawn(&child, "/proc/self/exe", &actions, &attributes, words.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (failed != 0)
        return refuse(
            ErrorCode::io_error,
            fmt::format("a process to keep the loop device can't be started: {}", text_of(failed)));
    return child;
}

}  // namespace

std::string LoopDevice::obstacle() {
    if (::access("/dev/loop-control", R_OK | W_OK) == 0) return {};
    return fmt::format("/dev/loop-control can't be used: {}; load the module loop", text_of(errno));
}

async::Task<Outcome<std::unique_ptr<LoopDevice>>> LoopDevice::open(Reactor& reactor,
                                                                   LoopOptions options,
                                                                   TimePoint deadline) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        co_return refuse(ErrorCode::io_error, fmt::format("no socket: {}", text_of(errno)));
    UniqueFd ours(ends[0]);
    UniqueFd theirs(ends[1]);
    CO_TRY(const pid_t child, start_keeper(theirs.get()));
    theirs.reset();
    UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, child, 0U)));
    CHECK(process.is_open());  // it is our child, and nobody has waited for it
    std::unique_ptr<LoopDevice> device(
        new LoopDevice(reactor, std::move(ours), std::move(process), child));
    auto made = co_await device->ask(
        fmt::format("make {} {} {}\n{}", options.read_only ? "ro" : "rw", options.block_bytes,
                    options.wanted.empty() ? "-" : options.wanted, options.file),
        deadline);
    if (!made) {
        co_await device->drop(deadline);
        co_return std::unexpected(std::move(made.error()));
    }
    device->path_ = std::move(*made);
    co_return device;
}

LoopDevice::LoopDevice(Reactor& reactor, UniqueFd socket, UniqueFd process, pid_t id)
    : reactor_(reactor), socket_(std::move(socket)), process_(std::move(process)), id_(id) {}

LoopDevice::~LoopDevice() { CHECK(!socket_.is_open()); }

async::Task<bool> LoopDevice::readable(int fd, TimePoint deadline) {
    auto polled =
        reactor_.submit([&](io_uring_sqe& entry) { io_uring_prep_poll_add(&entry, fd, POLLIN); });
    auto late = [&] { reactor_.cancel(polled); };
    Deadline<decltype(late)> timer(late);
    timer.arm(reactor_, deadline);
    const int events = co_await polled;
    timer.disarm();
    co_return events > 0;
}

/// Nothing once it has ended or the time is up.
async::Task<std::optional<std::string>> LoopDevice::receive(TimePoint deadline) {
    while (true) {
        std::string packet(kPacketMax, '\0');
        const ssize_t size = ::recv(socket_.get(), packet.data(), packet.size(), MSG_DONTWAIT);
        if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) co_return std::nullopt;
        if (size > 0) {
            packet.resize(static_cast<std::size_t>(size));
            co_return packet;
        }
        if (!co_await readable(socket_.get(), deadline)) co_return std::nullopt;
    }
}

async::Task<Outcome<std::string>> LoopDevice::ask(std::string question, TimePoint deadline) {
    co_await turn_.acquire();
    const auto answer = co_await [](LoopDevice& to, std::string asked,
                                    TimePoint until) -> async::Task<Outcome<std::string>> {
        if (!to.socket_.is_open())
            co_return refuse(ErrorCode::shutting_down, "the loop device is given up");
        const auto silent = [&to] {
            return to.has_hung_up()
                       ? refuse(ErrorCode::io_error,
                                "the process that keeps the loop device has "
                                "ended: detach by force")
                       : refuse(ErrorCode::timed_out,
                                "its requests wait: see 'dst status' for whom, or detach by force");
        };
        while (to.late_answers_ > 0) {
            if (!co_await to.receive(until)) co_return silent();
            --to.late_answers_;
        }
        if (::send(to.socket_.get(), asked.data(), asked.size(), MSG_NOSIGNAL) < 0)
            co_return silent();
        const auto packet = co_await to.receive(until);
        if (!packet) {
            ++to.late_answers_;
            co_return silent();
        }
        const auto blank = packet->find(' ');
        const std::string word = packet->substr(0, blank);
        std::string text = blank == std::string::npos ? "" : packet->substr(blank + 1);
        if (word == "ok") co_return text;
        co_return refuse(word == "busy" ? ErrorCode::busy : ErrorCode::io_error, std::move(text));
    }(*this, std::move(question), deadline);
    turn_.release();
    co_return answer;
}

bool LoopDevice::has_hung_up() const {
    std::byte any{};
    return ::recv(socket_.get(), &any, sizeof any, MSG_PEEK | MSG_DONTWAIT) == 0;
}

async::Task<Outcome<>> LoopDevice::resize(TimePoint deadline) {
    CO_TRY_VOID(co_await ask("resize", deadline));
    co_return Outcome<>{};
}

async::Task<Outcome<>> LoopDevice::prepare(TimePoint deadline) {
    auto asked = co_await ask("prepare", deadline);
    if (asked) co_return Outcome<>{};
    // Whenever it gets there, it is to go on as before.
    if (late_answers_ > 0 && ::send(socket_.get(), "keep", 4, MSG_NOSIGNAL) > 0) ++late_answers_;
    co_return std::unexpected(std::move(asked.error()));
}

async::Task<Outcome<>> LoopDevice::clear(TimePoint deadline) {
    CO_TRY_VOID(co_await ask("clear", deadline));
    co_return Outcome<>{};
}

async::Task<void> LoopDevice::keep(TimePoint deadline) { (void)co_await ask("keep", deadline); }

async::Task<bool> LoopDevice::has_ended(TimePoint deadline) {
    if (!co_await readable(process_.get(), deadline)) co_return false;
    int status = 0;
    co_return ::waitpid(id_, &status, WNOHANG) == id_;
}

async::Task<void> LoopDevice::drop(TimePoint deadline) {
    // Whoever waits for an answer wakes up: the end of the socket is one.
    if (socket_.is_open()) ::shutdown(socket_.get(), SHUT_RDWR);
    co_await turn_.acquire();
    if (std::exchange(socket_, UniqueFd()).is_open() && !co_await has_ended(deadline)) {
        log::warning("{}: the process that keeps it ({}) hangs and is killed",
                     path_.empty() ? "a loop device that was being made" : path_, id_);
        ::kill(id_, SIGKILL);  // it ends as soon as the kernel lets it
    }
    turn_.release();
}

}  // namespace dst::io::uring
