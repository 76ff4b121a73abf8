#include "cli/help.h"

#include <fmt/format.h>

#include <sstream>
#include <string>

#include "control/table.h"

namespace dst::cli {
namespace {

constexpr std::size_t kWidth = 80;
constexpr std::size_t kNames = 30;

std::string fitted(const std::string& text, std::size_t width) {
    return fmt::format("{}", fmt::join(control::wrapped(text, width), "\n"));
}

class HelpFormatter final : public CLI::Formatter {
  public:
    HelpFormatter() {
        column_width(kNames);
        label("SUBCOMMAND", "VERB");
        label("Subcommands", "Verbs");
        label("Subcommand", "Verb");
    }

    std::string make_option_desc(const CLI::Option* option) const override {
        return fitted(CLI::Formatter::make_option_desc(option), kWidth - kNames);
    }
    std::string make_subcommand(const CLI::App* verb) const override {
        std::stringstream out;
        CLI::detail::format_help(out, verb->get_display_name(true),
                                 fitted(verb->get_description(), kWidth - kNames), kNames);
        return out.str();
    }
    std::string make_description(const CLI::App* verb) const override {
        return verb->get_description().empty() ? std::string()
                                               : fitted(verb->get_description(), kWidth) + "\n";
    }
    std::string make_footer(const CLI::App* verb) const override {
        std::istringstream lines(verb->get_footer());
        std::string out;
        for (std::string line; std::getline(lines, line);)
            out += (line.starts_with("Example: ") ? line : fitted(line, kWidth)) + "\n";
        return out;
    }
};

}  // namespace

std::shared_ptr<CLI::Formatter> make_help_formatter() { return std::make_shared<HelpFormatter>(); }

}  // namespace dst::cli
