#include "io/net.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace dst::io {

async::Task<Result<>> send_all(Stream& stream, std::span<Slice> slices) {
    while (!slices.empty()) {
        const auto batch = slices.first(std::min(slices.size(), Stream::kSlicesMax));
        CO_TRY(auto sent, co_await stream.send(batch));
        while (!slices.empty() && sent >= slices.front().size) {
            sent -= slices.front().size;
            slices = slices.subspan(1);
        }
        if (sent > 0) {
            CHECK(!slices.empty());
            slices.front() = Slice(slices.front().data + sent, slices.front().size - sent);
        }
    }
    co_return Result<>{};
}

async::Task<Result<>> send_all(Stream& stream, std::span<const std::byte> bytes) {
    Slice slice = slice_of(bytes);
    co_return co_await send_all(stream, std::span(&slice, 1));
}

async::Task<Outcome<std::unique_ptr<Stream>>> Network::connect_unless(Endpoint endpoint,
                                                                      TimePoint deadline,
                                                                      Duration silence,
                                                                      Interrupt& interrupt) {
    if (interrupt.is_raised()) co_return refuse(ErrorCode::cancelled, "cancelled");
    co_return co_await connect(std::move(endpoint), deadline, silence);
}

}  // namespace dst::io
