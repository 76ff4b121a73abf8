// The API's server: HTTP/JSON on a unix socket that only its owner may use.
//
// Its threads wait so that the reactor need not: each takes a connection, reads one request, has
// the operation run on the reactor, and writes the answer. Bounded: 8 requests at a time, 64
// connections waiting, bodies to 1 MiB, 5 s for a request to arrive, 60 s for its operation.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "control/api_server_calls.h"
#include "control/api_server_http.h"
#include "control/api_server_routes.h"
#include "control/api_server_socket.h"
#include "control/operations.h"

namespace dst::control {

class ApiServer {
  public:
    struct Limits {
        unsigned threads = 8;
        std::chrono::milliseconds operation_max = std::chrono::seconds(60);
        HttpConnections::Limits http;
    };

    /// Listens at `socket_path` (`<run_dir>/dst.sock`; the folder exists) and serves at once.
    /// `operations` outlives what `spawn` was given. Blocks up to 2 s, if a dying daemon still
    /// holds the socket: for start-up.
    [[nodiscard]] static Outcome<std::unique_ptr<ApiServer>> start(std::string socket_path,
                                                                   Operations& operations,
                                                                   SpawnOnReactor spawn,
                                                                   Limits limits);
    [[nodiscard]] static Outcome<std::unique_ptr<ApiServer>> start(std::string socket_path,
                                                                   Operations& operations,
                                                                   SpawnOnReactor spawn) {
        return start(std::move(socket_path), operations, std::move(spawn), Limits());
    }
    ~ApiServer() { stop(); }

    /// Answers nothing more, removes the socket, joins the threads: within milliseconds, whatever
    /// clients and operations do. An operation that was begun goes on. Idempotent; not on one of
    /// its own threads.
    void stop();

  private:
    ApiServer(ListeningSocket socket, Descriptor stop, Operations& operations, SpawnOnReactor spawn,
              Limits limits);
    void work();

    ListeningSocket socket_;
    Descriptor stop_;  // readable once the server stops
    ReactorCalls calls_;
    Routes routes_;
    HttpConnections connections_;
    std::vector<std::thread> threads_;
};

/// `<run_dir>/dst.sock`
[[nodiscard]] std::string socket_path(const Config& config);

}  // namespace dst::control
