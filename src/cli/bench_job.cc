#include "cli/bench_job.h"

#include <cstring>

#include "base/check.h"

namespace dst::cli {
namespace {

/// The next number of a fast generator (SplitMix64, Steele et al. 2014).
std::uint64_t mix(std::uint64_t& state) {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/// What a block holds after its `generation`th write: no two alike, no zeroes.
void fill(std::span<std::byte> data, std::uint64_t block, std::uint64_t generation) {
    std::uint64_t state = block * 0x100000001b3 + generation;
    for (std::size_t at = 0; at < data.size(); at += 8) {
        const std::uint64_t word = mix(state);
        std::memcpy(data.data() + at, &word, 8);
    }
}

bool holds(std::span<const std::byte> data, std::uint64_t block, std::uint64_t generation) {
    std::uint64_t state = block * 0x100000001b3 + generation;
    for (std::size_t at = 0; at < data.size(); at += 8) {
        const std::uint64_t word = mix(state);
        if (std::memcmp(data.data() + at, &word, 8) != 0) return false;
    }
    return true;
}

}  // namespace

/// One request in flight, and the blocks that it may touch: `first`, `first + stride`, ...
class BenchJob::Slot final : public nbd::Call {
  public:
    Slot(BenchJob& job, std::span<std::byte> memory, std::uint64_t first_block, std::uint64_t step,
         std::uint64_t block_count, std::uint64_t seed)
        : job_(job),
          memory_(memory),
          first_(first_block),
          stride_(step),
          count_(block_count),
          random_(seed) {
        fill(memory_, first_, seed);
        if (job.options_.verify) generations_.resize(count_);
    }

    [[nodiscard]] std::uint64_t count() const { return count_; }

    /// Prepares the next request; false if there is none (all is compared).
    bool prepare(bool verifying) {
        if (verifying) {
            while (cursor_ < count_ && generations_[cursor_] == 0) ++cursor_;
            if (cursor_ == count_) return false;
            at_ = cursor_++;
            request.op = block::Op::read;
        } else {
            at_ = job_.options_.sequential
                      ? cursor_++ % count_
                      : static_cast<std::uint64_t>(
                            (static_cast<unsigned __int128>(mix(random_)) * count_) >> 64);
            request.op = draw_op();
        }
        const std::uint64_t block = first_ + at_ * stride_;
        const SectorCount sectors = sectors_floor(job_.options_.size);
        request.range = {SectorIndex(block * sectors.value()), sectors};
        request.data = memory_;
        if (request.op == block::Op::write && job_.options_.verify)
            fill(memory_, block, generations_[at_] + 1);
        begun_ = job_.world_.clock.now();
        return true;
    }
    void begin() { cursor_ = 0; }

  private:
    block::Op draw_op() {
        switch (job_.options_.operation) {
            case BenchOperation::read:
                return block::Op::read;
            case BenchOperation::write:
                return block::Op::write;
            case BenchOperation::mixed:
                break;
        }
        return mix(random_) % 100 < job_.options_.read_percent ? block::Op::read : block::Op::write;
    }

    void on_answer(Result<> answer) override {
        BenchTotals& totals = job_.totals_;
        if (!answer) {
            if (totals.errors++ == 0) totals.first_error = to_string(answer.error().code);
        } else if (!job_.verifying_) {
            const auto took =
                static_cast<std::uint64_t>((job_.world_.clock.now() - begun_).count());
            (request.op == block::Op::read ? totals.reads : totals.writes).add(took);
        }
        if (answer && job_.options_.verify) {
            std::uint64_t& generation = generations_[at_];
            if (request.op == block::Op::write) {
                ++generation;
            } else if (generation > 0) {
                ++totals.compared;
                if (!holds(memory_, first_ + at_ * stride_, generation)) ++totals.mismatches;
            }
        }
        job_.next(*this);
    }

    BenchJob& job_;
    std::span<std::byte> memory_;
    std::uint64_t first_;
    std::uint64_t stride_;
    std::uint64_t count_;
    std::uint64_t random_;
    std::uint64_t cursor_ = 0;
    std::uint64_t at_ = 0;
    io::TimePoint begun_;
    std::vector<std::uint64_t> generations_;
};

BenchJob::BenchJob(io::World& world, const BenchOptions& options, nbd::ClientConnection& connection,
                   unsigned number, BenchTotals& totals)
    : world_(world),
      options_(options),
      connection_(connection),
      totals_(totals),
      memory_(options.size.value() * options.depth) {
    const std::uint64_t size = connection.facts().info.size.value();
    const std::uint64_t used = options.span ? std::min(size, options.span->value()) : size;
    const std::uint64_t blocks = used / options.size.value();
    const std::uint64_t stride = std::uint64_t{options.depth} * options.connections;
    std::uint64_t seed = options.seed * 1000003 + number;
    for (unsigned at = 0; at < options.depth; ++at) {
        const std::uint64_t first = std::uint64_t{number} * options.depth + at;
        if (first >= blocks) break;  // a small export: fewer requests in flight
        slots_.push_back(std::make_unique<Slot>(
            *this, memory_.bytes().subspan(at * options.size.value(), options.size.value()), first,
            stride, (blocks - first + stride - 1) / stride, mix(seed)));
    }
}

BenchJob::~BenchJob() = default;

bool BenchJob::may_go_on() const {
    return !connection_.ended() && totals_.errors < 100 &&
           (verifying_ || world_.clock.now() < until_);
}

void BenchJob::next(Slot& slot) {
    if (may_go_on() && slot.prepare(verifying_)) {
        connection_.submit(slot);
        return;
    }
    if (--active_ == 0) ended_.wake_all();
}

void BenchJob::start(io::TimePoint until) {
    until_ = until;
    active_ = slots_.size();
    for (const auto& slot : slots_) next(*slot);
}

void BenchJob::start_verifying() {
    verifying_ = true;
    active_ = slots_.size();
    for (const auto& slot : slots_) {
        slot->begin();
        next(*slot);
    }
}

}  // namespace dst::cli
