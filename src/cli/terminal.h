// What is shown to a person at a terminal and to nobody else: colours, a live screen, progress.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "control/table.h"

namespace dst::cli {

[[nodiscard]] bool is_terminal(int descriptor);

struct TerminalSize {
    std::size_t columns = 80;
    std::size_t lines = 24;
};
/// Of the terminal behind `descriptor`; what it does not tell is as of old.
[[nodiscard]] TerminalSize terminal_size(int descriptor);

/// For tables on standard output: colours and wrapping only if a terminal shows them. $NO_COLOR
/// and TERM=dumb are obeyed.
[[nodiscard]] control::TableStyle output_style();

/// The alternate screen of the terminal behind standard output, until it dies or a signal ends the
/// program: what was there before comes back.
class Screen {
  public:
    Screen();
    ~Screen();
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;

    /// Shows `text` from the top, over what was there; what does not fit is counted in the last
    /// line. False if the terminal is gone.
    [[nodiscard]] bool draw(std::string_view text);
};

/// A bar on standard error for something that takes long; nothing, if that is no terminal.
class Progress {
  public:
    /// `is_wanted` false: shows nothing in any case.
    Progress(std::string what, bool is_wanted);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// In bytes. `total` 0: not known yet.
    void show(std::uint64_t done, std::uint64_t total);

  private:
    const std::string what_;
    const bool is_shown_;
    std::chrono::steady_clock::time_point begun_;
    std::uint64_t first_ = 0;
    bool has_begun_ = false;
};

/// One line of a progress, without its end: what, bar, share, amount, rate, time to go. At most
/// `columns` wide. Pure.
[[nodiscard]] std::string progress_line(std::string_view what, std::uint64_t done,
                                        std::uint64_t total, std::uint64_t bytes_per_second,
                                        std::size_t columns);

}  // namespace dst::cli
