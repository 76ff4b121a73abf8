// What tests of algorithms share: devices in memory that answer late and in any order, and a plain
// byte vector to compare a storage with. Also for algorithms outside this folder.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "algorithm/algorithm.h"
#include "async/run_queue.h"
#include "async/scope.h"
#include "base/list.h"
#include "block/device.h"
#include "node/node.h"

namespace dst::algorithm::model {

using Random = std::mt19937_64;

/// A number of 0 to `end` - 1.
[[nodiscard]] std::uint64_t below(Random& random, std::uint64_t end);
[[nodiscard]] bool one_in(Random& random, std::uint64_t count);
/// DST_SEED from the environment, else a new one. Printed.
[[nodiscard]] std::uint64_t seed();

[[nodiscard]] inline SectorRange sectors(std::uint64_t first, std::uint64_t count) {
    return {SectorIndex(first), SectorCount(count)};
}

/// The reference: bytes, and for each sector whether it is a hole, zero, durable.
class Disk {
  public:
    struct State {
        bool hole = true;
        bool zero = true;
        bool durable = true;
        friend bool operator==(State, State) = default;
    };

    explicit Disk(SectorCount size) { grow(size); }
    void grow(SectorCount by);
    void apply(const block::Request& request);
    /// Adds the extents of `range`, until the list is full.
    void describe(SectorRange range, block::ExtentList& extents) const;
    [[nodiscard]] std::uint64_t size() const { return states_.size(); }
    [[nodiscard]] std::span<const std::byte> bytes(SectorRange range) const;
    [[nodiscard]] State state(SectorIndex sector) const { return states_[sector.value()]; }

    friend bool operator==(const Disk&, const Disk&) = default;

  private:
    std::vector<std::byte> bytes_;
    std::vector<State> states_;
};

/// Where coroutines wait until the test lets one of them go on.
class Parking {
  public:
    class Place : public async::Waiter {
      public:
        explicit Place(Parking& parking) : parking_(parking) {}
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> handle) {
            suspend(handle);
            parking_.waiting_.push_back(*this);
        }
        void await_resume() const noexcept {}

      private:
        Parking& parking_;
    };

    [[nodiscard]] Place wait() { return Place(*this); }
    [[nodiscard]] std::size_t size();
    /// Wakes the one at `place` in the order of arrival.
    void wake(std::size_t place);

  private:
    List<async::Waiter> waiting_;
};

/// A disk in memory. Checks that what it is asked lies within it.
class FakeDevice final : public block::Device {
  public:
    /// `random` decides what is delayed: one of `delayed_one_in` requests, none if 0.
    FakeDevice(SectorCount size, Parking& parking, Random& random);

    [[nodiscard]] block::Geometry geometry() const override;
    async::Task<Result<>> execute(block::Request& request) override;
    [[nodiscard]] std::uint64_t instance() const override { return 1; }

    Disk disk;
    block::Geometry limits;                     // but for the size
    std::uint64_t delayed_one_in = 0;           // how often an answer waits in the parking
    std::optional<Error> failure;               // the answer to everything
    std::uint64_t described_at_most = 1 << 20;  // sectors, by one block_status
    std::vector<block::Request> seen;

  private:
    [[nodiscard]] bool is_delayed();

    Parking& parking_;
    Random& random_;
};

/// A thread of control, nodes, and the way to run requests to their ends.
class Rig {
  public:
    explicit Rig(std::uint64_t seed = 1) : random(seed) {}

    /// A node on a new device, not added to anything.
    node::Node& add(std::uint64_t size_sectors);
    [[nodiscard]] FakeDevice& device(std::size_t at) { return *devices_[at]; }
    [[nodiscard]] node::Node& node(std::size_t at) { return nodes_[at]; }
    /// Starts `request`; `finish` or `result` goes on. One at a time.
    void start(Algorithm& algorithm, block::Request& request);
    /// Lets everything run that can without waking the parked.
    void run();
    /// The answer, if it is there.
    [[nodiscard]] std::optional<Result<>> result();
    /// Runs `request` to its end, waking the parked in random order.
    [[nodiscard]] Result<> execute(Algorithm& algorithm, block::Request& request);
    [[nodiscard]] Result<> execute(Algorithm& algorithm, block::Op op, SectorRange range = {});
    /// Lets everything run until nothing is parked.
    void drain();

    Random random;
    Parking parking;
    async::RunQueue queue;
    async::Scope scope;

  private:
    std::vector<std::unique_ptr<FakeDevice>> devices_;
    std::deque<node::Node> nodes_;
    std::optional<Result<>> result_;
};

/// One operation with its memory, and what it must come to.
class Operation {
  public:
    /// Of `model`'s content as it is now; a change is applied to it at once.
    Operation(Disk& model, block::Op op, SectorRange range, Random& random);

    [[nodiscard]] static async::Task<void> perform(Algorithm& algorithm, Operation& operation);
    [[nodiscard]] bool conflicts(block::Op op, SectorRange range) const;
    /// Checks the answer, with gtest's EXPECT.
    void check(const Disk& model) const;

  private:
    block::Request request_;
    std::vector<std::byte> data_;
    std::vector<std::byte> expected_;
    std::vector<block::Extent> room_;
    std::optional<block::ExtentList> extents_;
    std::optional<Result<>> result_;
};

inline constexpr block::Op kOps[] = {block::Op::read,         block::Op::write,
                                     block::Op::flush,        block::Op::trim,
                                     block::Op::write_zeroes, block::Op::block_status};

/// Runs `count` random operations, some at once, and compares each answer with `model`, which is as
/// large as the storage.
void run_random_operations(Rig& rig, Algorithm& algorithm, Disk& model, std::size_t count);

/// Runs every operation on every range of the storage.
void run_every_shape(Rig& rig, Algorithm& algorithm, Disk& model);

}  // namespace dst::algorithm::model
