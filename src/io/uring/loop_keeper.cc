// The process that keeps a loop device: see loop_device.h. Plain blocking calls, one thread.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "base/result.h"
#include "io/uring/errors.h"
#include "io/uring/loop_device.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {
namespace {

constexpr std::size_t kPacketMax = 8192;
/// Others take free devices, too.
constexpr int kAttemptsMax = 64;
/// So that a trim of all does not keep writes waiting for long.
constexpr const char* kDiscardMaxBytes = "67108864";

constexpr std::string_view kDevicePrefix = "/dev/loop";
/// How long that may take, and how often to look.
constexpr int kLettingGoMs = 1000;
constexpr int kPauseMs = 10;

/// A file of sysfs about "/dev/loop0".
std::string setting_of(const std::string& device, const char* name) {
    return fmt::format("/sys/block/{}/{}", device.substr(std::strlen("/dev/")), name);
}

std::string with_cause(std::string what) { return fmt::format("{}: {}", what, text_of(errno)); }

class Keeper {
  public:
    int run();

  private:
    Outcome<std::string> answer(const std::string& question);
    Outcome<std::string> make(const std::string& arguments);
    void wait_for_last_keeper(const std::string& wanted) const;
    Outcome<UniqueFd> take_free(const std::string& wanted);
    Outcome<bool> configure(int device);
    void shorten_discards() const;
    Outcome<std::string> resize() const;
    Outcome<std::string> prepare();
    Outcome<std::string> clear();
    Outcome<std::string> keep();

    bool read_only_ = false;
    unsigned block_bytes_ = 512;
    std::string path_;
    std::string file_path_;
    UniqueFd file_;
    UniqueFd device_;     // keeps it from being cleared
    UniqueFd exclusive_;  // between `prepare` and what follows
};

/// Has `device` the file now? Not: somebody else was faster.
Outcome<bool> Keeper::configure(int device) {
    loop_config config{};
    config.fd = static_cast<unsigned>(file_.get());
    config.block_size = block_bytes_;
    config.info.lo_flags =
        LO_FLAGS_DIRECT_IO | LO_FLAGS_AUTOCLEAR | (read_only_ ? LO_FLAGS_READ_ONLY : 0U);
    if (::ioctl(device, LOOP_CONFIGURE, &config) == 0) return true;
    if (errno == EBUSY) return false;
    return refuse(ErrorCode::io_error, with_cause("the loop device can't be made"));
}

/// That of a daemon that was killed may just be letting go of its device.
void Keeper::wait_for_last_keeper(const std::string& wanted) const {
    if (!wanted.starts_with(kDevicePrefix)) return;
    const std::string list = setting_of(wanted, "loop/backing_file");
    for (int i = 0; i < kLettingGoMs / kPauseMs; ++i) {
        std::ifstream file(list);
        std::string backing;
        if (!std::getline(file, backing) || !backing.starts_with(file_path_)) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(kPauseMs));
    }
}

/// A device that has the file: `wanted` if it is free.
Outcome<UniqueFd> Keeper::take_free(const std::string& wanted) {
    const int mode = (read_only_ ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (!control.is_open())
        return refuse(ErrorCode::unsupported, with_cause("/dev/loop-control can't be opened"));
    wait_for_last_keeper(wanted);
    for (int i = 0; i < kAttemptsMax; ++i) {
        if (i == 0 && !wanted.starts_with(kDevicePrefix)) continue;
        path_ = wanted;
        if (i > 0) {
            const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
            if (number < 0)
                return refuse(ErrorCode::io_error, with_cause("there is no free loop device"));
            path_ = fmt::format("{}{}", kDevicePrefix, number);
        }
        UniqueFd device(::open(path_.c_str(), mode));
        if (!device.is_open()) {
            if (i == 0) continue;
            return refuse(ErrorCode::io_error, with_cause(path_ + " can't be opened"));
        }
        TRY(const bool is_ours, configure(device.get()));
        if (is_ours) return device;
    }
    return refuse(ErrorCode::busy, "others take each free loop device at once");
}

/// Best effort: where it can't be set, long trims keep others waiting.
void Keeper::shorten_discards() const {
    const UniqueFd file(
        ::open(setting_of(path_, "queue/discard_max_bytes").c_str(), O_WRONLY | O_CLOEXEC));
    if (file.is_open()) (void)!::write(file.get(), kDiscardMaxBytes, std::strlen(kDiscardMaxBytes));
}

Outcome<std::string> Keeper::make(const std::string& arguments) {
    std::istringstream words(arguments);
    std::string access;
    std::string wanted;
    words >> access >> block_bytes_ >> wanted;
    words.get();
    std::getline(words, file_path_, '\0');
    read_only_ = access == "ro";
    file_ = UniqueFd(::open(file_path_.c_str(), (read_only_ ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    if (!file_.is_open())
        return refuse(ErrorCode::io_error, with_cause(file_path_ + " can't be opened"));
    TRY(device_, take_free(wanted));
    shorten_discards();
    return path_;
}

Outcome<std::string> Keeper::resize() const {
    struct stat now{};
    // The kernel has the size that it was told last.
    if (::fstat(file_.get(), &now) != 0 || ::ioctl(device_.get(), LOOP_SET_CAPACITY, 0) != 0)
        return refuse(ErrorCode::io_error, with_cause(path_ + " can't be given its new size"));
    return "";
}

Outcome<std::string> Keeper::prepare() {
    const int mode = (read_only_ ? O_RDONLY : O_RDWR) | O_EXCL | O_CLOEXEC;
    UniqueFd exclusive(::open(path_.c_str(), mode));
    if (!exclusive.is_open())
        return refuse(ErrorCode::busy,
                      errno == EBUSY
                          ? path_ + " is in use: unmount what is on it, or detach by force"
                          : with_cause(path_ + " can't be opened"));
    if (!read_only_ && ::fsync(exclusive.get()) != 0)
        return refuse(ErrorCode::io_error, with_cause(path_ + " can't be flushed"));
    exclusive_ = std::move(exclusive);
    return "";
}

Outcome<std::string> Keeper::clear() {
    if (!exclusive_.is_open()) return refuse(ErrorCode::invalid, "that was not prepared");
    device_.reset();
    loop_info64 info{};
    const bool is_asked = ::ioctl(exclusive_.get(), LOOP_CLR_FD, 0) == 0;
    // With others who have it open it is cleared when they close it, not now.
    const bool is_cleared = is_asked && ::ioctl(exclusive_.get(), LOOP_GET_STATUS64, &info) != 0;
    if (is_cleared) {
        exclusive_.reset();
        file_.reset();
        return "";
    }
    (void)keep();
    return refuse(ErrorCode::busy,
                  path_ + " is open somewhere: close it there, or detach by force");
}

Outcome<std::string> Keeper::keep() {
    if (exclusive_.is_open() && !device_.is_open())
        device_ = UniqueFd(::open(path_.c_str(), (read_only_ ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    exclusive_.reset();
    return "";
}

Outcome<std::string> Keeper::answer(const std::string& question) {
    if (question.starts_with("make ")) return make(question.substr(std::strlen("make ")));
    if (!file_.is_open()) return refuse(ErrorCode::invalid, "there is no loop device");
    if (question == "resize") return resize();
    if (question == "prepare") return prepare();
    if (question == "clear") return clear();
    if (question == "keep") return keep();
    return refuse(ErrorCode::invalid, "that is no question to a keeper");
}

int Keeper::run() {
    while (true) {
        std::string packet(kPacketMax, '\0');
        const ssize_t size = ::recv(STDIN_FILENO, packet.data(), packet.size(), 0);
        if (size < 0 && errno == EINTR) continue;
        if (size <= 0) return 0;  // the daemon has let go, or died
        packet.resize(static_cast<std::size_t>(size));
        const auto done = answer(packet);
        const std::string reply =
            done ? "ok " + *done
                 : (done.error().code == ErrorCode::busy ? "busy " : "no ") + done.error().text;
        if (::send(STDIN_FILENO, reply.data(), reply.size(), MSG_NOSIGNAL) < 0) return 0;
    }
}

}  // namespace

int keep_loop() {
    // The daemon says when it is over; and nothing of the daemon is to stay open.
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) std::signal(signal, SIG_IGN);
    ::close_range(STDERR_FILENO + 1, ~0U, 0);
    ::prctl(PR_SET_NAME, "dst-keep-loop");
    return Keeper().run();
}

}  // namespace dst::io::uring
