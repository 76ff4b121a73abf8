#include "control/api_client.h"

#include <fmt/format.h>
#include <httplib.h>
#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <optional>
#include <utility>

#include "control/api_server_answer.h"
#include "control/api_server_socket.h"

namespace dst::control {
namespace {

// Longer than the server's patience with an operation, so that its reason arrives.
constexpr auto kAnswerMax = std::chrono::seconds(70);

/// The library writes without MSG_NOSIGNAL: a daemon that ends meanwhile must not end us, too.
class BrokenPipesHeld {
  public:
    BrokenPipesHeld() {
        ::sigemptyset(&pipe_);
        ::sigaddset(&pipe_, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    }
    BrokenPipesHeld(const BrokenPipesHeld&) = delete;
    BrokenPipesHeld& operator=(const BrokenPipesHeld&) = delete;
    ~BrokenPipesHeld() {
        const timespec now{};
        ::sigtimedwait(&pipe_, nullptr, &now);  // the one that was held back
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

  private:
    sigset_t pipe_{};
    sigset_t before_{};
};

/// The library's client over a unix socket.
class UnixClient final : public httplib::ClientImpl {
  public:
    explicit UnixClient(Descriptor socket)
        : ClientImpl("localhost", 80), connected_(std::move(socket)) {
        set_read_timeout(kAnswerMax);
        set_write_timeout(kAnswerMax);
    }

  private:
    bool create_and_connect_socket(Socket& socket, httplib::Error& error) override {
        if (!connected_.is_open()) {
            error = httplib::Error::Connection;
            return false;
        }
        socket.sock = connected_.release();  // the library closes it
        return true;
    }

    Descriptor connected_;
};

}  // namespace

Outcome<std::string> ApiClient::request(std::string_view method, const std::string& path,
                                        std::string body) const {
    TRY(Descriptor socket, connect_to_daemon(socket_path_));
    UnixClient client(std::move(socket));
    httplib::Request request;
    request.method = method;
    request.path = path;
    request.headers = {{"Accept", "application/json"}};
    if (!body.empty()) request.headers.emplace("Content-Type", "application/json");
    request.body = std::move(body);
    const BrokenPipesHeld held;
    auto result = client.send(request);
    if (!result) {
        return refuse(ErrorCode::node_lost,
                      fmt::format("the daemon at {} gave no answer ({} error); see its log",
                                  socket_path_, httplib::to_string(result.error())));
    }
    while (result->body.ends_with('\n')) result->body.pop_back();
    if (result->status >= 200 && result->status < 300) return std::move(result->body);
    return std::unexpected(read_refusal(result->status, result->body));
}

Outcome<Status> ApiClient::status() const {
    TRY(const std::string body, request("GET", "/v1/status"));
    return parse_status(body);
}

}  // namespace dst::control
