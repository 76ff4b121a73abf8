#include "algorithm/parts.h"

namespace dst::algorithm {

void Parts::start(block::Device& device, const block::Request& part) {
    running_.spawn(run(*this, device, part, started_++));
}

void Parts::fail(Error error) { note(started_++, error); }

async::Task<Result<>> Parts::finish() {
    co_await running_.join();
    if (failed_place_ < started_) co_return std::unexpected(error_);
    co_return Result<>{};
}

async::Task<void> Parts::run(Parts& parts, block::Device& device, block::Request part,
                             std::size_t place) {
    const Result<> result = co_await device.execute(part);
    if (!result.has_value()) parts.note(place, result.error());
}

void Parts::note(std::size_t place, Error error) {
    if (place >= failed_place_) return;
    failed_place_ = place;
    error_ = error;
}

}  // namespace dst::algorithm
