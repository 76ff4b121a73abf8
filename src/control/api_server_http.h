// HTTP for one connection at a time: reads a request, has it answered, writes the answer.
//
// The protocol is the library's (cpp-httplib); the socket is ours, so that the daemon can stop at
// once and one client can take neither memory nor a thread for long. One request a connection.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "control/api_server_answer.h"

namespace dst::control {

class HttpConnections {
  public:
    using Answer = std::function<ApiAnswer(const ApiRequest& request)>;

    struct Limits {
        std::size_t body_bytes_max = 1 << 20;
        /// For a whole request to arrive, and for its answer to be taken.
        std::chrono::milliseconds transfer_max = std::chrono::seconds(5);
    };

    HttpConnections(Answer answer, Limits limits);
    ~HttpConnections();

    /// Serves the connected socket `connection`, which stays the caller's. Returns soon after
    /// `stop` becomes readable, wherever it is, but waits for `answer`. Any number of threads.
    void serve(int connection, int stop);
    /// The same for a request that is there as a whole; its answer, head and all. Does not block
    /// but for `answer`.
    [[nodiscard]] std::string answer(const std::string& request);

  private:
    class Server;
    std::unique_ptr<Server> server_;
};

}  // namespace dst::control
