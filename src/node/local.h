// Local nodes: a file, a block device, or a piece of memory, as a device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/device.h"
#include "io/file.h"
#include "io/world.h"

namespace dst::node {

struct LocalSettings {
    io::CacheMode cache = io::CacheMode::direct;
    bool read_only = false;
    /// Called when it has lost changes, between coroutines; must not suspend or destroy the device.
    std::function<void()> on_loss{};
};

/// A file or block device. One at a time may have it open (the seam's lock). When a flush fails it
/// is another instance from then on, which has lost nothing yet: who knows what was not flushed
/// writes it again, and may flush that.
class FileDevice final : public block::Device {
  public:
    /// Takes the open file. `instance` is not 0.
    FileDevice(std::unique_ptr<io::File> file, LocalSettings settings, std::uint64_t instance);

    [[nodiscard]] block::Geometry geometry() const override;
    async::Task<Result<>> execute(block::Request& request) override;
    async::Task<Result<>> refresh_size() override;
    [[nodiscard]] std::uint64_t instance() const override { return instance_; }
    [[nodiscard]] std::uint64_t identity() const override { return file_->info().identity; }
    [[nodiscard]] io::File& file() { return *file_; }
    [[nodiscard]] const io::File& file() const { return *file_; }

  private:
    async::Task<Result<>> flush();
    async::Task<Result<>> write_zeroes(const block::Request& request);
    async::Task<Result<>> block_status(const block::Request& request);

    std::unique_ptr<io::File> file_;
    const LocalSettings settings_;
    std::uint64_t instance_;
};

/// `memory:SIZE`: gone with the process. Sparse; answers at once, never suspends.
class MemoryDevice final : public block::Device {
  public:
    /// `instance` is not 0; it is the identity, too: another process has another content.
    MemoryDevice(SectorCount size, std::uint64_t instance);
    ~MemoryDevice() override;

    [[nodiscard]] block::Geometry geometry() const override;
    async::Task<Result<>> execute(block::Request& request) override;
    [[nodiscard]] std::uint64_t instance() const override { return instance_; }
    [[nodiscard]] std::uint64_t identity() const override { return instance_; }

  private:
    using Chunk = std::unique_ptr<std::byte[]>;
    Result<> write(const block::Request& request);
    void read(const block::Request& request) const;
    Result<> zero(const block::Request& request);
    std::byte* chunk_at(std::uint64_t at);
    void block_status(const block::Request& request) const;

    SectorCount size_;
    std::uint64_t instance_;
    std::vector<Chunk> chunks_;
};

/// Opens a path or `memory:SIZE` (bytes given by the caller in `memory_bytes` for the latter).
/// Refuses, with a text that names it, what is missing, in use or of no size. Suspends.
async::Task<Outcome<std::unique_ptr<block::Device>>> open_file(io::World& world, std::string path,
                                                               LocalSettings settings);
Outcome<std::unique_ptr<block::Device>> open_memory(io::World& world, ByteCount size);

}  // namespace dst::node
