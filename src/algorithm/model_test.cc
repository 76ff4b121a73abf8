#include "algorithm/model_test.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <list>

namespace dst::algorithm::model {

using block::Op;

std::uint64_t below(Random& random, std::uint64_t end) { return random() % end; }
bool one_in(Random& random, std::uint64_t count) { return below(random, count) == 0; }

std::uint64_t seed() {
    const char* const given = std::getenv("DST_SEED");
    const std::uint64_t chosen =
        given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device()();
    std::cout << "DST_SEED=" << chosen << '\n' << std::flush;
    return chosen;
}

void Disk::grow(SectorCount by) {
    bytes_.resize(bytes_.size() + to_bytes(by).value());
    states_.resize(states_.size() + by.value());
}

void Disk::apply(const block::Request& request) {
    if (request.op == Op::flush) {
        for (State& state : states_) state.durable = true;
        return;
    }
    const auto [first, count] = request.range;
    std::byte* const at = bytes_.data() + to_bytes(first).value();
    const std::size_t size = to_bytes(count).value();
    if (request.op == Op::read) std::memcpy(request.data.data(), at, size);
    if (request.op == Op::write) std::memcpy(at, request.data.data(), size);
    if (!block::is_change(request.op)) return;

    if (request.op != Op::write) std::memset(at, 0, size);
    const bool is_hole =
        request.op == Op::trim || (request.op == Op::write_zeroes && !request.no_hole);
    std::fill_n(states_.begin() + static_cast<std::ptrdiff_t>(first.value()), count.value(),
                State{is_hole, request.op != Op::write, request.fua});
}

void Disk::describe(SectorRange range, block::ExtentList& extents) const {
    for (SectorIndex at = range.first; at < range.end(); at = at + SectorCount(1))
        if (!extents.add({SectorCount(1), state(at).hole, state(at).zero})) return;
}

std::span<const std::byte> Disk::bytes(SectorRange range) const {
    return std::span(bytes_).subspan(to_bytes(range.first).value(), to_bytes(range.count).value());
}

std::size_t Parking::size() {
    std::size_t count = 0;
    for (async::Waiter* at = waiting_.front(); at != nullptr; at = waiting_.next(*at)) ++count;
    return count;
}

void Parking::wake(std::size_t place) {
    async::Waiter* at = waiting_.front();
    while (place-- > 0) at = waiting_.next(*at);
    at->wake();
}

FakeDevice::FakeDevice(SectorCount size, Parking& parking, Random& random)
    : disk(size), parking_(parking), random_(random) {}

block::Geometry FakeDevice::geometry() const {
    block::Geometry whole = limits;
    whole.size = SectorCount(disk.size());
    return whole;
}

bool FakeDevice::is_delayed() { return delayed_one_in > 0 && one_in(random_, delayed_one_in); }

async::Task<Result<>> FakeDevice::execute(block::Request& request) {
    seen.push_back(request);
    if (request.op != Op::flush) {
        CHECK(request.range.count.value() > 0 && request.range.fits(SectorCount(disk.size())));
        if (request.op == Op::read || request.op == Op::write)
            CHECK(request.data.size() == to_bytes(request.range.count).value());
    }
    if (is_delayed()) co_await parking_.wait();
    if (failure.has_value()) co_return std::unexpected(*failure);
    disk.apply(request);
    if (request.op == Op::block_status) {
        const SectorCount count(std::min(request.range.count.value(), described_at_most));
        disk.describe({request.range.first, count}, *request.extents);
    }
    if (is_delayed()) co_await parking_.wait();
    co_return Result<>{};
}

node::Node& Rig::add(std::uint64_t size_sectors) {
    const SectorCount size(size_sectors);
    devices_.push_back(std::make_unique<FakeDevice>(size, parking, random));
    return nodes_.emplace_back(*devices_.back(), nodes_.size(), "L: fake", size);
}

namespace {
async::Task<void> answer(Algorithm& algorithm, block::Request& request,
                         std::optional<Result<>>& result) {
    result = co_await algorithm.remap(request);
}
}  // namespace

void Rig::start(Algorithm& algorithm, block::Request& request) {
    const async::RunQueue::Enter enter(queue);
    result_.reset();
    scope.spawn(answer(algorithm, request, result_));
}

void Rig::run() { queue.run(); }

std::optional<Result<>> Rig::result() { return result_; }

void Rig::drain() {
    for (run(); parking.size() > 0; run()) parking.wake(below(random, parking.size()));
}

Result<> Rig::execute(Algorithm& algorithm, block::Request& request) {
    start(algorithm, request);
    drain();
    CHECK(result_.has_value());
    return *result_;
}

Result<> Rig::execute(Algorithm& algorithm, Op op, SectorRange range) {
    std::vector<std::byte> data;
    block::Request request{.op = op, .range = range};
    if (op == Op::read || op == Op::write) {
        data.resize(to_bytes(range.count).value());
        request.data = data;
    }
    return execute(algorithm, request);
}

Operation::Operation(Disk& model, Op op, SectorRange range, Random& random) {
    request_.op = op;
    if (op != Op::flush) request_.range = range;
    request_.fua = block::is_change(op) && one_in(random, 4);
    request_.no_hole = op == Op::write_zeroes && one_in(random, 2);
    if (op == Op::read || op == Op::write) {
        data_.resize(to_bytes(range.count).value());
        for (std::byte& byte : data_) byte = static_cast<std::byte>(random());
        request_.data = data_;
    }
    if (op == Op::read) {
        const auto now = model.bytes(range);
        expected_.assign(now.begin(), now.end());
    }
    if (op == Op::block_status) {
        room_.resize(one_in(random, 2) ? 64 : 1 + below(random, 4));
        request_.extents = &extents_.emplace(room_);
    }
    if (op != Op::read) model.apply(request_);
}

async::Task<void> Operation::perform(Algorithm& algorithm, Operation& operation) {
    operation.result_ = co_await algorithm.remap(operation.request_);
}

bool Operation::conflicts(Op op, SectorRange range) const {
    if (op == Op::flush || request_.op == Op::flush) return true;
    return request_.range.overlaps(range) &&
           (block::is_change(op) || block::is_change(request_.op));
}

void Operation::check(const Disk& model) const {
    ASSERT_TRUE(result_.has_value() && result_->has_value());
    if (request_.op == Op::read) {
        EXPECT_TRUE(data_ == expected_);
    }
    if (request_.op != Op::block_status) return;

    EXPECT_GT(extents_->described(), SectorCount(0));
    EXPECT_LE(extents_->described(), request_.range.count);
    SectorIndex at = request_.range.first;
    for (const block::Extent& extent : extents_->extents()) {
        for (const SectorIndex end = at + extent.count; at < end; at = at + SectorCount(1)) {
            ASSERT_EQ(extent.hole, model.state(at).hole) << "sector " << at.value();
            ASSERT_EQ(extent.zero, model.state(at).zero) << "sector " << at.value();
        }
    }
}

namespace {

SectorRange random_range(Random& random, std::uint64_t size) {
    const std::uint64_t first = below(random, size);
    const std::uint64_t room =
        one_in(random, 3) ? size - first : std::min<std::uint64_t>(8, size - first);
    return sectors(first, 1 + below(random, room));
}

/// Runs to its end all that is in flight, and compares.
void settle(Rig& rig, std::list<Operation>& running, const Disk& model) {
    rig.drain();
    for (const Operation& operation : running) operation.check(model);
    running.clear();
}

}  // namespace

void run_random_operations(Rig& rig, Algorithm& algorithm, Disk& model, std::size_t count) {
    constexpr std::size_t kInFlightMax = 4;
    std::list<Operation> running;
    for (; count > 0 && !::testing::Test::HasFailure(); --count) {
        const Op op = kOps[below(rig.random, std::size(kOps))];
        const SectorRange range = random_range(rig.random, model.size());
        const auto conflicts = [&](const Operation& other) { return other.conflicts(op, range); };
        if (running.size() == kInFlightMax || std::ranges::any_of(running, conflicts))
            settle(rig, running, model);
        Operation& operation = running.emplace_back(model, op, range, rig.random);
        const async::RunQueue::Enter enter(rig.queue);
        rig.scope.spawn(Operation::perform(algorithm, operation));
    }
    settle(rig, running, model);
}

void run_every_shape(Rig& rig, Algorithm& algorithm, Disk& model) {
    for (std::uint64_t first = 0; first < model.size(); ++first) {
        for (std::uint64_t count = 1; count <= model.size() - first; ++count) {
            for (const Op op : kOps) {
                std::list<Operation> one;
                const async::RunQueue::Enter enter(rig.queue);
                one.emplace_back(model, op, sectors(first, count), rig.random);
                rig.scope.spawn(Operation::perform(algorithm, one.front()));
                settle(rig, one, model);
            }
        }
    }
}

}  // namespace dst::algorithm::model
