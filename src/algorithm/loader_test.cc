#include "algorithm/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "algorithm/linear.h"

namespace dst::algorithm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kFile = "/lib/own.so";

Module good() {
    return {.module_bytes = sizeof(Module),
            .toolchain = DST_MODULE_TOOLCHAIN,
            .sizes = {},
            .name = "own",
            .description = "my own",
            .create = make_linear};
}

/// The refusal of `module`; one line that names the file.
std::string refusal(const Module& module) {
    const Outcome<> checked = check_module(module, kFile);
    if (checked.has_value()) return "accepted";
    EXPECT_THAT(checked.error().text, AllOf(HasSubstr(kFile), Not(HasSubstr("\n"))));
    return checked.error().text;
}

TEST(CheckModule, one_built_like_this_program_is_accepted) {
    EXPECT_TRUE(check_module(good(), kFile).has_value());
}

TEST(CheckModule, a_symbol_that_is_something_else_is_refused) {
    Module module = good();
    module.magic ^= 1;
    EXPECT_THAT(refusal(module), HasSubstr("no description of an algorithm"));
}

TEST(CheckModule, another_interface_is_refused_before_anything_else_is_read) {
    Module module{.abi = kModuleAbi + 1, .sizes = {}};
    module.toolchain = "of another shape";
    EXPECT_THAT(refusal(module), AllOf(HasSubstr("interface 3, this dst has 2"),
                                       HasSubstr("rebuild it against the installed headers")));
}

TEST(CheckModule, another_compiler_is_refused) {
    Module module = good();
    module.toolchain = "clang 20, libstdc++ 14, C++ 202302L";
    EXPECT_THAT(refusal(module), AllOf(HasSubstr("compiled with clang 20, libstdc++ 14"),
                                       HasSubstr(DST_MODULE_TOOLCHAIN), HasSubstr("pkg-config")));
    module.toolchain = nullptr;
    EXPECT_THAT(refusal(module), HasSubstr("compiled with unknown"));
}

TEST(CheckModule, other_sizes_are_refused_by_name) {
    Module module = good();
    module.module_bytes -= 8;
    EXPECT_THAT(refusal(module), HasSubstr("its description has"));

    module = good();
    module.sizes.request += 8;
    EXPECT_THAT(refusal(module), HasSubstr("Request has 64 bytes in it, 56 in this dst"));
    module = good();
    module.sizes.options = 1;
    EXPECT_THAT(refusal(module), HasSubstr("Options has 1 bytes in it"));
}

TEST(CheckModule, one_without_name_or_factory_is_refused) {
    Module module = good();
    module.name = nullptr;
    EXPECT_THAT(refusal(module), HasSubstr("lacks"));
    module = good();
    module.create = nullptr;
    EXPECT_THAT(refusal(module), HasSubstr("lacks"));
}

class LoaderTest : public ::testing::Test {
  protected:
    [[nodiscard]] std::string path(const std::string& name) const {
        return std::string(::testing::TempDir()) + "dst-loader-test-" + name;
    }
    Problem refused(const std::string& file) {
        const auto loaded = load_algorithm(registry, file);
        if (loaded.has_value()) return {ErrorCode::invalid, "loaded"};
        EXPECT_THAT(loaded.error().text, Not(HasSubstr("\n")));
        EXPECT_THAT(loaded.error().text, HasSubstr(file));
        EXPECT_TRUE(registry.list().empty());
        return loaded.error();
    }

    Registry registry;
};

/// A shared object that every program here has open.
std::string some_library() {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);)
        if (line.find("/libstdc++.so") != std::string::npos) return line.substr(line.find('/'));
    return {};
}

TEST_F(LoaderTest, a_relative_path_is_refused) {
    EXPECT_THAT(refused("stripe.so").text, HasSubstr("absolute path"));
    EXPECT_THAT(refused("./stripe.so").text, HasSubstr("absolute path"));
    EXPECT_THAT(refused("").text, HasSubstr("absolute path"));
}

TEST_F(LoaderTest, a_missing_file_and_a_directory_are_refused) {
    EXPECT_EQ(refused(path("missing.so")).code, ErrorCode::not_found);
    EXPECT_THAT(refused("/usr").text, HasSubstr("not a file"));
}

TEST_F(LoaderTest, a_file_that_is_no_shared_object_is_refused) {
    const std::string file = path("text.so");
    std::ofstream(file) << "This is not a shared object, though it is long enough for a header.\n";
    EXPECT_THAT(refused(file).text, HasSubstr("can't be loaded: invalid ELF header"));
    std::ofstream(file, std::ios::trunc).close();
    EXPECT_THAT(refused(file).text, HasSubstr("can't be loaded: file too short"));
    std::filesystem::remove(file);
}

TEST_F(LoaderTest, a_shared_object_without_an_algorithm_is_refused) {
    EXPECT_THAT(refused(some_library()).text, HasSubstr("no symbol dst_algorithm_module"));
}

}  // namespace
}  // namespace dst::algorithm
