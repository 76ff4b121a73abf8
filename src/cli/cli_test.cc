#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "cli/session.h"
#include "control/api_server.h"
#include "control/api_server_fake_test.h"

namespace dst::cli {
namespace {

struct Output {
    int code = 0;
    std::string out;
    std::string error;
};

/// The program, as if called with these words behind "dst".
Output dst(std::vector<std::string> words) {
    words.insert(words.begin(), "dst");
    std::vector<const char*> argv;
    argv.reserve(words.size());
    for (const auto& word : words) argv.push_back(word.c_str());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = run(static_cast<int>(argv.size()), argv.data());
    std::string out = testing::internal::GetCapturedStdout();
    return {code, std::move(out), testing::internal::GetCapturedStderr()};
}

bool is_one_line(const std::string& text) {
    return text.starts_with("dst: ") && text.find('\n') == text.size() - 1;
}

class Cli : public testing::Test {
  protected:
    Cli() {
        char pattern[] = "/tmp/dst-cli-XXXXXX";
        folder = ::mkdtemp(pattern);
        socket = folder + "/dst.sock";
        server = control::ApiServer::start(socket, operations, reactor->spawner()).value();
        ::setenv("DST_SOCKET", socket.c_str(), 1);
    }
    ~Cli() override {
        ::unsetenv("DST_SOCKET");
        server.reset();
        reactor.reset();
        std::filesystem::remove_all(folder);
    }
    std::string file(const std::string& text) {
        const std::string path = folder + "/dst.toml";
        std::ofstream(path) << text;
        return path;
    }
    /// What the daemon was asked for by these words, which must succeed in silence.
    std::string asked(std::vector<std::string> words) {
        const Output output = dst(std::move(words));
        EXPECT_EQ(output.code, 0) << output.error;
        EXPECT_EQ(output.out + output.error, "");
        return operations.last;
    }

    std::string folder;
    std::string socket;
    control::FakeOperations operations;
    std::unique_ptr<control::Reactor> reactor = std::make_unique<control::Reactor>();
    std::unique_ptr<control::ApiServer> server;
};

TEST_F(Cli, each_verb_asks_for_what_it_says) {
    EXPECT_EQ(asked({"storage", "create", "v", "--algorithm", "linear", "--node", "L: /d", "--node",
                     "R: h/e", "--grace", "2s", "--spin-us", "7", "--option", "chunk=64K"}),
              R"(v: {"name":"v","algorithm":"linear","nodes":["L: /d","R: h:10809/e"],)"
              R"("grace":"2s","spin_us":7,"options":{"chunk":"64K"}} start)");
    EXPECT_EQ(
        asked({"storage", "create", "v", "--algorithm", "linear", "--node", "L: /d", "--no-start"}),
        R"(v: {"name":"v","algorithm":"linear","nodes":["L: /d"]} stopped)");
    EXPECT_EQ(asked({"storage", "start", "v"}), "v: start");
    EXPECT_EQ(asked({"storage", "stop", "v"}), "v: stop");
    EXPECT_EQ(asked({"storage", "remove", "v"}), "v: remove");
    EXPECT_EQ(asked({"node", "add", "v", "R: h/e"}), "v: node R: h:10809/e");
    EXPECT_EQ(asked({"node", "add", "v", R"({"device":"R: h/f","size":"1G"})"}),
              "v: node R: h:10809/f");
    EXPECT_EQ(asked({"export", "add", "e", "--device", "storage:v", "--access", "10.0.0.0/8=rw",
                     "--access", "::1=ro"}),
              "e: export storage:v");
    EXPECT_EQ(asked({"export", "remove", "e"}), "e: unexport");
    EXPECT_EQ(asked({"algorithm", "load", "/lib/stripe.so"}), "e: unexport");
    EXPECT_EQ(asked({"algorithm", "unload", "stripe"}), "stripe: unload");
}

TEST_F(Cli, paths_are_relative_to_where_they_were_typed) {
    const std::string here = std::filesystem::current_path().lexically_normal().string();
    EXPECT_EQ(asked({"node", "add", "v", "L: disk.img"}), "v: node L: " + here + "/disk.img");
    EXPECT_EQ(asked({"export", "add", "e", "--device", "../x"}),
              "e: export " + std::filesystem::path(here + "/../x").lexically_normal().string());
    EXPECT_EQ(asked({"export", "add", "e", "--device", "memory:1M"}), "e: export memory:1M");
}

TEST_F(Cli, lists_are_tables_or_json) {
    EXPECT_NE(dst({"status"}).out.find("STORAGE"), std::string::npos);
    EXPECT_NE(dst({"storage", "list"}).out.find("vol0"), std::string::npos);
    EXPECT_NE(dst({"export", "list"}).out.find("EXPORT"), std::string::npos);
    EXPECT_NE(dst({"algorithm", "list"}).out.find("(built in)"), std::string::npos);
    for (const auto& words : std::vector<std::vector<std::string>>{
             {"status", "--json"},
             {"--json", "status"},
             {"storage", "list", "--json"},
             {"export", "list", "--json"},
             {"algorithm", "list", "--json"},
             {"storage", "stop", "v", "--json"},
             {"check-config", file("memory = \"1G\"\n"), "--json"}}) {
        const Output output = dst(words);
        EXPECT_EQ(output.code, 0) << output.error;
        EXPECT_TRUE(nlohmann::json::accept(output.out)) << output.out;
    }
}

TEST_F(Cli, the_socket_may_be_named_before_or_behind_the_verb) {
    ::setenv("DST_SOCKET", "/nowhere", 1);
    EXPECT_EQ(dst({"--socket", socket, "status"}).code, 0);
    EXPECT_EQ(dst({"status", "--socket", socket}).code, 0);
    EXPECT_EQ(dst({"storage", "list", "--socket", socket}).code, 0);
    EXPECT_EQ(dst({"storage", "--socket", socket, "list"}).code, 0);
    const Output nobody = dst({"status"});
    EXPECT_EQ(nobody.code, 1);
    EXPECT_NE(nobody.error.find("no daemon answers at /nowhere"), std::string::npos);
    EXPECT_TRUE(is_one_line(nobody.error)) << nobody.error;
}

TEST_F(Cli, what_is_refused_is_one_line_and_1) {
    for (const auto& words : std::vector<std::vector<std::string>>{
             {"storage", "stop", "bad"},
             {"storage", "stop", "no/name"},
             {"storage", "create", "v", "--algorithm", "linear", "--node", "Q: /d"},
             {"storage", "create", "v", "--algorithm", "linear", "--node", "L: /d", "--grace", "5"},
             {"storage", "create", "v", "--algorithm", "linear", "--node", "L: /d", "--option",
              "x"},
             {"storage", "create", "v", "--algorithm", "linear", "--node", "{"},
             {"node", "add", "v", "/dev/sdb"},
             {"export", "add", "e", "--device", "memory:0"},
             {"export", "add", "e", "--device", "/d", "--access", "everyone"},
             {"algorithm", "unload", "bad"},
             {"check-config", "/nowhere/dst.toml"},
             {"check-config", "/"},
             {"check-config", file("memroy = 1\n")}}) {
        const Output output = dst(words);
        EXPECT_EQ(output.code, 1) << words.back();
        EXPECT_TRUE(is_one_line(output.error)) << output.error;
        EXPECT_EQ(output.out, "");
    }
    EXPECT_EQ(dst({"storage", "stop", "bad"}).error, "dst: bad is in use; stop it first\n");
    EXPECT_EQ(dst({"check-config", file("memroy = 1\n")}).error,
              "dst: " + folder +
                  "/dst.toml:1: daemon: unknown key \"memroy\"; did you mean "
                  "'memory'?\n");
}

TEST_F(Cli, wrong_usage_is_one_line_and_2) {
    for (const auto& words :
         std::vector<std::vector<std::string>>{{},
                                               {"--nothing"},
                                               {"statu"},
                                               {"status", "more"},
                                               {"status", "storage", "list"},
                                               {"storage"},
                                               {"storage", "create"},
                                               {"storage", "create", "v", "--node", "L: /d"},
                                               {"storage", "create", "v", "--algorithm", "linear"},
                                               {"storage", "create", "v", "--algorithm", "linear",
                                                "--node", "L: /d", "--spin-us", "x"},
                                               {"node", "add", "v"},
                                               {"export", "add", "e"},
                                               {"check-config"},
                                               {"check-config", "a", "--config", "b"},
                                               {"daemon"},
                                               {"daemon", "--config", "x", "--ready-fd", "-1"},
                                               {"daemon", "--config", "x", "--log-level", "loud"},
                                               {"bench"},
                                               {"bench", "nbd://h/e", "--op", "erase"},
                                               {"bench", "nbd://h/e", "--size", "1000"},
                                               {"bench", "nbd://h/e", "--size", "64M"},
                                               {"bench", "nbd://h/e", "--depth", "0"},
                                               {"bench", "nbd://h/e", "--span", "1k"}}) {
        const Output output = dst(words);
        EXPECT_EQ(output.code, 2) << (words.empty() ? "nothing" : words.back());
        EXPECT_TRUE(is_one_line(output.error)) << output.error;
        EXPECT_EQ(output.out, "");
    }
    EXPECT_NE(dst({"storage", "create"}).error.find("see 'dst storage create --help'"),
              std::string::npos);
}

TEST_F(Cli, each_verb_has_a_help_with_an_example) {
    for (const auto& verb : std::vector<std::vector<std::string>>{{},
                                                                  {"daemon"},
                                                                  {"check-config"},
                                                                  {"status"},
                                                                  {"storage"},
                                                                  {"storage", "create"},
                                                                  {"storage", "start"},
                                                                  {"storage", "stop"},
                                                                  {"storage", "remove"},
                                                                  {"storage", "list"},
                                                                  {"node"},
                                                                  {"node", "add"},
                                                                  {"export"},
                                                                  {"export", "add"},
                                                                  {"export", "remove"},
                                                                  {"export", "list"},
                                                                  {"algorithm"},
                                                                  {"algorithm", "load"},
                                                                  {"algorithm", "unload"},
                                                                  {"algorithm", "list"},
                                                                  {"bench"}}) {
        auto words = verb;
        words.push_back("--help");
        const Output output = dst(words);
        EXPECT_EQ(output.code, 0);
        EXPECT_NE(output.out.find("Example: dst "), std::string::npos) << output.out;
    }
    EXPECT_TRUE(dst({"--version"}).out.starts_with("dst "));
}

TEST_F(Cli, a_good_configuration_is_summed_up) {
    const std::string path = file("[[export]]\nname = \"e\"\ndevice = \"memory:1M\"\n");
    const Output output = dst({"check-config", "--config", path});
    EXPECT_EQ(output.code, 0);
    EXPECT_EQ(output.out, path +
                              ": ok\n1 export, 0 storages of 0 nodes, 0 algorithms to load; "
                              "memory 256M; listens at 127.0.0.1:10809\n");
}

TEST_F(Cli, a_watch_ends_with_the_daemon) {
    std::thread ending([this] {
        while (operations.ran_on.load() == std::thread::id()) std::this_thread::yield();
        server->stop();
    });
    const Output output = dst({"status", "--watch"});
    ending.join();
    EXPECT_EQ(output.code, 1);
    EXPECT_TRUE(is_one_line(output.error)) << output.error;
}

}  // namespace
}  // namespace dst::cli
