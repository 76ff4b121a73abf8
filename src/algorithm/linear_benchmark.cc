// What linear adds to a request, on devices that answer at once: time and heap allocations.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <deque>
#include <new>
#include <random>

#include "algorithm/linear.h"
#include "async/scope.h"

namespace {
std::size_t heap_allocations = 0;
}

void* operator new(std::size_t size) {
    ++heap_allocations;
    if (void* const memory = std::malloc(size)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace dst::algorithm {
namespace {

constexpr SectorCount kNodeSize{1 << 10};
constexpr SectorCount kRequestSize{8};

class NullDevice final : public block::Device {
  public:
    block::Geometry geometry() const override { return {.size = kNodeSize}; }
    async::Task<Result<>> execute(block::Request&) override { co_return Result<>{}; }
    std::uint64_t instance() const override { return 1; }
};

async::Task<void> one(Linear& linear, block::Request& request) {
    const Result<> result = co_await linear.remap(request);
    benchmark::DoNotOptimize(result.has_value());
}

/// 4 KiB reads at places that nobody can predict; argument: nodes.
void read_at_random(benchmark::State& state) {
    const auto nodes = static_cast<std::size_t>(state.range(0));
    NullDevice device;
    std::deque<node::Node> made;
    Linear linear;
    for (std::size_t at = 0; at < nodes; ++at)
        if (!linear.add_node(made.emplace_back(device, at, "null", kNodeSize)).has_value()) return;

    const std::uint64_t places = nodes * (kNodeSize.value() / kRequestSize.value());
    std::mt19937_64 random(1);
    std::vector<SectorIndex> firsts(1 << 12);
    for (SectorIndex& first : firsts) first = SectorIndex(random() % places * kRequestSize.value());

    async::Scope scope;
    std::size_t at = 0;
    std::size_t before = 0;
    for (auto _ : state) {
        block::Request request{.range = {firsts[at++ % firsts.size()], kRequestSize}};
        scope.spawn(one(linear, request));
        if (at == 1) before = heap_allocations;
    }
    state.counters["heap_allocations"] = static_cast<double>(heap_allocations - before);
}
BENCHMARK(read_at_random)->Arg(1)->Arg(10)->Arg(100)->Arg(1000)->Arg(10000);

}  // namespace
}  // namespace dst::algorithm
