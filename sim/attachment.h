// Attachment: a device as somebody inside of its daemon has it, who is no session of an export.
//
// He knows one instance. When the device has become another one, what he has changed and not
// flushed may be lost, so every flush fails from then on (design §4).
#pragma once

#include <cstdint>

#include "block/device.h"

namespace dst::sim {

class Attachment final : public block::Device {
  public:
    /// `device` outlives it.
    explicit Attachment(block::Device& device) : device_(device), instance_(device.instance()) {}

    [[nodiscard]] block::Geometry geometry() const override { return device_.geometry(); }
    [[nodiscard]] std::uint64_t instance() const override { return instance_; }
    [[nodiscard]] std::uint64_t identity() const override { return device_.identity(); }

    async::Task<Result<>> execute(block::Request& request) override {
        return request.op == block::Op::flush ? flush(request) : device_.execute(request);
    }

    /// What was lost so far is known: flushes speak of what comes now.
    void renew() { instance_ = device_.instance(); }

  private:
    async::Task<Result<>> flush(block::Request& request) {
        const Result<> done = co_await device_.execute(request);
        if (done && device_.instance() != instance_)
            co_return fail(ErrorCode::io_error, "changes were lost before");
        co_return done;
    }

    block::Device& device_;
    std::uint64_t instance_;
};

}  // namespace dst::sim
