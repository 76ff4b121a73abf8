// The load of `dst bench` on one connection: private to bench*.cc.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/pages.h"
#include "cli/bench.h"
#include "cli/histogram.h"
#include "io/world.h"
#include "nbd/client_connection.h"

namespace dst::cli {

/// What all jobs found out together.
struct BenchTotals {
    Histogram reads;  // nanoseconds
    Histogram writes;
    std::uint64_t errors = 0;
    std::uint64_t mismatches = 0;
    std::uint64_t compared = 0;
    std::string first_error;
};

/// One connection's requests: `depth` of them in flight, each on blocks of its own, so what a read
/// must bring is known at any time.
class BenchJob {
  public:
    /// `number` of `jobs`: which blocks are this job's.
    BenchJob(io::World& world, const BenchOptions& options, nbd::ClientConnection& connection,
             unsigned number, BenchTotals& totals);
    ~BenchJob();

    /// Sends requests until `until`; `done()` is true when the last one was answered.
    void start(io::TimePoint until);
    /// Reads back each block that was written, and compares.
    void start_verifying();
    [[nodiscard]] bool done() const { return active_ == 0; }
    [[nodiscard]] async::WaitQueue& ended() { return ended_; }

  private:
    class Slot;
    void next(Slot& slot);
    [[nodiscard]] bool may_go_on() const;

    io::World& world_;
    const BenchOptions& options_;
    nbd::ClientConnection& connection_;
    BenchTotals& totals_;
    bool verifying_ = false;
    io::TimePoint until_;
    std::size_t active_ = 0;
    async::WaitQueue ended_;
    Pages memory_;
    std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace dst::cli
