#define FUSE_USE_VERSION 312

#include "io/uring/fuse_mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/check.h"
#include "base/log.h"
#include "io/uring/errors.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {
namespace {

/// So many requests in a row, then others have their turn.
constexpr int kRequestsMax = 64;
/// Mounts on top of each other that are taken away at start; more of them are somebody's mistake.
constexpr int kStaleMax = 32;

/// While a mount is tried: where what libfuse says goes, instead of the log.
thread_local std::string* said = nullptr;

void to_log(fuse_log_level level, const char* format, va_list arguments) {
    std::array<char, 512> text{};
    const int length = std::vsnprintf(text.data(), text.size(), format, arguments);
    if (length <= 0) return;
    std::string_view line(text.data(),
                          std::min<std::size_t>(static_cast<std::size_t>(length), text.size() - 1));
    while (line.ends_with('\n')) line.remove_suffix(1);
    if (said != nullptr) {
        *said = line;
        return;
    }
    log::at(level <= FUSE_LOG_WARNING ? log::Level::warning : log::Level::debug, "fuse: {}", line);
}

/// As the kernel writes paths in mountinfo: blanks and the like as \040.
std::string unescaped(std::string_view text) {
    const auto is_octal = [](char c) { return c >= '0' && c <= '7'; };
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const std::string_view digits = text.substr(i + 1, 3);
        if (text[i] == '\\' && digits.size() == 3 && std::ranges::all_of(digits, is_octal)) {
            out += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 +
                                     (digits[2] - '0'));
            i += 3;
        } else {
            out += text[i];
        }
    }
    return out;
}

/// Types of what is mounted at `path`, the lowest first. Asks the kernel's list, not the folder:
/// whoever serves that may be dead.
std::vector<std::string> mounted_at(const std::string& path) {
    std::vector<std::string> types;
    std::ifstream list("/proc/self/mountinfo");
    for (std::string line; std::getline(list, line);) {
        // 36 35 98:0 /root /mount/point options... - type source super-options
        std::istringstream words(line);
        const std::vector<std::string> all(std::istream_iterator<std::string>{words}, {});
        const auto dash = std::find(all.begin(), all.end(), "-");
        if (all.size() < 5 || dash == all.end() || dash + 1 == all.end()) continue;
        if (unescaped(all[4]) == path) types.push_back(*(dash + 1));
    }
    return types;
}

/// What others than root may: the set-uid helper unmounts what is theirs.
bool unmount_by_helper(const std::string& path) {
    std::array<char*, 6> arguments = {const_cast<char*>("fusermount3"), const_cast<char*>("-u"),
                                      const_cast<char*>("-z"),          const_cast<char*>("--"),
                                      const_cast<char*>(path.c_str()),  nullptr};
    pid_t child = 0;
    if (::posix_spawnp(&child, "fusermount3", nullptr, nullptr, arguments.data(), environ) != 0)
        return false;
    int status = 0;
    while (::waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// The caller has the lock of the folder's daemon, so whoever mounted there is dead.
Outcome<> clear_away(const std::string& path) {
    for (int i = 0; i < kStaleMax; ++i) {
        const auto types = mounted_at(path);
        if (types.empty()) return {};
        if (!types.back().starts_with("fuse"))
            return refuse(ErrorCode::busy,
                          fmt::format("a file system of type {} is mounted at {}; unmount it",
                                      types.back(), path));
        if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
            log::info("{}: what a killed daemon left mounted there is replaced", path);
            continue;
        }
        const int why = errno;
        if (!unmount_by_helper(path))
            return refuse(ErrorCode::io_error,
                          fmt::format("what a killed daemon left mounted at {} can't be unmounted: "
                                      "{}; unmount it",
                                      path, text_of(why)));
    }
    return refuse(ErrorCode::busy, fmt::format("too much is mounted at {}; unmount it", path));
}

/// `path` as the kernel calls it, without a look at its last part.
Outcome<std::string> canonical(const std::string& path) {
    const auto slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    std::array<char, PATH_MAX> real{};
    if (::realpath(parent.c_str(), real.data()) == nullptr)
        return refuse(ErrorCode::not_found, fmt::format("{}: {}", parent, text_of(errno)));
    const std::string folder(real.data());
    return (folder == "/" ? folder : folder + "/") + path.substr(slash + 1);
}

Outcome<> make_folder(const std::string& path) {
    if (::mkdir(path.c_str(), 0755) == 0) return {};
    struct stat found{};
    if (errno == EEXIST && ::lstat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode)) return {};
    return refuse(ErrorCode::io_error, fmt::format("{} can't be made a folder: {}", path,
                                                   text_of(errno == EEXIST ? ENOTDIR : errno)));
}

/// Something to mount a file on. What it holds is never seen.
Outcome<> make_file(const std::string& path) {
    const UniqueFd made(::open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    struct stat found{};
    if (made.is_open() && ::fstat(made.get(), &found) == 0 && S_ISREG(found.st_mode)) return {};
    return refuse(ErrorCode::io_error, fmt::format("{} can't be made a file: {}", path,
                                                   text_of(made.is_open() ? EEXIST : errno)));
}

}  // namespace

Outcome<std::unique_ptr<FuseMount>> FuseMount::open(Reactor& reactor, const std::string& path,
                                                    const fuse_lowlevel_ops& operations,
                                                    void* context, FuseMountOptions options) {
    TRY(const std::string place, canonical(path));
    TRY_VOID(clear_away(place));
    TRY_VOID(options.is_file ? make_file(place) : make_folder(place));
    if (::access("/dev/fuse", F_OK) != 0)
        return refuse(
            ErrorCode::unsupported,
            fmt::format("this host has no /dev/fuse: {}; load the module fuse", text_of(errno)));
    ::fuse_set_log_func(to_log);
    std::string program = "dst";
    std::string option = "-o";
    std::string text = "fsname=dst,subtype=dst,default_permissions,nosuid,nodev,noexec,noatime";
    if (options.read_only) text += ",ro";
    std::array<char*, 4> words = {program.data(), option.data(), text.data(), nullptr};
    fuse_args arguments = FUSE_ARGS_INIT(3, words.data());
    fuse_session* const session =
        ::fuse_session_new(&arguments, &operations, sizeof operations, context);
    ::fuse_opt_free_args(&arguments);
    if (session == nullptr) return refuse(ErrorCode::unsupported, "libfuse refuses to begin");
    std::string why = "libfuse does not say why";
    said = &why;
    const bool is_mounted = ::fuse_session_mount(session, place.c_str()) == 0;
    said = nullptr;
    if (!is_mounted) {
        ::fuse_session_destroy(session);
        return refuse(ErrorCode::not_permitted, "nothing can be mounted there: " + why);
    }
    std::unique_ptr<FuseMount> mount(new FuseMount(reactor, place, session, options.is_file));
    const int fd = ::fuse_session_fd(session);
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return refuse(ErrorCode::io_error, fmt::format("/dev/fuse: {}", text_of(errno)));
    return mount;
}

FuseMount::FuseMount(Reactor& reactor, std::string path, fuse_session* session, bool is_file)
    : reactor_(reactor),
      path_(std::move(path)),
      session_(session),
      is_file_(is_file),
      buffer_(std::make_unique<fuse_buf>()),
      receive_([this](fuse_session*) { return receive_by_libfuse(); }) {}

FuseMount::~FuseMount() {
    CHECK(waiting_ == nullptr);
    close();
    ::fuse_session_destroy(session_);
    std::free(buffer_->mem);
}

async::Task<void> FuseMount::serve() {
    const int fd = ::fuse_session_fd(session_);
    while (!is_stopped_) {
        if (is_paused_) {
            co_await resumed_.wait();
            continue;
        }
        auto readable = reactor_.submit(
            [&](io_uring_sqe& entry) { io_uring_prep_poll_add(&entry, fd, POLLIN); });
        waiting_ = &readable;
        const int result = co_await readable;
        waiting_ = nullptr;
        if (is_stopped_) co_return;
        if (result < 0 && result != -EINTR && result != -ECANCELED) {
            log::warning("{}: shown no more: {}", path_, text_of(-result));
            co_return;
        }
        if (!hand_out()) {
            log::warning("{}: unmounted by somebody; a restart shows it again", path_);
            co_return;
        }
    }
}

/// False if there will be nothing more.
bool FuseMount::hand_out() {
    for (int i = 0; i < kRequestsMax && !is_stopped_ && !is_paused_; ++i) {
        const int received = receive_(session_);
        // One that was given up before it was read.
        if (received == -EINTR || received == -ENOENT) continue;
        if (received == -EAGAIN) return true;
        if (received <= 0 || ::fuse_session_exited(session_) != 0) return false;
    }
    return true;
}

int FuseMount::receive_by_libfuse() {
    const int received = ::fuse_session_receive_buf(session_, buffer_.get());
    if (received > 0 && ::fuse_session_exited(session_) == 0)
        ::fuse_session_process_buf(session_, buffer_.get());
    return received;
}

void FuseMount::resume() {
    is_paused_ = false;
    resumed_.wake_all();
}

void FuseMount::stop() {
    is_stopped_ = true;
    resumed_.wake_all();
    if (waiting_ != nullptr) reactor_.cancel(*waiting_);
}

void FuseMount::close() {
    if (!std::exchange(is_mounted_, false)) return;
    ::fuse_session_unmount(session_);
    // It was made for this; if something lies in the folder, it stays.
    is_file_ ? ::unlink(path_.c_str()) : ::rmdir(path_.c_str());
}

}  // namespace dst::io::uring
