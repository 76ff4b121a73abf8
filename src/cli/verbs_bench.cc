// `dst bench`: the options of the load generator.

#include <CLI/CLI.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <string>

#include "cli/bench.h"
#include "cli/session.h"
#include "control/durations.h"

namespace dst::cli {
namespace {

constexpr ByteCount kSizeMax = ByteCount(32 << 20);  // NBD: what servers take without being asked

/// A size of whole sectors, or an error of usage.
ByteCount size_of(const std::string& option, const std::string& text) {
    const auto size = control::parse_size(text);
    if (!size) throw CLI::ValidationError(option, size.error().text);
    if (*size == ByteCount(0) || !sectors_exact(*size)) {
        throw CLI::ValidationError(option, text + " is no multiple of 512 above zero");
    }
    return *size;
}

/// Options as they are typed.
struct Texts {
    std::string operation = "read";
    std::string size = "4k";
    std::string span;
    double seconds = 5;
    bool without_checksum = false;
};

const std::map<std::string, BenchOperation> kOperations = {{"read", BenchOperation::read},
                                                           {"write", BenchOperation::write},
                                                           {"mixed", BenchOperation::mixed}};

void take(const Texts& texts, BenchOptions& options) {
    options.operation = kOperations.at(texts.operation);
    options.checksum = !texts.without_checksum;
    options.size = size_of("--size", texts.size);
    if (options.size > kSizeMax) throw CLI::ValidationError("--size", "at most 32M");
    if (!texts.span.empty()) options.span = size_of("--span", texts.span);
    if (options.span && *options.span < options.size) {
        throw CLI::ValidationError("--span", "less than one request of --size");
    }
    options.duration = std::chrono::milliseconds(std::llround(texts.seconds * 1000));
}

void add_load(CLI::App& verb, BenchOptions& options, Texts& texts) {
    verb.add_option("--op", texts.operation, "What to do")
        ->check(CLI::IsMember({"read", "write", "mixed"}))
        ->capture_default_str()
        ->type_name("OP");
    verb.add_option("--size", texts.size, "Bytes of one request")
        ->capture_default_str()
        ->type_name("SIZE");
    verb.add_option("--depth", options.depth, "Requests in flight on each connection")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str()
        ->type_name("N");
    verb.add_option("--connections", options.connections, "Connections at once")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str()
        ->type_name("N");
    verb.add_option("--seconds", texts.seconds, "How long")
        ->check(CLI::Range(0.001, 1e6))
        ->capture_default_str()
        ->type_name("S");
    verb.add_option("--read-percent", options.read_percent, "Reads among a hundred, for mixed")
        ->check(CLI::Range(0, 100))
        ->capture_default_str()
        ->type_name("N");
}

void add_details(CLI::App& verb, BenchOptions& options, Texts& texts) {
    verb.add_flag("--sequential", options.sequential, "In order instead of anywhere");
    verb.add_option("--span", texts.span, "Use only this much from the front")->type_name("SIZE");
    verb.add_flag("--verify", options.verify, "Read back what was written, and compare");
    verb.add_flag("--no-checksum", texts.without_checksum, "Without checksums of frames");
    verb.add_option("--spin-us", options.spin_us, "How long to poll before sleeping, in us")
        ->check(CLI::Range(0, 10'000))
        ->capture_default_str()
        ->type_name("N");
    verb.add_option("--seed", options.seed, "Of what is random")
        ->capture_default_str()
        ->type_name("N");
}

}  // namespace

void add_bench_verb(CLI::App& app, Session& session) {
    auto options = std::make_shared<BenchOptions>();
    auto texts = std::make_shared<Texts>();
    auto* verb = app.add_subcommand("bench", "Load an NBD server and say how fast it is");
    verb->add_option("URI", options->uri, "nbd://HOST[:PORT]/EXPORT")->required();
    add_load(*verb, *options, *texts);
    add_details(*verb, *options, *texts);
    verb->footer(
        "write and mixed overwrite the export. Takes --json, too.\n"
        "Example: dst bench nbd://127.0.0.1:10809/disk0 --op read --size 4k --depth 64");
    verb->callback([options, texts, &session] {
        take(*texts, *options);
        session.action = [options, &session] {
            options->json = session.json;
            return bench_main(*options);
        };
    });
}

}  // namespace dst::cli
