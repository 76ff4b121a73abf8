// `metrics_listen`: the page of metrics over HTTP, for whoever may connect there, and nothing else.
//
// On the reactor, over the seam. Bounded: kConnectionsMax at a time, kRequestMax bytes, kTime.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/scope.h"
#include "base/result.h"
#include "control/api_server_http.h"
#include "io/world.h"

namespace dst::control {

class MetricsListener {
  public:
    static constexpr std::size_t kConnectionsMax = 16;
    static constexpr std::size_t kRequestMax = 16 << 10;
    /// For a request to come in, and for its answer to be taken.
    static constexpr std::chrono::seconds kTime{10};

    /// `page` makes the page; it and the world outlive this.
    MetricsListener(io::World world, std::function<std::string()> page);
    /// After `close`, if it ever listened.
    ~MetricsListener();

    /// Suspends.
    async::Task<Outcome<>> listen(io::Endpoint endpoint);
    /// Ends all connections. Suspends.
    async::Task<void> close();

  private:
    async::Task<void> accept_all();
    async::Task<void> serve(std::unique_ptr<io::Stream> stream);
    [[nodiscard]] ApiAnswer answer(const ApiRequest& request) const;

    io::World world_;
    std::function<std::string()> page_;
    HttpConnections http_;
    std::unique_ptr<io::Listener> listener_;
    bool is_closing_ = false;
    std::vector<io::Stream*> open_;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace dst::control
