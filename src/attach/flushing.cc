#include "attach/flushing.h"

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "async/wait.h"

namespace dst::attach {
namespace {

/// Shared with the task, which may outlast who waits.
struct Flush {
    async::Event ended;
    std::optional<Result<>> result;
};

async::Task<void> flush(block::Device& device, std::shared_ptr<Flush> shared) {
    block::Request request{.op = block::Op::flush};
    shared->result = co_await device.execute(request);
    shared->ended.set();
}

}  // namespace

async::Task<Outcome<>> flush_until(block::Device& device, io::Clock& clock, io::TimePoint deadline,
                                   async::Scope& tasks) {
    const auto shared = std::make_shared<Flush>();
    tasks.spawn(flush(device, shared));
    while (!shared->ended.is_set())
        if (!co_await io::wait_until(clock, shared->ended.waiters(), deadline)) break;
    if (!shared->result)
        co_return refuse(ErrorCode::timed_out, "its requests wait: see 'dst status' for whom");
    if (!*shared->result)
        co_return refuse(shared->result->error().code,
                         fmt::format("what was written last may not be durable: {}",
                                     to_string(shared->result->error().code)));
    co_return Outcome<>{};
}

std::unexpected<Problem> busy(const std::string& path, std::size_t waiting) {
    return refuse(
        ErrorCode::busy,
        fmt::format("{} has requests that wait ({}): try again, or --force", path, waiting));
}

}  // namespace dst::attach
