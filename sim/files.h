// Files: the file system of the seam, over the disks of a host.
#pragma once

#include <memory>
#include <string>

#include "io/file.h"
#include "sim/disk.h"

namespace dst::sim {

class Process;

class OpenFile final : public io::File {
  public:
    OpenFile(Process& process, Disk& disk, std::unique_ptr<DiskLock> lock, io::FileOptions options);
    ~OpenFile() override;

    [[nodiscard]] const io::FileInfo& info() const override { return info_; }
    async::Task<Result<>> read(ByteOffset at, std::span<std::byte> into) override;
    async::Task<Result<>> write(ByteOffset at, std::span<const std::byte> from,
                                bool durable) override;
    async::Task<Result<>> sync() override;
    void accept_losses() override;
    async::Task<Result<>> discard(ByteOffset at, ByteCount count) override;
    async::Task<Result<>> zero(ByteOffset at, ByteCount count, bool may_unmap) override;
    async::Task<Result<io::FileExtent>> extent(ByteOffset at, ByteCount count) override;
    async::Task<Result<ByteCount>> refresh_size() override;

  private:
    class InUse;

    [[nodiscard]] Result<> check_aligned(ByteOffset at, ByteCount count) const;
    [[nodiscard]] Result<> check_address(std::span<const std::byte> bytes) const;
    [[nodiscard]] Result<> check_change(ByteOffset at, ByteCount count) const;

    Process& process_;
    Disk& disk_;
    std::unique_ptr<DiskLock> lock_;
    const io::FileOptions options_;
    io::FileInfo info_;
    std::size_t calls_ = 0;
    std::uint64_t losses_ = 0;  // how often the kernel has dropped what it could not write
    std::uint64_t losses_accepted_ = 0;
};

class Files final : public io::FileSystem {
  public:
    explicit Files(Process& process) : process_(process) {}

    async::Task<Outcome<std::unique_ptr<io::File>>> open(std::string path,
                                                         io::FileOptions options) override;
    Outcome<std::string> load(const std::string& path) override;
    Outcome<> store(const std::string& path, const std::string& content) override;

  private:
    Process& process_;
};

}  // namespace dst::sim
