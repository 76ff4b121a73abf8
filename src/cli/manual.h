// The text of --help in other forms: manual pages, and what a shell completes. There is no second
// text: all of it is read off the verbs, as CLI11 has them.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace dst::cli {

/// The verbs of `app` that are shown to people, in their order.
[[nodiscard]] std::vector<const CLI::App*> verbs_below(const CLI::App& app);
/// "dst storage create"
[[nodiscard]] std::string path_of(const CLI::App& verb);

/// What --help says below the options: the sentences, and the lines of examples.
struct Footer {
    std::string text;
    std::vector<std::string> examples;  // without "Example: "
};
[[nodiscard]] Footer footer_of(const CLI::App& verb);

/// A page for man(1): of the program, or of one of its verbs with the verbs below it.
[[nodiscard]] std::string manual_page(const CLI::App& verb);
/// A script that bash reads to complete command lines.
[[nodiscard]] std::string bash_completion(const CLI::App& program);

}  // namespace dst::cli
