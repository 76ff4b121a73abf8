// An exporter whose unflushed writes are lost when it is killed: a power cut, for tests.
//
// All of it is the product's (Exporter, Export, FileDevice, io_uring, instance id, identity) but
// the file, which has a volatile cache (lossy_file.h), and a network that can be traced.
// It ends by being killed; SIGTERM is a power cut too.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "block/buffer.h"
#include "export/exporter.h"
#include "io/uring/reactor.h"
#include "lossy_file.h"
#include "node/local.h"
#include "traced_network.h"

namespace dst::tools {
namespace {

constexpr std::size_t kPoolBytes = 256 << 20;

struct Options {
    std::string listen;
    std::string file;
    std::string name;
    std::string tally;
    std::string trace;
    std::string reservations;
    unsigned latency_us = 0;
    std::uint64_t instance = 0;  // 0: drawn, as it has to be
    int ready_fd = -1;
};

std::unique_ptr<exporter::Export> make_export(const Options& options, block::Device& device,
                                              block::Account& account) {
    exporter::Settings settings{.name = options.name, .description = {}, .access = {}};
    for (const char* everybody : {"0.0.0.0/0", "::/0"})
        settings.access.push_back({*io::parse_subnet(everybody), exporter::Access::read_write});
    return std::make_unique<exporter::Export>(
        std::move(settings), exporter::Target{.device = &device, .obstacle = {}}, account);
}

Outcome<> serve(const Options& options) {
    Tally& tally = Tally::open(options.tally.c_str());
    const Trace trace(options.trace);
    TRY(const auto reactor, io::uring::Reactor::create());
    io::World below = reactor->world();
    TracedNetwork network(below.network, {trace, tally.changes_in_flight});
    io::World world{below.clock, below.random, below.files, network, below.queue};

    // Buffered: the file below is what survives, and it has to survive this process only.
    TRY(auto file,
        reactor->block_on(world.files.open(options.file, {.cache = io::CacheMode::buffered})));
    auto lossy = std::make_unique<LossyFile>(world, std::move(file), tally,
                                             std::chrono::microseconds(options.latency_us));
    const std::uint64_t instance =
        options.instance != 0 ? options.instance : world.random.next() | 1;
    node::FileDevice device(std::move(lossy), {}, instance);

    block::BufferPool pool(kPoolBytes);
    block::Account connections(pool, 4);
    block::Account payloads(pool, 4);
    exporter::Exporter exporter(world, connections, options.reservations);
    CHECK(exporter.add(make_export(options, device, payloads)).has_value());
    TRY(auto endpoint, io::parse_endpoint(options.listen, 10809));
    TRY_VOID(reactor->block_on(exporter.listen(endpoint)));
    if (options.ready_fd >= 0) {
        CHECK(::write(options.ready_fd, "\n", 1) == 1);
        ::close(options.ready_fd);
    }
    reactor->run();
    return {};
}

}  // namespace
}  // namespace dst::tools

int main(int argc, char** argv) {
    dst::tools::Options options;
    CLI::App app("An NBD exporter that loses what was not flushed when it is killed");
    app.add_option("--listen", options.listen, "HOST:PORT")->required();
    app.add_option("--file", options.file, "What survives")->required();
    app.add_option("--name", options.name, "Name of the export")->required();
    app.add_option("--tally", options.tally, "File for the numbers of struct Tally")->required();
    app.add_option("--trace", options.trace, "File for lines about connections");
    app.add_option("--reservations", options.reservations,
                   "Folder for reservations, which survive, too; none: they don't");
    app.add_option("--latency-us", options.latency_us, "Mean time that a request takes");
    app.add_option("--instance", options.instance,
                   "Lie: be the same instance after each power cut, so that nobody replays");
    app.add_option("--ready-fd", options.ready_fd, "Descriptor to write a byte to once it serves");
    CLI11_PARSE(app, argc, argv);
    const auto done = dst::tools::serve(options);
    if (!done) fmt::print(stderr, "lossy_exporter: {}\n", done.error().text);
    return done ? 0 : 1;
}
