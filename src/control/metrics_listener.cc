#include "control/metrics_listener.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "base/check.h"
#include "base/log.h"
#include "control/metrics.h"

namespace dst::control {

MetricsListener::MetricsListener(io::World world, std::function<std::string()> page)
    : world_(world),
      page_(std::move(page)),
      http_([this](const ApiRequest& request) { return answer(request); }, {}) {}

MetricsListener::~MetricsListener() { CHECK(scope_.empty()); }

ApiAnswer MetricsListener::answer(const ApiRequest& request) const {
    if (request.path != "/metrics") return refusal(404, "there is only /metrics here");
    if (request.method != "GET") return refusal(405, "/metrics can only be read: GET");
    return {200, page_(), std::string(kPrometheusType)};
}

async::Task<Outcome<>> MetricsListener::listen(io::Endpoint endpoint) {
    CO_TRY(listener_, co_await world_.network.listen(endpoint));
    log::info("metrics at http://{}/metrics", io::to_string(listener_->endpoint()));
    scope_.spawn(accept_all());
    co_return Outcome<>{};
}

async::Task<void> MetricsListener::accept_all() {
    while (!is_closing_) {
        auto stream = co_await listener_->accept();
        if (!stream && stream.error().code == ErrorCode::cancelled) co_return;
        if (stream && open_.size() < kConnectionsMax) scope_.spawn(serve(std::move(*stream)));
    }
}

async::Task<void> MetricsListener::serve(std::unique_ptr<io::Stream> stream) {
    open_.push_back(stream.get());
    auto late = [&stream] { stream->shutdown(); };
    io::Deadline<decltype(late)> timer(late);
    timer.arm(world_.clock, world_.clock.now() + kTime);
    if (is_closing_) stream->shutdown();

    std::string request;
    std::array<std::byte, 4096> piece{};
    while (request.find("\r\n\r\n") == std::string::npos && request.size() < kRequestMax) {
        const io::Slice into(piece.data(), piece.size());
        const auto received = co_await stream->receive(std::span(&into, 1));
        if (!received || *received == 0) break;
        request.append(reinterpret_cast<const char*>(piece.data()), *received);
    }
    if (!request.empty()) {
        const std::string answer = http_.answer(request);
        // Who has gone does not miss it.
        (void)co_await io::send_all(*stream, std::as_bytes(std::span(answer)));
    }
    stream->shutdown();
    std::erase(open_, stream.get());
}

async::Task<void> MetricsListener::close() {
    is_closing_ = true;
    if (listener_) listener_->close();
    for (io::Stream* const stream : open_) stream->shutdown();
    co_await scope_.join();
    listener_.reset();
}

}  // namespace dst::control
