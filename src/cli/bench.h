// `dst bench`: a load generator on the project's own client.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/units.h"

namespace dst::cli {

enum class BenchOperation : std::uint8_t { read, write, mixed };

struct BenchOptions {
    /// nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH; checked by whoever connects.
    std::string uri;
    BenchOperation operation = BenchOperation::read;
    /// Of one request: whole sectors, 512 bytes to 32 MiB.
    ByteCount size = ByteCount(4096);
    /// Requests in flight on each connection.
    unsigned depth = 64;
    unsigned connections = 1;
    std::chrono::milliseconds duration = std::chrono::seconds(5);
    /// Of `mixed`: how many of a hundred requests are reads.
    unsigned read_percent = 70;
    /// One request behind the other instead of anywhere.
    bool sequential = false;
    /// Uses only this much from the front of the export.
    std::optional<ByteCount> span;
    /// Reads back what was written, and compares.
    bool verify = false;
    /// Checksums of frames, where the server has our private option.
    bool checksum = true;
    /// How long to poll before sleeping.
    unsigned spin_us = 0;
    std::uint64_t seed = 1;
    bool json = false;
};

/// Runs it and prints what came out; the program's exit code.
int bench_main(const BenchOptions& options);

}  // namespace dst::cli
