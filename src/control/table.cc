#include "control/table.h"

#include <algorithm>

namespace dst::control {
namespace {

std::string_view escape_of(Colour colour) {
    switch (colour) {
        case Colour::none:
            return "";
        case Colour::good:
            return "\x1b[32m";
        case Colour::doubtful:
            return "\x1b[33m";
        case Colour::bad:
            return "\x1b[31m";
        case Colour::faint:
            return "\x1b[2m";
    }
    return "";
}

bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

std::vector<std::size_t> widths_of(const std::vector<Row>& rows) {
    std::vector<std::size_t> widths;
    for (const Row& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], width_of(row[i].text));
    }
    return widths;
}

/// Without columns in which nothing stands but their title.
std::vector<Row> without_empty_columns(const std::vector<Row>& rows) {
    std::vector<Row> kept(rows.size());
    for (std::size_t column = 0; column < rows.front().size(); ++column) {
        const bool is_used = std::ranges::any_of(rows.begin() + 1, rows.end(), [&](const Row& row) {
            return column < row.size() && row[column].text != "-";
        });
        if (!is_used) continue;
        for (std::size_t i = 0; i < rows.size(); ++i)
            if (column < rows[i].size()) kept[i].push_back(rows[i][column]);
    }
    return kept;
}

/// From the left; the first one in any case.
std::size_t columns_that_fit(const std::vector<std::size_t>& widths, std::size_t width) {
    if (width == 0) return widths.size();
    std::size_t used = 0;
    std::size_t count = 0;
    for (; count < widths.size(); ++count) {
        used += widths[count];
        if (count > 0 && used > width) break;
        used += 2;
    }
    return count;
}

std::string painted(const Cell& cell, TableStyle style) {
    if (!style.colour || cell.colour == Colour::none) return cell.text;
    return std::string(escape_of(cell.colour)) + cell.text + "\x1b[0m";
}

}  // namespace

std::string harmless(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f) c = '?';
    }
    return out;
}

std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(std::ranges::count_if(text, begins_character));
}

std::vector<std::string> wrapped(std::string_view text, std::size_t width) {
    std::vector<std::string> lines(1);
    while (!text.empty()) {
        const auto end = std::min(text.find(' '), text.size());
        const std::string_view word = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (!lines.back().empty() && width_of(lines.back()) + 1 + width_of(word) > width)
            lines.emplace_back();
        if (!lines.back().empty()) lines.back() += ' ';
        lines.back() += word;
    }
    return lines;
}

std::string progress_bar(std::uint64_t done, std::uint64_t total, std::size_t width) {
    const std::size_t cells = width - 2;
    const double share = static_cast<double>(done) / static_cast<double>(total);
    const auto full = static_cast<std::size_t>(share * static_cast<double>(cells));
    return "[" + std::string(full, '#') + std::string(cells - full, '.') + "]";
}

std::string format_rows(const std::vector<Row>& all, TableStyle style) {
    constexpr std::size_t kIndent = 4;
    const std::vector<Row> rows =
        style.width > 0 && all.size() > 1 ? without_empty_columns(all) : all;
    const auto widths = widths_of(rows);
    const std::size_t fitting = columns_that_fit(widths, style.width);
    std::string out;
    for (const Row& row : rows) {
        const std::size_t end = std::min(fitting, row.size());
        for (std::size_t i = 0; i < end; ++i) {
            out += painted(row[i], style);
            if (i + 1 < end) out.append(widths[i] - width_of(row[i].text) + 2, ' ');
        }
        const bool has_titles = &row == &rows.front();
        for (std::size_t i = end; i < row.size() && !has_titles; ++i) {
            if (row[i].text == "-") continue;
            for (const std::string& line : wrapped(row[i].text, style.width - kIndent))
                out += "\n" + std::string(kIndent, ' ') + line;
        }
        out += '\n';
    }
    return out;
}

}  // namespace dst::control
