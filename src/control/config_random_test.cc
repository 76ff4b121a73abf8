#include "control/config_random_test.h"

#include <gtest/gtest.h>

namespace dst::control {

std::string RandomConfig::text() {
    static const std::string kPieces[] = {"a", "Z", "9", " ", "\"", "\\", "#",
                                          "=", "[", "'", "ä", ".",  "\t"};
    std::string out;
    while (below(6) != 0) out += kPieces[below(std::size(kPieces))];
    return out;
}

std::string RandomConfig::path() {
    std::string out = "/dev/x" + text() + unique("d");
    std::erase(out, '\t');
    return out;
}

Duration RandomConfig::duration(Duration least, Duration most) {
    const auto units = static_cast<std::uint64_t>((most - least) / std::chrono::milliseconds(1));
    return least + std::chrono::milliseconds(below(units + 1));
}

DeviceSpec RandomConfig::device() {
    if (maybe()) return MemoryDevice{ByteCount((1 + below(1 << 20)) * kSectorBytes)};
    return PathDevice{path()};
}

NodeSpec RandomConfig::node() {
    NodeSpec node;
    if (maybe()) {
        const auto port = static_cast<std::uint16_t>(1 + below(65535));
        node.place = RemoteNode{{maybe() ? "host.example" : "::1", port, {}}, unique("e")};
    } else {
        LocalNode local{device()};
        const bool is_path = std::holds_alternative<PathDevice>(local.device);
        if (is_path && maybe()) local.cache = io::CacheMode::buffered;
        node.place = std::move(local);
    }
    if (maybe()) node.size_max = ByteCount((1 + below(1 << 30)) * kSectorBytes);
    return node;
}

ExportSpec RandomConfig::share() {
    ExportSpec spec;
    spec.name = unique("e");
    spec.device = device();
    if (std::holds_alternative<PathDevice>(spec.device) && maybe()) {
        spec.cache = io::CacheMode::buffered;
    }
    if (maybe()) {
        spec.access = {parse_access("10.1.0.0/16=none").value(),
                       parse_access("fd00::/8=ro").value(), parse_access("10.0.0.0/8=rw").value()};
    }
    spec.read_only = maybe();
    spec.description = text();
    return spec;
}

StorageSpec RandomConfig::storage() {
    StorageSpec spec;
    spec.name = unique("v");
    spec.algorithm = maybe() ? "linear" : "mirror";
    for (std::uint64_t i = 0; i <= below(5); ++i) spec.nodes.push_back(node());
    spec.init = static_cast<InitMode>(below(3));
    spec.grace = duration(std::chrono::milliseconds(1), std::chrono::minutes(2));
    spec.slow = duration(spec.grace, spec.grace * 5);
    spec.takeover = duration(spec.grace * 2, spec.grace * 5);
    if (maybe()) spec.hold = duration(spec.grace, spec.grace * 3);
    if (maybe()) spec.quorum = static_cast<Quorum>(below(2));
    spec.read_policy = static_cast<ReadPolicy>(below(3));
    spec.resync_size = ByteCount((128 + below(10'000)) * kSectorBytes);
    spec.resync_timeout = duration(std::chrono::milliseconds(1), std::chrono::seconds(5));
    if (maybe()) spec.replay_window = ByteCount(1 + below(8 << 20));
    if (maybe()) spec.spin_us = static_cast<unsigned>(below(10'001));
    if (spec.quorum != Quorum::majority && maybe()) {
        spec.metadata = spec.algorithm == kMirror ? MetadataPlace::on_nodes : MetadataPlace::none;
    }
    if (maybe()) spec.options = {{"chunk " + text(), text()}, {"x", "3"}};
    return spec;
}

Config RandomConfig::config() {
    Config config;
    if (maybe()) config.run_dir = "/run/" + text();
    if (maybe()) config.state_dir = "/var/" + text();
    if (maybe()) config.listen = {{"::", 7, {}}, {{}, 0, "/run/sock"}};
    if (maybe()) config.metrics_listen = io::Endpoint{"127.0.0.1", 9100, {}};
    config.memory = ByteCount((32 << 20) + below(1ULL << 40));
    config.spin_us = static_cast<unsigned>(below(10'001));
    for (std::uint64_t i = 0; i < below(5); ++i) config.storages.push_back(storage());
    for (std::uint64_t i = 0; i < below(5); ++i) config.exports.push_back(share());
    for (std::uint64_t i = 0; i < below(3); ++i) config.algorithms.push_back(algorithm());
    if (config.storages.size() > 1) {
        config.storages[0].nodes.push_back(
            {LocalNode{StorageDevice{config.storages[1].name}, io::CacheMode::direct}, {}});
    }
    return config;
}

namespace {

TEST(ConfigRandom, what_is_written_is_read_back_as_the_same) {
    for (std::uint64_t seed = 0; seed < 1000; ++seed) {
        const Config config = RandomConfig(seed).config();
        const std::string text = to_toml(config);
        const auto back = parse_config(text, "x");
        ASSERT_TRUE(back.has_value()) << back.error().text << "\nseed " << seed << "\n" << text;
        ASSERT_EQ(*back, config) << "seed " << seed << "\n" << text << "\n" << to_toml(*back);
        ASSERT_EQ(to_toml(*back), text) << "seed " << seed;
        for (const auto& spec : config.exports) {
            ASSERT_EQ(parse_export_json(to_json(spec)).value(), spec) << to_json(spec);
        }
        for (const auto& spec : config.storages) {
            ASSERT_EQ(parse_storage_json(to_json(spec)).value(), spec) << to_json(spec);
        }
    }
}

TEST(ConfigRandom, damaged_text_is_read_or_refused_on_one_line) {
    std::mt19937_64 random(11);
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        std::string text = to_toml(RandomConfig(seed).config());
        for (int damage = 0; damage < 3 && !text.empty(); ++damage) {
            const auto at = random() % text.size();
            if (random() % 3 == 0) {
                text.erase(at, random() % 20);
            } else {
                text[at] = static_cast<char>(random());
            }
        }
        const auto config = parse_config(text, "x");
        if (config) continue;
        EXPECT_TRUE(config.error().text.starts_with("x:")) << seed << ": " << config.error().text;
        EXPECT_EQ(config.error().text.find('\n'), std::string::npos) << config.error().text;
    }
}

}  // namespace
}  // namespace dst::control
