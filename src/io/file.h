// The seam, part two: files and block devices, and the few small files of the daemon itself.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "async/task.h"
#include "base/latency.h"
#include "base/result.h"
#include "base/units.h"

namespace dst::io {

enum class CacheMode : std::uint8_t { direct, buffered };

struct FileOptions {
    bool read_only = false;
    CacheMode cache = CacheMode::direct;
    /// With `read_only`: takes no lock, so a file in use can be looked at while it changes.
    bool looks_on = false;
};

struct FileInfo {
    ByteCount size;
    /// Smallest unit of reads and writes, in bytes; a power of two, at least 512.
    std::uint32_t block_bytes = 512;
    bool is_block_device = false;
    /// Ranges can be unmapped / zeroed faster than by writing zeroes.
    bool can_discard = false;
    bool can_zero_fast = false;
    /// Which medium this is: stays the same over restarts and differs for another disk or file.
    std::uint64_t identity = 0;
    /// Requests bypass the page cache: asked for, and the medium can do it.
    bool is_direct = false;
};

/// What is known of `count` bytes from an offset on (NBD `base:allocation`).
struct FileExtent {
    ByteCount count;
    bool hole = false;
    bool zero = false;
};

/// How long a file's calls took, from the call to the kernel's answer.
struct FileTimes {
    Latency read;
    Latency write;
    Latency sync;
};

/// An open file or block device. Requests may overlap in time; offsets, lengths and (for
/// `CacheMode::direct`) addresses are multiples of `info().block_bytes`. Every call suspends until
/// the kernel has answered. Must not be destroyed while a call is in flight.
class File {
  public:
    virtual ~File() = default;

    [[nodiscard]] virtual const FileInfo& info() const = 0;
    /// Reads all of `into`, or fails (`io_error`; beyond the end too).
    virtual async::Task<Result<>> read(ByteOffset at, std::span<std::byte> into) = 0;
    /// Writes all of `from`, or fails. `durable`: it survives a power cut once this returns.
    virtual async::Task<Result<>> write(ByteOffset at, std::span<const std::byte> from,
                                        bool durable) = 0;
    /// Makes durable whatever was answered before this call. Once it (or a durable write) has
    /// failed because the medium did, every later one fails, and each that is under way: the kernel
    /// has dropped what it could not write, and a success would hide that.
    virtual async::Task<Result<>> sync() = 0;
    /// Whoever relied on what was lost has been told: from now on `sync` speaks only of what is
    /// answered from now on.
    virtual void accept_losses() = 0;
    /// Unmaps; the content is undefined afterwards. Advisory: may do nothing.
    virtual async::Task<Result<>> discard(ByteOffset at, ByteCount count) = 0;
    /// Makes the range read as zeroes; `unsupported` if that can't be done without writing them.
    /// `may_unmap`: the space may be given back.
    virtual async::Task<Result<>> zero(ByteOffset at, ByteCount count, bool may_unmap) = 0;
    /// The extent that begins at `at`, cut at `count`.
    virtual async::Task<Result<FileExtent>> extent(ByteOffset at, ByteCount count) = 0;
    /// Asks anew how large it is (files grow); updates `info()`.
    virtual async::Task<Result<ByteCount>> refresh_size() = 0;
    /// Null if nobody measures.
    [[nodiscard]] virtual const FileTimes* times() const { return nullptr; }
};

class FileSystem {
  public:
    virtual ~FileSystem() = default;

    /// Opens and locks `path` (against every other opener through this seam, in any process;
    /// readers share). A lock in use is tried again for 2 s. Suspends.
    virtual async::Task<Outcome<std::unique_ptr<File>>> open(std::string path,
                                                             FileOptions options) = 0;
    /// The content of a small file; `not_found` if there is none. Blocks: for start-up and control.
    virtual Outcome<std::string> load(const std::string& path) = 0;
    /// Replaces a small file as a whole and durably: after a crash it has the old content or the
    /// new. Makes the folders that are missing. Blocks: for start-up and control.
    virtual Outcome<> store(const std::string& path, const std::string& content) = 0;
};

}  // namespace dst::io
