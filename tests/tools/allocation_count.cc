// Counts heap allocations of the hot path: a head and an exporter in one process, loopback TCP,
// checksums on; a linear storage on a remote node, then a mirror of two remote ones and a local
// one. After a warm-up no request may allocate anything, at either end. (A mirror's pages of
// bitmaps go their own way, by time: once in a while one of them does.)
//
// Every malloc of the process is counted, whoever calls it.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "algorithm/linear.h"
#include "async/scope.h"
#include "export/exporter.h"
#include "io/uring/reactor.h"
#include "node/local.h"
#include "storage/storage.h"

extern "C" void* __libc_malloc(std::size_t size);
extern "C" void* __libc_calloc(std::size_t count, std::size_t size);
extern "C" void* __libc_realloc(void* block, std::size_t size);

namespace {
std::size_t allocations = 0;
}

extern "C" void* malloc(std::size_t size) {
    ++allocations;
    return __libc_malloc(size);
}
extern "C" void* calloc(std::size_t count, std::size_t size) {
    ++allocations;
    return __libc_calloc(count, size);
}
extern "C" void* realloc(void* block, std::size_t size) {
    ++allocations;
    return __libc_realloc(block, size);
}

namespace dst {
namespace {

using namespace std::chrono_literals;
using async::Task;

constexpr unsigned kDepth = 64;
constexpr std::uint64_t kBlock = 8;  // sectors
constexpr SectorCount kSize{1 << 17};

struct Load {
    io::World& world;
    block::Device& device;
    std::vector<block::Buffer>& buffers;
    std::uint64_t left = 0;
    std::uint64_t failed = 0;
};

/// Works on blocks of its own until nothing is left to do.
Task<void> work(Load& load, unsigned number) {
    std::uint64_t at = number;
    while (load.left > 0) {
        --load.left;
        at = (at + kDepth) % (kSize.value() / kBlock);
        block::Request request{.op = load.left % 3 == 0 ? block::Op::read : block::Op::write,
                               .range = {SectorIndex(at * kBlock), SectorCount(kBlock)},
                               .data = load.buffers[number].bytes().first(kBlock * kSectorBytes)};
        if (request.op == block::Op::write) request.buffer = &load.buffers[number];
        if (load.left % 1000 == 0) request = {.op = block::Op::flush};
        if (!co_await load.device.execute(request)) ++load.failed;
    }
}

Task<void> run_load(Load& load, std::uint64_t requests) {
    load.left = requests;
    async::Scope scope;
    for (unsigned number = 0; number < kDepth; ++number) scope.spawn(work(load, number));
    co_await scope.join();
}

constexpr SectorCount kNodeSize{(1 << 17) + 8192};  // room for a mirror's metadata, too

exporter::Settings export_settings(const std::string& name) {
    exporter::Settings settings{.name = name, .description = {}, .access = {}};
    settings.access.push_back({*io::parse_subnet("127.0.0.0/8"), exporter::Access::read_write});
    return settings;
}

/// 0 if there were no more than `most` allocations.
Task<int> count(storage::Surroundings& around, block::Account& payloads, storage::Settings settings,
                std::size_t most) {
    const std::string name = settings.name;
    const auto storage = storage::make_storage(around, std::move(settings));
    if (!storage->start() || !co_await storage->formed(around.world.clock.now() + 5s)) co_return 1;
    std::vector<block::Buffer> buffers;
    for (unsigned number = 0; number < kDepth; ++number)
        buffers.push_back(payloads.try_allocate(kBlock * kSectorBytes));
    Load load{.world = around.world, .device = *storage, .buffers = buffers};
    // Buffers, windows and free lists reach their size, and every chunk of the devices is there.
    for (int round = 0; round < 3; ++round) co_await run_load(load, 60'000);
    const std::size_t before = allocations;
    co_await run_load(load, 100'000);
    const std::size_t counted = allocations - before;
    std::printf("%s: %zu heap allocations in 100000 requests, %llu failed\n", name.c_str(), counted,
                static_cast<unsigned long long>(load.failed));
    buffers.clear();
    if (!co_await storage->stop(around.world.clock.now() + 5s)) co_return 1;
    co_return counted <= most&& load.failed == 0 ? 0 : 1;
}

/// Without what the test before left where the metadata will be.
Task<bool> blank(block::Device& device) {
    block::Request zeroes{.op = block::Op::write_zeroes,
                          .range = {SectorIndex(0), device.geometry().size}};
    co_return (co_await device.execute(zeroes)).has_value();
}

Task<int> count_all(io::World world, block::BufferPool& pool) {
    block::Account connections(pool, 4);
    block::Account payloads(pool, 4);
    block::Account shown[2] = {block::Account(pool, 8), block::Account(pool, 8)};
    node::MemoryDevice memory[2] = {node::MemoryDevice(kNodeSize, 1),
                                    node::MemoryDevice(kNodeSize, 2)};
    exporter::Exporter exporter(world, connections);
    for (std::size_t at = 0; at < 2; ++at)
        if (!exporter.add(std::make_unique<exporter::Export>(
                export_settings("disk" + std::to_string(at)),
                exporter::Target{.device = &memory[at], .obstacle = {}}, shown[at])))
            co_return 1;
    if (!co_await exporter.listen({.host = "127.0.0.1", .port = 0, .unix_path = {}})) co_return 1;

    algorithm::Registry registry;
    if (!registry.register_algorithm("linear", "", algorithm::make_linear)) co_return 1;
    storage::Surroundings around{
        world, pool, connections, registry, {.id = 1, .incarnation = 1}, {world, ""}};
    const auto remote = [&](const std::string& disk) {
        return storage::MemberSpec{
            .place = storage::RemotePlace{exporter.listening().front(), disk},
            .size_max = {},
            .type = "R: " + disk};
    };
    int result = co_await count(around, payloads,
                                {.name = "linear",
                                 .algorithm = "linear",
                                 .options = {},
                                 .members = {remote("disk0")},
                                 .hold = {}},
                                0);
    if (!co_await blank(memory[0])) co_return 1;
    result |= co_await count(
        around, payloads,
        {.name = "mirror",
         .algorithm = "mirror",
         .options = {},
         .members = {remote("disk0"),
                     remote("disk1"),
                     {.place = storage::MemoryPlace{ByteCount(kNodeSize.value() * kSectorBytes)},
                      .size_max = {},
                      .type = "L: memory"}},
         .hold = {}},
        50);
    co_await exporter.close();
    co_return result;
}

}  // namespace
}  // namespace dst

int main() {
    auto reactor = dst::io::uring::Reactor::create();
    if (!reactor) {
        std::fprintf(stderr, "%s\n", reactor.error().text.c_str());
        return 1;
    }
    dst::block::BufferPool pool(128 << 20);
    return (*reactor)->block_on(dst::count_all((*reactor)->world(), pool));
}
