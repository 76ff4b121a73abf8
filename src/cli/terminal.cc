#include "cli/terminal.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "control/durations.h"

namespace dst::cli {
namespace {

// xterm's control sequences, which every terminal of today obeys.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[2J";  // alternate screen, no cursor
constexpr std::string_view kLeave = "\x1b[?25h\x1b[?1049l";
constexpr std::string_view kHome = "\x1b[H";
constexpr std::string_view kToLineEnd = "\x1b[K";
constexpr std::string_view kToScreenEnd = "\x1b[J";

/// Async-signal-safe. Ctrl-C is how it is meant to end, even while a daemon does not answer.
void leave_and_exit(int) {
    (void)!::write(STDOUT_FILENO, kLeave.data(), kLeave.size());
    ::_exit(0);
}

void on_signals(void (*handler)(int)) {
    struct sigaction action{};
    action.sa_handler = handler;
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
}

std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines;
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        lines.push_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return lines;
}

}  // namespace

bool is_terminal(int descriptor) { return ::isatty(descriptor) == 1; }

TerminalSize terminal_size(int descriptor) {
    TerminalSize size;
    struct winsize window{};
    if (::ioctl(descriptor, TIOCGWINSZ, &window) != 0) return size;
    if (window.ws_col > 0) size.columns = window.ws_col;
    if (window.ws_row > 0) size.lines = window.ws_row;
    return size;
}

control::TableStyle output_style() {
    if (!is_terminal(STDOUT_FILENO)) return {};
    const char* const no_colour = std::getenv("NO_COLOR");
    const char* const terminal = std::getenv("TERM");
    const bool is_dumb = terminal != nullptr && std::string_view(terminal) == "dumb";
    return {.colour = (no_colour == nullptr || *no_colour == '\0') && !is_dumb,
            .width = std::max<std::size_t>(terminal_size(STDOUT_FILENO).columns, 40)};
}

Screen::Screen() {
    on_signals(leave_and_exit);
    std::fwrite(kEnter.data(), 1, kEnter.size(), stdout);
}

Screen::~Screen() {
    std::fwrite(kLeave.data(), 1, kLeave.size(), stdout);
    std::fflush(stdout);
    on_signals(SIG_DFL);
}

bool Screen::draw(std::string_view text) {
    const std::size_t most = terminal_size(STDOUT_FILENO).lines;
    const auto lines = lines_of(text);
    const bool fits = lines.size() <= most;
    const std::size_t shown = fits ? lines.size() : most - 1;
    std::string out(kHome);
    for (std::size_t i = 0; i < shown; ++i) {
        out += lines[i];
        out += kToLineEnd;
        if (i + 1 < most) out += "\r\n";
    }
    if (!fits) out += fmt::format("... {} more lines{}", lines.size() - shown, kToLineEnd);
    out += kToScreenEnd;
    return std::fwrite(out.data(), 1, out.size(), stdout) == out.size() && std::fflush(stdout) == 0;
}

Progress::Progress(std::string what, bool is_wanted)
    : what_(std::move(what)), is_shown_(is_wanted && is_terminal(STDERR_FILENO)) {}

Progress::~Progress() {
    if (is_shown_ && has_begun_) std::fprintf(stderr, "\r\x1b[K");
}

void Progress::show(std::uint64_t done, std::uint64_t total) {
    if (!is_shown_) return;
    const auto now = std::chrono::steady_clock::now();
    if (!has_begun_ || done < first_) {
        begun_ = now;
        first_ = done;
        has_begun_ = true;
    }
    const double seconds = std::chrono::duration<double>(now - begun_).count();
    const double rate = seconds > 0 ? static_cast<double>(done - first_) / seconds : 0;
    const std::string line = progress_line(what_, done, total, static_cast<std::uint64_t>(rate),
                                           terminal_size(STDERR_FILENO).columns - 1);
    std::fprintf(stderr, "\r%s\x1b[K", line.c_str());
    std::fflush(stderr);
}

std::string progress_line(std::string_view what, std::uint64_t done, std::uint64_t total,
                          std::uint64_t bytes_per_second, std::size_t columns) {
    constexpr std::size_t kBarMin = 10;
    constexpr std::size_t kBarMax = 32;
    std::string front(what);
    std::string back;
    if (total > 0) {
        done = std::min(done, total);
        back = fmt::format(
            " {:.1f} %, {} of {}", 100 * static_cast<double>(done) / static_cast<double>(total),
            control::human_size(ByteCount(done)), control::human_size(ByteCount(total)));
        if (bytes_per_second > 0) {
            const std::chrono::seconds left((total - done) / bytes_per_second);
            back += fmt::format(", {}/s, {} left", control::human_size(ByteCount(bytes_per_second)),
                                control::human_duration(left));
        }
        const std::size_t used = front.size() + 1 + back.size();
        if (used + kBarMin <= columns)
            front += " " + control::progress_bar(done, total, std::min(kBarMax, columns - used));
    }
    return (front + back).substr(0, columns);
}

}  // namespace dst::cli
