#include "cli/manual.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <sstream>

namespace dst::cli {
namespace {

constexpr std::string_view kExample = "Example: ";

/// As roff takes it: nothing of it is a request or an escape.
std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\\')
            out += "\\e";
        else if (c == '-')
            out += "\\-";
        else
            out += c;
    }
    if (out.starts_with('.') || out.starts_with('\'')) out.insert(0, "\\&");
    return out;
}

/// Lines that were broken to fit --help; a man page breaks them anew.
std::string paragraph(const std::string& text) {
    std::istringstream lines(text);
    std::string out;
    for (std::string line; std::getline(lines, line);) out += escaped(line) + "\n";
    return out;
}

std::vector<const CLI::Option*> options_of(const CLI::App& verb, bool positional) {
    std::vector<const CLI::Option*> options;
    for (const CLI::Option* const option : verb.get_options({}))
        if (option->get_positional() == positional && !option->get_group().empty())
            options.push_back(option);
    return options;
}

/// "--grace VALUE", "-h, --help"
std::string usage_of(const CLI::Option& option) {
    if (option.get_positional()) return option.get_name(true);
    std::string names = option.get_name(false, true);
    for (auto at = names.find(','); at != std::string::npos; at = names.find(',', at + 2))
        names.insert(at + 1, " ");
    const std::string type = option.get_type_name();
    return option.get_expected_max() == 0 || type.empty() ? names : names + " " + type;
}

std::string synopsis(const CLI::App& verb) {
    std::string line = fmt::format(".B {}\n", escaped(path_of(verb)));
    if (!options_of(verb, false).empty()) line += "[OPTIONS]\n";
    for (const CLI::Option* const option : options_of(verb, true))
        line += escaped(option->get_required() ? option->get_name(true)
                                               : "[" + option->get_name(true) + "]") +
                "\n";
    if (!verbs_below(verb).empty()) line += "VERB ...\n";
    return line;
}

std::string option_list(const CLI::App& verb) {
    std::string out;
    for (const bool positional : {true, false}) {
        for (const CLI::Option* const option : options_of(verb, positional)) {
            out += fmt::format(".TP\n.B {}\n{}", escaped(usage_of(*option)),
                               paragraph(option->get_description()));
            if (!option->get_default_str().empty())
                out += fmt::format("Default: {}.\n", escaped(option->get_default_str()));
        }
    }
    return out;
}

std::string example_list(const CLI::App& verb) {
    std::string out;
    for (const std::string& example : footer_of(verb).examples)
        out += fmt::format(".PP\n.nf\n.RS\n{}\n.RE\n.fi\n", escaped(example));
    return out;
}

/// A verb below the page's own.
std::string section_of(const CLI::App& verb) {
    std::string out = fmt::format(".SS {}\n{}.PP\n{}.\n", escaped(path_of(verb)), synopsis(verb),
                                  escaped(verb.get_description()));
    if (const std::string text = footer_of(verb).text; !text.empty()) out += paragraph(text);
    out += option_list(verb) + example_list(verb);
    for (const CLI::App* const below : verbs_below(verb)) out += section_of(*below);
    return out;
}

std::string page_name(const CLI::App& verb) {
    std::string name = path_of(verb);
    std::ranges::replace(name, ' ', '-');
    return name;
}

std::string see_also(const CLI::App& verb) {
    std::vector<std::string> pages;
    const CLI::App* const above = verb.get_parent();
    for (const CLI::App* const other : verbs_below(above == nullptr ? verb : *above))
        if (other != &verb) pages.push_back(page_name(*other));
    if (above != nullptr) pages.insert(pages.begin(), page_name(*above));
    std::string out;
    for (std::size_t i = 0; i < pages.size(); ++i)
        out += fmt::format(".BR {} (1){}\n", escaped(pages[i]), i + 1 < pages.size() ? "," : "");
    return out;
}

}  // namespace

std::vector<const CLI::App*> verbs_below(const CLI::App& app) {
    std::vector<const CLI::App*> verbs;
    for (const CLI::App* const verb : app.get_subcommands({}))
        if (!verb->get_name().empty() && !verb->get_group().empty()) verbs.push_back(verb);
    return verbs;
}

std::string path_of(const CLI::App& verb) {
    if (verb.get_parent() == nullptr) return verb.get_name();
    return path_of(*verb.get_parent()) + " " + verb.get_name();
}

Footer footer_of(const CLI::App& verb) {
    Footer footer;
    std::istringstream lines(verb.get_footer());
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with(kExample))
            footer.examples.push_back(line.substr(kExample.size()));
        else
            footer.text += line + "\n";
    }
    return footer;
}

std::string manual_page(const CLI::App& verb) {
    std::string title = page_name(verb);
    std::ranges::transform(title, title.begin(),
                           [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    std::string out = fmt::format(
        ".TH {} 1 \"\" \"dst {}\" \"Distributed Storage\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n{}",
        escaped(title), DST_VERSION, escaped(page_name(verb)), escaped(verb.get_description()),
        synopsis(verb));
    const Footer footer = footer_of(verb);
    if (!footer.text.empty()) out += ".SH DESCRIPTION\n" + paragraph(footer.text);
    if (const std::string options = option_list(verb); !options.empty())
        out += ".SH OPTIONS\n" + options;
    if (const auto below = verbs_below(verb); !below.empty()) {
        out += ".SH VERBS\n";
        const bool is_program = verb.get_parent() == nullptr;
        for (const CLI::App* const each : below) {
            if (!is_program)
                out += section_of(*each);
            else
                out += fmt::format(".TP\n.BR {} (1)\n{}.\n", escaped(page_name(*each)),
                                   escaped(each->get_description()));
        }
    }
    if (!footer.examples.empty()) out += ".SH EXAMPLES\n" + example_list(verb);
    return out + ".SH SEE ALSO\n" + see_also(verb);
}

}  // namespace dst::cli
