#include "io/uring/files.h"

#include <utility>

#include "io/uring/disk_file.h"
#include "io/uring/medium.h"
#include "io/uring/small_file.h"

namespace dst::io::uring {
namespace {

/// For how long a lock is tried again: the kernel releases a killed process's late.
constexpr Duration kLockPatience = std::chrono::seconds(2);
constexpr Duration kLockPause = std::chrono::milliseconds(50);

}  // namespace

async::Task<Outcome<std::unique_ptr<File>>> Files::open(std::string path, FileOptions options) {
    const TimePoint give_up = reactor_.now() + kLockPatience;
    while (true) {
        auto medium =
            co_await reactor_.offload([&path, options] { return open_medium(path, options); });
        if (medium.has_value())
            co_return std::make_unique<DiskFile>(reactor_, *std::move(medium), options);
        if (medium.error().code != ErrorCode::busy || reactor_.now() >= give_up)
            co_return std::unexpected(std::move(medium).error());
        co_await sleep_for(reactor_, kLockPause);
    }
}

Outcome<std::string> Files::load(const std::string& path) { return load_small_file(path); }

Outcome<> Files::store(const std::string& path, const std::string& content) {
    return store_small_file(path, content);
}

}  // namespace dst::io::uring
