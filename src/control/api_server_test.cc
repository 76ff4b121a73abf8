#include "control/api_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "control/api_client.h"
#include "control/api_server_fake_test.h"

namespace dst::control {
namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

class Api : public testing::Test {
  protected:
    Api() {
        char pattern[] = "/tmp/dst-api-XXXXXX";
        folder = ::mkdtemp(pattern);
        path = folder + "/dst.sock";
    }
    ~Api() override {
        server.reset();
        reactor.reset();
        std::filesystem::remove_all(folder);
    }
    void start(ApiServer::Limits limits = {}) {
        auto started = ApiServer::start(path, operations, reactor->spawner(), limits);
        ASSERT_TRUE(started.has_value()) << started.error().text;
        server = *std::move(started);
    }
    Outcome<std::string> ask(std::string_view method, const std::string& target,
                             std::string body = {}) {
        return ApiClient(path).request(method, target, std::move(body));
    }
    /// What a raw client gets for `text`.
    std::string raw(const std::string& text, bool ends = true) {
        const Descriptor socket = connect_to_daemon(path).value();
        EXPECT_GE(::send(socket.number(), text.data(), text.size(), MSG_NOSIGNAL), 0);
        if (ends) ::shutdown(socket.number(), SHUT_WR);
        std::string out;
        char buffer[4096];
        ssize_t size = 0;
        while ((size = ::recv(socket.number(), buffer, sizeof buffer, 0)) > 0) {
            out.append(buffer, static_cast<std::size_t>(size));
        }
        return out;
    }

    std::string folder;
    std::string path;
    FakeOperations operations;
    std::unique_ptr<Reactor> reactor = std::make_unique<Reactor>();
    std::unique_ptr<ApiServer> server;
};

TEST_F(Api, every_operation_is_reached) {
    start();
    EXPECT_EQ(ApiClient(path).status().value().version, "test");
    EXPECT_EQ(operations.ran_on.load(), reactor->id()) << "on the reactor's thread";
    EXPECT_EQ(parse_status(ask("GET", "/v1/storages").value()).value().storages.size(), 1U);
    const auto done = [&](std::string_view method, const std::string& target,
                          std::string body = {}) {
        const auto answer = ask(method, target, std::move(body));
        EXPECT_TRUE(answer.has_value()) << answer.error().text;
        return operations.last;
    };
    const std::string spec = R"("name":"v","algorithm":"linear","nodes":["L: /d"])";
    EXPECT_EQ(done("POST", "/v1/storages", "{" + spec + "}"), "v: {" + spec + "} start");
    EXPECT_EQ(done("POST", "/v1/storages", "{" + spec + R"(,"start":false})"),
              "v: {" + spec + "} stopped");
    EXPECT_EQ(done("POST", "/v1/storages/v/start"), "v: start");
    EXPECT_EQ(done("POST", "/v1/storages/v/stop"), "v: stop");
    EXPECT_EQ(done("DELETE", "/v1/storages/v"), "v: remove");
    EXPECT_EQ(done("POST", "/v1/storages/v/nodes", R"({"node":"R: h/e"})"), "v: node R: h:10809/e");
    EXPECT_EQ(done("POST", "/v1/storages/v/nodes", R"({"node":{"device":"L: /d","size":"1G"}})"),
              "v: node L: /d");
    EXPECT_EQ(done("POST", "/v1/exports", R"({"name":"e","device":"storage:v"})"),
              "e: export storage:v");
    const std::string mirror = R"("name":"m","algorithm":"mirror","nodes":["L: /d"])";
    EXPECT_EQ(done("POST", "/v1/assemblies", "{" + mirror + "}"), "m: {" + mirror + "} assemble");
    EXPECT_EQ(done("POST", "/v1/storages/v/start", R"({"force":true})"), "v: start by force");
    EXPECT_EQ(done("POST", "/v1/storages/v/start", R"({"keep":"00ab"})"), "v: start keep 00ab");
    EXPECT_EQ(done("POST", "/v1/storages/v/verify"), "v: verify");
    EXPECT_EQ(done("POST", "/v1/storages/v/grow"), "v: grow");
    EXPECT_EQ(done("POST", "/v1/storages/v/verify", R"({"repair":true})"), "v: verify and repair");
    EXPECT_EQ(done("POST", "/v1/storages/v/resync", R"({"size":4096,"timeout":100})"),
              "v: resync 4096 100");
    EXPECT_EQ(
        done("POST", "/v1/storages/v/nodes", R"({"node":"R: h/e","witness":true,"force":true})"),
        "v: node R: h:10809/e witness by force");
    EXPECT_EQ(done("DELETE", "/v1/storages/v/nodes/00ab"), "v: without 00ab");
    EXPECT_EQ(done("DELETE", "/v1/storages/v/nodes", R"({"type":"R: h:10809/e"})"),
              "v: without R: h:10809/e");
    EXPECT_EQ(done("POST", "/v1/storages/v/nodes/00ab/replace", R"({"node":"L: /d"})"),
              "v: L: /d for 00ab");
    EXPECT_EQ(done("POST", "/v1/storages/v/nodes/00ab/dirty"), "v: 00ab dirty");
    EXPECT_EQ(done("POST", "/v1/storages/v/nodes/00ab/dirty", R"({"force":true})"),
              "v: 00ab dirty by force");
    EXPECT_EQ(done("DELETE", "/v1/storages/v/nodes/00ab", R"({"force":true})"),
              "v: without 00ab by force");
    EXPECT_EQ(done("POST", "/v1/storages/v/nodes/00ab/clean"), "v: 00ab clean");
    EXPECT_EQ(done("DELETE", "/v1/exports/e"), "e: unexport");
    EXPECT_EQ(done("POST", "/v1/attachments", R"({"name":"v"})"), "v: attach");
    EXPECT_EQ(done("POST", "/v1/attachments", R"({"name":"v","via":"ublk","read_only":true})"),
              "v: attach ublk read-only");
    EXPECT_EQ(done("POST", "/v1/attachments", R"({"name":"v","file":true})"), "v: attach file");
    EXPECT_EQ(done("DELETE", "/v1/attachments/v"), "v: detach");
    EXPECT_EQ(done("DELETE", "/v1/attachments/v", R"({"force":true})"), "v: detach by force");
    const auto attachments =
        parse_status(ask("GET", "/v1/attachments").value()).value().attachments;
    EXPECT_EQ(attachments.at(0).device, "/dev/loop9");
    EXPECT_EQ(done("DELETE", "/v1/algorithms/stripe"), "stripe: unload");
    EXPECT_EQ(parse_status(ask("GET", "/v1/exports").value()).value().exports.at(0).name, "e");
    EXPECT_EQ(parse_status(ask("GET", "/v1/algorithms").value()).value().algorithms.at(0).uses, 3U);
    const auto loaded = ask("POST", "/v1/algorithms", R"({"file":"/lib/stripe.so"})");
    EXPECT_EQ(parse_status(loaded.value()).value().algorithms.at(0).file, "/lib/stripe.so");
}

TEST_F(Api, the_tree_is_reached_by_its_paths) {
    start();
    EXPECT_EQ(ask("GET", "/v1/tree").value(), R"({"value":""})");
    EXPECT_EQ(ask("GET", "/v1/tree/devices/vol0/alg").value(), R"({"value":"devices/vol0/alg"})");
    EXPECT_EQ(ask("GET", "/v1/tree/bad").error().code, ErrorCode::not_found);
    EXPECT_TRUE(ask("PUT", "/v1/tree/devices/a/b", R"({"value":"1\n"})").has_value());
    EXPECT_EQ(operations.last, "devices/a/b: 1\n");
    for (const char* const body : {"", "{}", "1", R"({"value":1})", R"({"value":null})"})
        EXPECT_EQ(ask("PUT", "/v1/tree/a", body).error().code, ErrorCode::invalid) << body;
    EXPECT_FALSE(ask("POST", "/v1/tree/a", R"({"value":"1"})").has_value());
}

TEST_F(Api, events_are_asked_for_by_a_number) {
    start();
    EXPECT_EQ(ask("GET", "/v1/events").value(), R"({"last":0,"events":[],"waited":false})");
    EXPECT_EQ(ask("GET", "/v1/events/7").value(), R"({"last":7,"events":[],"waited":false})");
    EXPECT_EQ(ask("GET", "/v1/events/7/wait").value(), R"({"last":7,"events":[],"waited":true})");
    for (const char* const target : {"/v1/events/x", "/v1/events/-1", "/v1/events/7/now",
                                     "/v1/events/18446744073709551616", "/v1/events/7/wait/x"})
        EXPECT_EQ(ask("GET", target).error().code, ErrorCode::not_found) << target;
}

TEST_F(Api, a_plan_is_asked_for_by_a_configuration_that_is_checked) {
    start();
    const auto plan = ask("POST", "/v1/plan", R"({"toml":"","prune":true})");
    ASSERT_TRUE(plan.has_value()) << plan.error().text;
    EXPECT_NE(plan->find(R"("interrupts":true)"), std::string::npos) << *plan;
    for (const char* const body : {R"({"toml":"x"})", R"({"toml":"memory = 1\n"})", R"({"toml":7})",
                                   R"({"prune":1})", R"({"file":"x"})", "[]"})
        EXPECT_EQ(ask("POST", "/v1/plan", body).error().code, ErrorCode::invalid) << body;
    EXPECT_NE(ask("GET", "/v1/config").value().find("in_force"), std::string::npos);
    EXPECT_EQ(ask("GET", "/v1/storages/v/what-if").value(), R"({"storage":"v","losses":[]})");
}

TEST_F(Api, metrics_are_text) {
    start();
    const std::string answer = raw("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_NE(answer.find("Content-Type: text/plain; version=0.0.4"), std::string::npos) << answer;
    EXPECT_TRUE(answer.ends_with("\r\n\r\ndst_build_info 1\n")) << answer;
}

TEST_F(Api, a_refusal_arrives_with_its_code_and_text) {
    start();
    const auto refused = ask("POST", "/v1/storages/bad/stop");
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::busy);
    EXPECT_EQ(refused.error().text, "bad is in use; stop it first");
    const std::string http = raw("DELETE /v1/exports/bad HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(http.starts_with("HTTP/1.1 409 ")) << http;
    EXPECT_NE(http.find(R"({"error":{"code":"busy","text":"bad is in use; stop it first"}})"),
              std::string::npos);
}

TEST_F(Api, bad_requests_are_refused_and_reach_nobody) {
    start();
    const auto status = [&](std::string_view method, const std::string& target,
                            std::string body = {}) {
        const auto answer = ask(method, target, std::move(body));
        EXPECT_FALSE(answer.has_value()) << target;
        return answer.error();
    };
    EXPECT_EQ(status("GET", "/").code, ErrorCode::not_found);
    EXPECT_EQ(status("POST", "/v1/storages/v/start", R"({"forse":true})").text,
              "forse is not known here; send force, keep");
    EXPECT_EQ(status("POST", "/v1/storages/v/start", R"({"force":1})").code, ErrorCode::invalid);
    EXPECT_EQ(status("POST", "/v1/storages/v/verify", "[]").code, ErrorCode::invalid);
    EXPECT_EQ(status("POST", "/v1/storages/v/resync", "{}").code, ErrorCode::invalid);
    EXPECT_EQ(status("POST", "/v1/storages/v/resync", R"({"size":0})").code, ErrorCode::invalid);
    EXPECT_EQ(status("DELETE", "/v1/storages/v/nodes", "{}").code, ErrorCode::invalid);
    EXPECT_EQ(status("GET", "/v1/nothing").code, ErrorCode::not_found);
    EXPECT_EQ(status("GET", "/v1/status/").code, ErrorCode::not_found);
    EXPECT_EQ(status("DELETE", "/v1/status").text, "DELETE can't be done with this path, only GET");
    EXPECT_EQ(status("PUT", "/v1/storages", "{}").text,
              "PUT can't be done with this path, only GET, POST");
    EXPECT_EQ(status("POST", "/v1/storages", "{").code, ErrorCode::invalid);
    EXPECT_EQ(status("POST", "/v1/storages", "[]").code, ErrorCode::invalid);
    EXPECT_EQ(status("POST", "/v1/storages", "").code, ErrorCode::invalid);
    EXPECT_NE(status("POST", "/v1/storages", R"({"nmae":"v"})").text.find("did you mean 'name'"),
              std::string::npos);
    EXPECT_EQ(status("POST", "/v1/storages",
                     R"({"name":"v","algorithm":"a","nodes":["L: /d"],"start":"yes"})")
                  .text,
              "start is a string; send true or false, or leave it out");
    EXPECT_EQ(status("POST", "/v1/storages/v/nodes", "{}").code, ErrorCode::invalid);
    EXPECT_EQ(status("POST", "/v1/algorithms", R"({"file":"stripe.so"})").code, ErrorCode::invalid);
    EXPECT_EQ(status("POST", "/v1/exports", std::string(2 << 20, 'x')).code, ErrorCode::overflow);
    EXPECT_EQ(status("GET", "/" + std::string(5000, 'x')).code, ErrorCode::not_found);
    EXPECT_EQ(operations.begun, 0);
}

TEST_F(Api, garbage_instead_of_http_is_no_crash) {
    start();
    for (const std::string& text :
         {std::string("\r\n\r\n"), std::string("GET"), std::string(100'000, 'A'),
          std::string("\0\xff\x16\x03\x01", 5), std::string("GET / HTTP/9.9\r\n\r\n"),
          "GET /v1/status HTTP/1.1\r\nX: " + std::string(20'000, 'y') + "\r\n\r\n",
          std::string("POST /v1/exports HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"),
          std::string("POST /v1/exports HTTP/1.1\r\nContent-Length: -1\r\n\r\n{"),
          std::string("POST /v1/exports HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
          std::string("POST /v1/exports HTTP/1.1\r\nContent-Type: multipart/form-data; "
                      "boundary=x\r\nContent-Length: 1\r\n\r\n{")}) {
        const std::string answer = raw(text);
        EXPECT_TRUE(answer.empty() || answer.starts_with("HTTP/1.1 4")) << text << "\n" << answer;
    }
    EXPECT_TRUE(ask("GET", "/v1/status").has_value());
}

TEST_F(Api, chunks_without_end_take_no_memory) {
    start(
        {.threads = 2, .operation_max = 60s, .http = {.body_bytes_max = 1000, .transfer_max = 5s}});
    const std::string chunk = "400\r\n" + std::string(1024, '{') + "\r\n";
    std::string text = "POST /v1/exports HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 4; ++i) text += chunk;
    EXPECT_TRUE(raw(text + "0\r\n\r\n").starts_with("HTTP/1.1 413 "));
    for (int i = 0; i < 1000; ++i) text += chunk;
    const Descriptor socket = connect_to_daemon(path).value();
    while (::send(socket.number(), text.data(), text.size(), MSG_NOSIGNAL) > 0) {
    }
    EXPECT_TRUE(ask("GET", "/v1/status").has_value()) << "it closed the other and goes on";
}

TEST_F(Api, a_request_without_body_need_not_say_its_length) {
    start();
    const std::string answer = raw("POST /v1/storages/v/start HTTP/1.1\r\n\r\n", false);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 ")) << answer;
}

TEST_F(Api, an_operation_that_takes_too_long_is_answered_with_504) {
    start({.threads = 2, .operation_max = 100ms, .http = {}});
    const auto answer = ask("POST", "/v1/storages/slow/start");
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().code, ErrorCode::timed_out);
    EXPECT_EQ(answer.error().text,
              "it did not end within 0.1 s and goes on in the daemon; see how it ends with 'dst "
              "status'");
}

TEST_F(Api, a_client_that_sends_half_a_request_is_let_go) {
    start({.threads = 1,
           .operation_max = 1s,
           .http = {.body_bytes_max = 1000, .transfer_max = 200ms}});
    const Descriptor first = connect_to_daemon(path).value();
    ASSERT_EQ(::send(first.number(), "GET /v1", 7, MSG_NOSIGNAL), 7);
    EXPECT_TRUE(ask("GET", "/v1/status").has_value()) << "the one thread is free again";
}

TEST_F(Api, stopping_is_prompt_while_clients_hang) {
    start();
    std::vector<Descriptor> silent;
    silent.reserve(20);
    for (int i = 0; i < 20; ++i) silent.push_back(connect_to_daemon(path).value());
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(::send(silent[static_cast<std::size_t>(i)].number(), "GET", 3, MSG_NOSIGNAL), 3);
    }
    std::this_thread::sleep_for(20ms);
    const auto before = Steady::now();
    server->stop();
    EXPECT_LT(Steady::now() - before, 1s);
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_EQ(ask("GET", "/v1/status").error().code, ErrorCode::not_found);
}

TEST_F(Api, stopping_is_prompt_while_an_operation_never_ends) {
    start();
    std::thread client([&] { EXPECT_FALSE(ask("POST", "/v1/storages/slow/stop").has_value()); });
    while (operations.begun == 0) std::this_thread::sleep_for(1ms);
    const auto before = Steady::now();
    server->stop();
    EXPECT_LT(Steady::now() - before, 1s);
    client.join();
}

TEST_F(Api, who_waits_learns_that_the_reactor_ended) {
    start();
    reactor->pause();
    Outcome<std::string> never_begun;
    std::thread client([&] { never_begun = ask("POST", "/v1/storages/v/stop"); });
    std::this_thread::sleep_for(50ms);
    const auto before = Steady::now();
    reactor.reset();
    client.join();
    EXPECT_LT(Steady::now() - before, 1s);
    ASSERT_FALSE(never_begun.has_value());
    EXPECT_EQ(never_begun.error().code, ErrorCode::shutting_down);
}

TEST_F(Api, only_the_owner_may_connect) {
    start();
    struct stat status{};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(Api, the_socket_of_a_living_daemon_is_refused) {
    start();
    const auto second = ApiServer::start(path, operations, reactor->spawner());
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, ErrorCode::busy);
    EXPECT_NE(second.error().text.find("(process " + std::to_string(::getpid()) + ")"),
              std::string::npos)
        << second.error().text;
    EXPECT_TRUE(ask("GET", "/v1/status").has_value());
}

TEST_F(Api, the_socket_of_a_dead_daemon_is_replaced) {
    start();
    server.reset();
    {
        // As a kill leaves it: bound once, nobody listens.
        auto left = ListeningSocket::open(path).value();
        std::filesystem::rename(path, path + ".kept");
        left.close();
        std::filesystem::rename(path + ".kept", path);
    }
    ASSERT_TRUE(std::filesystem::exists(path));
    start();
    EXPECT_TRUE(ask("GET", "/v1/status").has_value());
}

TEST_F(Api, what_is_not_a_socket_is_not_replaced) {
    std::ofstream(path) << "precious";
    const auto started = ApiServer::start(path, operations, reactor->spawner());
    ASSERT_FALSE(started.has_value());
    EXPECT_NE(started.error().text.find("move it away"), std::string::npos);
    EXPECT_EQ(std::filesystem::file_size(path), 8U);
}

TEST_F(Api, a_path_that_linux_can_not_take_is_refused) {
    const auto started =
        ApiServer::start(folder + "/" + std::string(200, 'x'), operations, reactor->spawner());
    ASSERT_FALSE(started.has_value());
    EXPECT_NE(started.error().text.find("shorter run_dir"), std::string::npos);
    EXPECT_FALSE(ApiServer::start(folder + "/none/dst.sock", operations, reactor->spawner()));
}

TEST_F(Api, nobody_at_the_socket_is_said_with_what_to_do) {
    const auto answer = ask("GET", "/v1/status");
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().text, "no daemon answers at " + path +
                                       ": No such file or directory; start it with 'dst "
                                       "daemon', or say which one with --socket PATH");
}

TEST_F(Api, many_clients_at_once_are_all_answered) {
    start();
    std::atomic<int> answered = 0;
    std::vector<std::thread> clients;
    clients.reserve(16);
    for (int i = 0; i < 16; ++i) {
        clients.emplace_back([&] {
            for (int k = 0; k < 20; ++k) answered += ask("GET", "/v1/status").has_value() ? 1 : 0;
        });
    }
    for (auto& client : clients) client.join();
    EXPECT_EQ(answered, 320);
}

}  // namespace
}  // namespace dst::control
