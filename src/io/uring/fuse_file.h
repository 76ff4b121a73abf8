// FuseFile: one file, whose content somebody else has, as the kernel's FUSE shows it.
//
// Requests on the content don't go through libfuse: they are read with their header apart from
// their data, so that data lands where it can go on without a copy, and are answered in any order.
// All else (attributes, opening) libfuse decodes, and is answered at once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "async/task.h"
#include "async/wait.h"
#include "base/result.h"
#include "base/units.h"
#include "io/uring/fuse_mount.h"

namespace dst::io::uring {

/// One request of the kernel on the content.
struct FuseCall {
    enum class Op : std::uint8_t { read, write, sync, punch_hole, zero_range };
    Op op = Op::read;
    std::uint64_t id = 0;
    ByteOffset at{};
    ByteCount count{};
};

/// Whoever has the content.
class FuseContent {
  public:
    virtual ~FuseContent() = default;
    [[nodiscard]] virtual ByteCount size() const = 0;
    /// Where the data of the next request goes: `FuseFile::kDataMaxBytes`; or nothing, then nothing
    /// is received until `FuseFile::resume`.
    [[nodiscard]] virtual std::span<std::byte> room() = 0;
    /// To be answered through the file, once. `data` is of a write, the front of `room()`.
    virtual void take(const FuseCall& call, std::span<std::byte> data) = 0;
    /// Whoever waits for that answer got a signal.
    virtual void interrupt(std::uint64_t id) = 0;
};

class FuseFile {
  public:
    /// The most that a request carries.
    static constexpr std::size_t kDataMaxBytes = 1 << 20;
    /// What the kernel keeps under way by itself: of who waits for nothing (aio, loop, read-ahead).
    static constexpr unsigned kBackgroundMax = 256;

    /// Why this host can't show files; empty: it can.
    [[nodiscard]] static std::string obstacle();
    /// Mounts at `path`, whose folder exists (fuse_mount.h). `content` outlives it. Blocks,
    /// shortly.
    static Outcome<std::unique_ptr<FuseFile>> open(Reactor& reactor, const std::string& path,
                                                   FuseContent& content, bool read_only);
    ~FuseFile();
    FuseFile(const FuseFile&) = delete;
    FuseFile& operator=(const FuseFile&) = delete;

    // As of a FuseMount.
    async::Task<void> serve() { return mount_->serve(); }
    void stop() { mount_->stop(); }
    void close();
    /// There is room again.
    void resume() { mount_->resume(); }

    [[nodiscard]] const std::string& path() const { return mount_->path(); }
    /// How often it is open.
    [[nodiscard]] std::size_t opens() const { return opens_; }
    /// Woken whenever it is open once less. The kernel tells some time after a close(2).
    [[nodiscard]] async::WaitQueue& closings() { return closings_; }

    /// Answers a call with an errno value, or 0. After `close`: nothing happens.
    void answer(const FuseCall& call, int error);
    /// Answers a read.
    void answer(const FuseCall& call, std::span<const std::byte> data);

  private:
    struct Calls;
    FuseFile(FuseContent& content, bool read_only);
    [[nodiscard]] int receive(fuse_session* session);
    [[nodiscard]] bool take(std::size_t size, std::span<std::byte> room);
    void pass_to_libfuse(fuse_session* session, std::size_t size, std::span<std::byte> room);
    void send(std::uint64_t id, int error, std::span<const std::byte> data);
    void drop_cache();

    FuseContent& content_;
    const bool read_only_;
    std::unique_ptr<FuseMount> mount_;
    fuse_session* session_ = nullptr;
    int fd_ = -1;  // of the session
    /// In front of data: both headers of a write.
    static constexpr std::size_t kHeadBytes = 80;
    alignas(8) std::array<std::byte, kHeadBytes> head_{};
    bool is_coherent_ = false;
    std::size_t opens_ = 0;
    async::WaitQueue closings_;
};

}  // namespace dst::io::uring
