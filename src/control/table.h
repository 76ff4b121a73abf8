// Tables for people: columns as wide as their widest cell.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dst::control {

struct TableStyle {
    bool colour = false;
    /// Columns of the terminal: what does not fit stands below its line, and columns in which
    /// nothing stands are left out. 0: one line each, however long.
    std::size_t width = 0;
};

enum class Colour : std::uint8_t { none, good, doubtful, bad, faint };

/// Without what a terminal would obey: reasons and names may come from peers.
[[nodiscard]] std::string harmless(std::string_view text);
/// Columns that UTF-8 text takes, if each character takes one.
[[nodiscard]] std::size_t width_of(std::string_view text);
/// Broken between words into lines of at most `width` columns; a longer word has its own line.
[[nodiscard]] std::vector<std::string> wrapped(std::string_view text, std::size_t width);
/// "[####......]" of `width` columns. `done` is at most `total`, which is not 0.
[[nodiscard]] std::string progress_bar(std::uint64_t done, std::uint64_t total, std::size_t width);

struct Cell {
    std::string text;
    Colour colour = Colour::none;

    template <std::convertible_to<std::string_view> Text>
    Cell(const Text& content, Colour of = Colour::none) : text(harmless(content)), colour(of) {
        if (text.empty()) text = "-";
    }
};
using Row = std::vector<Cell>;

/// The first row has the titles; the last column may be long.
[[nodiscard]] std::string format_rows(const std::vector<Row>& rows, TableStyle style);

}  // namespace dst::control
