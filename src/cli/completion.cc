// `dst completion bash`: the script.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "cli/manual.h"

namespace dst::cli {
namespace {

constexpr std::string_view kHead =
    R"sh(# Completion of dst for bash. Made by 'dst completion bash'.
_dst() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local verb=dst words= names= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$verb ${COMP_WORDS[i]}" in
)sh";
constexpr std::string_view kMiddle =
    R"sh() verb+=" ${COMP_WORDS[i]}" ;;
        esac
    done
)sh";
constexpr std::string_view kTail = R"sh(    esac
    case "$names" in
        files) compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        storage | export)
            words+=" $("${COMP_WORDS[0]}" "$names" list 2>/dev/null |
                awk '$1 == "NODE" || NF == 0 { exit } NR > 1 { print $1 }')" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _dst dst
)sh";

void each_verb(const CLI::App& verb, const auto& what) {
    what(verb);
    for (const CLI::App* const below : verbs_below(verb)) each_verb(*below, what);
}

bool is_shown(const CLI::Option& option) { return !option.get_group().empty(); }

std::vector<std::string> names_of(const CLI::Option& option) {
    std::vector<std::string> names;
    for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option.get_snames()) names.push_back("-" + name);
    return names;
}

/// What may stand for a value: of a set "{a,b}", a file, a name.
struct Values {
    std::string words;
    std::string_view names;
};
Values values_of(const CLI::Option& option) {
    const std::string type = option.get_type_name();
    const std::string name = option.get_name(true);
    Values values;
    if (const auto open = type.find('{'); open != std::string::npos) {
        values.words = type.substr(open + 1, type.find('}') - open - 1);
        std::ranges::replace(values.words, ',', ' ');
    } else if (type == "FILE" || type == "PATH" || name == "FILE") {
        values.names = "files";
    } else if (option.get_description() == "The storage") {
        values.names = "storage";
    } else if (option.get_description() == "The export") {
        values.names = "export";
    }
    return values;
}

/// What may come next, behind the verb.
std::string words_of(const CLI::App& verb) {
    std::string line = fmt::format("        \"{}\")\n            words=\"", path_of(verb));
    std::string_view names;
    for (const CLI::App* const below : verbs_below(verb)) line += below->get_name() + " ";
    for (const CLI::App* at = &verb; at != nullptr; at = at->get_parent()) {
        for (const CLI::Option* const option : at->get_options({})) {
            if (!is_shown(*option)) continue;
            if (option->get_positional() && at == &verb) {
                const Values values = values_of(*option);
                line += values.words.empty() ? "" : values.words + " ";
                if (names.empty()) names = values.names;
            }
            const bool is_own = at == &verb || at->get_parent() == nullptr;
            const bool is_again =
                at != &verb && (option == at->get_help_ptr() || option->check_lname("version"));
            if (!is_own || is_again) continue;
            for (const std::string& name : names_of(*option)) line += name + " ";
        }
    }
    line.pop_back();
    return line + "\"\n" + (names.empty() ? "" : fmt::format("            names={}\n", names)) +
           "            ;;\n";
}

/// What may follow an option that takes a value; nothing is offered for free text.
std::string values_after_options(const CLI::App& verb) {
    std::string lines;
    for (const CLI::Option* const option : verb.get_options({})) {
        if (!is_shown(*option) || option->get_positional() || option->get_expected_max() == 0)
            continue;
        const Values values = values_of(*option);
        const bool is_everywhere = verb.get_parent() == nullptr;
        for (const std::string& name : names_of(*option)) {
            lines += is_everywhere ? fmt::format("        *\" {}\")", name)
                                   : fmt::format("        \"{} {}\")", path_of(verb), name);
            lines += fmt::format(" words=\"{}\" names={} ;;\n", values.words, values.names);
        }
    }
    return lines;
}

}  // namespace

std::string bash_completion(const CLI::App& program) {
    std::string paths;
    std::string values;
    std::string words;
    each_verb(program, [&](const CLI::App& verb) {
        if (verb.get_parent() != nullptr)
            paths +=
                fmt::format("{}            \"{}\"", paths.empty() ? "" : " | \\\n", path_of(verb));
        values += values_after_options(verb);
        words += words_of(verb);
    });
    return std::string(kHead) + paths + std::string(kMiddle) + "    case \"$verb $before\" in\n" +
           values + "        *) case \"$verb\" in\n" + words + "        esac ;;\n" +
           std::string(kTail);
}

}  // namespace dst::cli
