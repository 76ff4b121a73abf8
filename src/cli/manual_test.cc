#include "cli/manual.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <functional>

#include "cli/session.h"

namespace dst::cli {
namespace {

/// All verbs of the program.
class Manual : public testing::Test {
  protected:
    Manual() { add_verbs(app, session); }

    void each(const std::function<void(const CLI::App&)>& what) {
        const std::function<void(const CLI::App&)> visit = [&](const CLI::App& verb) {
            what(verb);
            for (const CLI::App* const below : verbs_below(verb)) visit(*below);
        };
        visit(app);
    }

    Session session{"/s", false, {}};
    CLI::App app{"Text of the program", "dst"};
};

TEST_F(Manual, each_verb_has_an_example_that_is_parsed) {
    each([&](const CLI::App& verb) {
        const Footer footer = footer_of(verb);
        ASSERT_FALSE(footer.examples.empty()) << path_of(verb);
        for (const std::string& example : footer.examples)
            EXPECT_NE(example.find(path_of(verb).substr(0, path_of(verb).rfind(' '))),
                      std::string::npos)
                << path_of(verb) << ": " << example;
    });
}

TEST_F(Manual, each_text_of_help_is_in_a_page) {
    each([&](const CLI::App& verb) {
        const CLI::App* top = &verb;
        while (top->get_parent() != nullptr && top->get_parent() != &app) top = top->get_parent();
        std::string page = manual_page(*top);
        for (auto at = page.find("\\-"); at != std::string::npos; at = page.find("\\-", at + 1))
            page.erase(at, 1);
        EXPECT_NE(page.find(verb.get_description()), std::string::npos) << path_of(verb);
        for (const CLI::Option* const option : verb.get_options({}))
            EXPECT_NE(page.find(option->get_description()), std::string::npos)
                << path_of(verb) << " " << option->get_name();
    });
}

TEST_F(Manual, help_fits_eighty_columns) {
    each([&](const CLI::App& verb) {
        std::istringstream lines(verb.help(path_of(verb).substr(0, path_of(verb).rfind(' '))));
        for (std::string line; std::getline(lines, line);)
            EXPECT_TRUE(line.size() <= 80 || line.starts_with("Example: "))
                << path_of(verb) << ": " << line;
    });
}

TEST_F(Manual, the_completion_knows_each_verb_and_each_option) {
    const std::string script = bash_completion(app);
    each([&](const CLI::App& verb) {
        EXPECT_NE(script.find("\"" + path_of(verb) + "\""), std::string::npos);
        for (const CLI::Option* const option : verb.get_options({}))
            for (const std::string& name : option->get_lnames())
                EXPECT_NE(script.find("--" + name), std::string::npos)
                    << path_of(verb) << " --" << name;
    });
}

}  // namespace
}  // namespace dst::cli
