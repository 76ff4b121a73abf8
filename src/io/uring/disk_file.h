// DiskFile: an open file or block device, read and written through a reactor's io_uring.
#pragma once

#include "io/file.h"
#include "io/uring/medium.h"
#include "io/uring/reactor.h"

namespace dst::io::uring {

class DiskFile final : public File {
  public:
    DiskFile(Reactor& reactor, Medium medium, FileOptions options)
        : reactor_(reactor), medium_(std::move(medium)), options_(options) {}
    /// Closes, and so unlocks. (A block device is closed on a helper thread, some time after: the
    /// kernel writes its page cache back then.)
    ~DiskFile() override;

    [[nodiscard]] const FileInfo& info() const override { return medium_.info; }
    async::Task<Result<>> read(ByteOffset at, std::span<std::byte> into) override;
    async::Task<Result<>> write(ByteOffset at, std::span<const std::byte> from,
                                bool durable) override;
    async::Task<Result<>> sync() override;
    void accept_losses() override { losses_accepted_ = losses_; }
    async::Task<Result<>> discard(ByteOffset at, ByteCount count) override;
    async::Task<Result<>> zero(ByteOffset at, ByteCount count, bool may_unmap) override;
    async::Task<Result<FileExtent>> extent(ByteOffset at, ByteCount count) override;
    async::Task<Result<ByteCount>> refresh_size() override;
    [[nodiscard]] const FileTimes* times() const override { return &times_; }

  private:
    class InUse;
    class Timed;

    [[nodiscard]] Result<> check_transfer(ByteOffset at, std::span<const std::byte> bytes) const;
    [[nodiscard]] Result<> check_change(ByteOffset at, ByteCount count) const;
    [[nodiscard]] int fd() const { return medium_.fd.get(); }
    async::Task<int> allocate(int mode, ByteOffset at, ByteCount count);
    async::Task<Result<>> discard_device(ByteOffset at, ByteCount count);
    void note_lost_writes(int error);

    Reactor& reactor_;
    Medium medium_;
    const FileOptions options_;
    std::size_t calls_ = 0;
    FileTimes times_;
    std::uint64_t losses_ = 0;  // how often the kernel has dropped what it could not write
    std::uint64_t losses_accepted_ = 0;
};

}  // namespace dst::io::uring
