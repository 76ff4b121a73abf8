#include "control/api_server_http.h"

#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace dst::control {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

// More of a body than is kept, so that the client is told that it was too long instead of being
// cut off while it sends.
constexpr std::size_t kReadFactor = 8;
constexpr std::size_t kPathMax = 1024;

/// The library's view of the socket: with a deadline, a limit, and an end when the daemon stops.
class SocketStream final : public httplib::Stream {
  public:
    SocketStream(int socket, int stop, HttpConnections::Limits limits)
        : socket_(socket),
          stop_(stop),
          left_(limits.body_bytes_max * kReadFactor),
          transfer_max_(limits.transfer_max),
          deadline_(std::chrono::steady_clock::now() + limits.transfer_max) {}

    bool is_readable() const override { return true; }
    bool is_writable() const override { return true; }
    void get_remote_ip_and_port(std::string&, int&) const override {}
    void get_local_ip_and_port(std::string&, int&) const override {}
    socket_t socket() const override { return socket_; }

    ssize_t read(char* into, size_t size) override {
        if (first_ == last_ && !fill()) return -1;
        const std::size_t taken = std::min(size, last_ - first_);
        std::copy_n(buffer_.data() + first_, taken, into);
        first_ += taken;
        return static_cast<ssize_t>(taken);
    }

    ssize_t write(const char* from, size_t size) override {
        if (!is_answering_) {
            is_answering_ = true;
            deadline_ = std::chrono::steady_clock::now() + transfer_max_;
        }
        while (wait(POLLOUT)) {
            const ssize_t sent = ::send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent >= 0 || !is_transient()) return sent;
        }
        return -1;
    }

  private:
    static bool is_transient() { return errno == EAGAIN || errno == EINTR; }

    /// False at the end of the stream and of our patience.
    bool fill() {
        while (left_ > 0 && wait(POLLIN)) {
            const std::size_t wanted = std::min(left_, buffer_.size());
            const ssize_t received = ::recv(socket_, buffer_.data(), wanted, MSG_DONTWAIT);
            if (received < 0 && is_transient()) continue;
            if (received <= 0) return false;
            first_ = 0;
            last_ = static_cast<std::size_t>(received);
            left_ -= last_;
            return true;
        }
        return false;
    }

    /// True once the socket is ready; false if the daemon stops or the time is up.
    bool wait(short events) const {
        while (true) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(
                deadline_ - std::chrono::steady_clock::now());
            if (left.count() <= 0) return false;
            std::array<pollfd, 2> waits = {pollfd{socket_, events, 0}, pollfd{stop_, POLLIN, 0}};
            const int ready = ::poll(waits.data(), waits.size(), static_cast<int>(left.count()));
            if (ready < 0 && errno == EINTR) continue;
            return ready > 0 && waits[1].revents == 0;
        }
    }

    int socket_;
    int stop_;
    std::size_t left_;  // bytes that may still be read
    std::chrono::milliseconds transfer_max_;
    SteadyTime deadline_;
    bool is_answering_ = false;
    std::array<char, 4096> buffer_{};
    std::size_t first_ = 0;
    std::size_t last_ = 0;
};

/// The library's view of a request that has come in as a whole.
class TextStream final : public httplib::Stream {
  public:
    explicit TextStream(const std::string& request) : request_(request) {}

    bool is_readable() const override { return true; }
    bool is_writable() const override { return true; }
    void get_remote_ip_and_port(std::string&, int&) const override {}
    void get_local_ip_and_port(std::string&, int&) const override {}
    socket_t socket() const override { return INVALID_SOCKET; }
    ssize_t read(char* into, size_t size) override {
        const std::size_t taken = request_.copy(into, size, at_);
        at_ += taken;
        return static_cast<ssize_t>(taken);
    }
    ssize_t write(const char* from, size_t size) override {
        answer.append(from, size);
        return static_cast<ssize_t>(size);
    }

    std::string answer;

  private:
    const std::string& request_;
    std::size_t at_ = 0;
};

void set_answer(httplib::Response& response, const ApiAnswer& answer) {
    response.status = answer.status;
    response.set_content(answer.body.ends_with('\n') ? answer.body : answer.body + "\n",
                         answer.type);
}

}  // namespace

class HttpConnections::Server final : public httplib::Server {
  public:
    Server(Answer answer, Limits limits) : answer_(std::move(answer)), limits_(limits) {
        set_pre_routing_handler([](const httplib::Request& request, httplib::Response& response) {
            // The library's patterns recurse for each character.
            if (request.path.size() <= kPathMax) return HandlerResponse::Unhandled;
            set_answer(response, refusal(404, "there is no such path in the API"));
            return HandlerResponse::Handled;
        });
        const auto without_body = [this](const auto& request, auto& response) {
            set_answer(response, answer_({request.method, request.path, {}}));
        };
        const auto with_body = [this](const auto& request, auto& response, const auto& reader) {
            set_answer(response, answer_with_body(request, reader));
        };
        Get(".*", without_body);
        Options(".*", without_body);
        Post(".*", with_body);
        Put(".*", with_body);
        Patch(".*", with_body);
        Delete(".*", with_body);
        set_error_handler([](const httplib::Request&, httplib::Response& response) {
            if (!response.body.empty()) return;
            set_answer(response, refusal(response.status, "this is no request that is understood"));
        });
        set_payload_max_length(limits_.body_bytes_max);
    }

    void serve(int connection, int stop) {
        SocketStream stream(connection, stop, limits_);
        bool is_closed = false;
        process_request(stream, true, is_closed, {});
        ::shutdown(connection, SHUT_RDWR);
    }

    std::string answer(const std::string& request) {
        TextStream stream(request);
        bool is_closed = false;
        process_request(stream, true, is_closed, {});
        return std::move(stream.answer);
    }

  private:
    ApiAnswer answer_with_body(const httplib::Request& request,
                               const httplib::ContentReader& reader) {
        if (request.is_multipart_form_data()) return refusal(415, "the body is no JSON; send JSON");
        ApiRequest out{request.method, request.path, {}};
        const bool has_body =
            request.has_header("Content-Length") || request.has_header("Transfer-Encoding");
        bool is_too_long = false;
        if (has_body && !reader([&](const char* bytes, std::size_t size) {
                is_too_long = is_too_long || size > limits_.body_bytes_max - out.body.size();
                if (!is_too_long) out.body.append(bytes, size);
                return true;
            })) {
            is_too_long = is_too_long || content_length(request) > limits_.body_bytes_max;
            if (!is_too_long) return refusal(400, "the body ended early; send it whole");
        }
        if (is_too_long) {
            return refusal(413,
                           "the body is longer than 1 MiB, and no request needs that; send "
                           "less");
        }
        return answer_(out);
    }

    static std::size_t content_length(const httplib::Request& request) {
        return std::strtoull(request.get_header_value("Content-Length").c_str(), nullptr, 10);
    }

    Answer answer_;
    Limits limits_;
};

HttpConnections::HttpConnections(Answer answer, Limits limits)
    : server_(std::make_unique<Server>(std::move(answer), limits)) {}
HttpConnections::~HttpConnections() = default;

std::string HttpConnections::answer(const std::string& request) { return server_->answer(request); }

void HttpConnections::serve(int connection, int stop) { server_->serve(connection, stop); }

}  // namespace dst::control
