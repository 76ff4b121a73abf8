#include "control/state_file.h"

#include <gtest/gtest.h>

#include <map>

#include "control/config_random_test.h"

namespace dst::control {
namespace {

Config file_of(std::string_view toml) { return parse_config(toml, "dst.toml").value(); }

const std::string kVol0 =
    "[[storage]]\nname = \"vol0\"\nalgorithm = \"linear\"\nnodes = [\"L: /a\"]\n";
const std::string kDisk0 = "[[export]]\nname = \"disk0\"\ndevice = \"/b\"\n";

StorageSpec grown(const Config& file) {
    StorageSpec spec = *file.find_storage("vol0");
    spec.nodes.push_back(parse_node("R: host:1/e").value());
    return spec;
}

TEST(StateFile, an_untouched_configuration_leaves_no_trace) {
    const Config file = file_of(kVol0 + kDisk0);
    RuntimeState state;
    EXPECT_EQ(effective(file, state), file);
    record(state, file, *file.find_storage("vol0"));
    record(state, file, *file.find_export("disk0"));
    EXPECT_EQ(state, RuntimeState{});
    EXPECT_TRUE(differences(file, state).empty());
}

TEST(StateFile, what_is_made_at_run_time_survives) {
    const Config file = file_of(kVol0);
    RuntimeState state;
    record(state, file, parse_export_json(R"({"name":"e","device":"storage:vol0"})").value());
    record(state, file, AlgorithmSpec{"/lib/stripe.so", {}});
    const Config now = effective(file, state);
    EXPECT_NE(now.find_export("e"), nullptr);
    EXPECT_EQ(now.algorithms.size(), 1U);
    record_export_removed(state, file, "e");
    record_algorithm_removed(state, file, "/lib/stripe.so");
    EXPECT_EQ(state, RuntimeState{}) << "nothing to remember of what the file never had";
}

TEST(StateFile, a_change_at_run_time_wins_over_the_file_it_was_made_on) {
    const Config file = file_of(kVol0);
    RuntimeState state;
    record(state, file, grown(file));
    EXPECT_EQ(effective(file, state).find_storage("vol0")->nodes.size(), 2U);
    EXPECT_EQ(differences(file, state),
              std::vector<std::string>{"storage 'vol0' differs from the configuration file since a "
                                       "change at run time: nodes"});
}

TEST(StateFile, a_file_changed_since_wins_over_the_change_at_run_time) {
    const Config file = file_of(kVol0);
    RuntimeState state;
    record(state, file, grown(file));
    const Config later = file_of(kVol0 + "grace = \"2s\"\n");
    EXPECT_EQ(effective(later, state), later);
    EXPECT_EQ(differences(later, state),
              std::vector<std::string>{"storage 'vol0' was changed at run time, and then in the "
                                       "configuration file, which is the newer and counts"});
    EXPECT_EQ(without_overtaken(later, state), RuntimeState{});
    EXPECT_EQ(without_overtaken(file, state), state);
}

TEST(StateFile, comments_and_order_in_the_file_are_no_change) {
    const Config file = file_of(kVol0);
    RuntimeState state;
    record(state, file, grown(file));
    const Config later = file_of(
        "# new\n\n[[storage]]\nalgorithm = 'linear'\nnodes = ['L:/a']\n"
        "grace = \"5000ms\"\nname = 'vol0' # the same\n");
    EXPECT_EQ(effective(later, state).find_storage("vol0")->nodes.size(), 2U);
}

TEST(StateFile, a_file_that_lost_the_entry_wins_too) {
    const Config file = file_of(kVol0);
    RuntimeState state;
    record(state, file, grown(file));
    EXPECT_EQ(effective(file_of(""), state).find_storage("vol0"), nullptr);
}

TEST(StateFile, a_file_that_gained_the_name_wins_over_what_was_made_at_run_time) {
    RuntimeState state;
    record(state, file_of(""), grown(file_of(kVol0)));
    EXPECT_EQ(effective(file_of(""), state).find_storage("vol0")->nodes.size(), 2U);
    EXPECT_EQ(effective(file_of(kVol0), state).find_storage("vol0")->nodes.size(), 1U);
}

TEST(StateFile, what_was_removed_stays_removed) {
    const Config file = file_of(kVol0 + kDisk0);
    RuntimeState state;
    record_storage_removed(state, file, "vol0");
    record_export_removed(state, file, "disk0");
    EXPECT_TRUE(effective(file, state).storages.empty());
    EXPECT_TRUE(effective(file, state).exports.empty());
    EXPECT_EQ(differences(file, state).size(), 2U);
    record(state, file, *file.find_storage("vol0"));
    EXPECT_EQ(effective(file, state).storages.size(), 1U) << "made again";
    EXPECT_TRUE(state.storages.empty());
}

TEST(StateFile, what_was_stopped_stays_stopped_and_is_still_there) {
    const Config file = file_of(kVol0);
    RuntimeState state;
    StorageSpec spec = *file.find_storage("vol0");
    spec.stopped = true;
    record(state, file, spec);
    EXPECT_FALSE(state.storages.at(0).spec.has_value());
    EXPECT_TRUE(effective(file, state).find_storage("vol0")->stopped);
    EXPECT_EQ(differences(file, state),
              std::vector<std::string>{"storage 'vol0' was stopped at run time"});
    spec = grown(file);
    spec.stopped = true;
    record(state, file, spec);
    EXPECT_EQ(effective(file, state).find_storage("vol0")->nodes.size(), 2U);
    EXPECT_TRUE(effective(file, state).find_storage("vol0")->stopped);
    spec.stopped = false;
    record(state, file, spec);
    EXPECT_FALSE(effective(file, state).find_storage("vol0")->stopped);
}

TEST(StateFile, what_is_written_is_read_back_as_the_same) {
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        RandomConfig random(seed);
        const Config file = random.config();
        RuntimeState state;
        for (const auto& spec : file.storages) {
            StorageSpec changed = spec;
            changed.stopped = random.maybe();
            if (random.maybe()) changed.grace /= 2;
            if (random.maybe()) record_storage_removed(state, file, spec.name);
            if (random.maybe()) record(state, file, changed);
        }
        for (const auto& spec : file.exports) record_export_removed(state, file, spec.name);
        for (std::uint64_t i = 0; i < random.below(3); ++i) record(state, file, random.share());
        if (random.maybe()) record(state, file, random.algorithm());
        const auto back = parse_state(to_toml(state), "runtime.toml");
        ASSERT_TRUE(back.has_value()) << back.error().text << "\n" << to_toml(state);
        ASSERT_EQ(*back, state) << "seed " << seed << "\n" << to_toml(state);
        ASSERT_EQ(effective(file, *back), effective(file, state));
        ASSERT_EQ(differences(file, state).size(),
                  state.exports.size() + state.storages.size() + state.algorithms.size());
    }
}

TEST(StateFile, a_corrupt_file_is_refused_with_the_line_and_the_way_back) {
    const auto refused = [](std::string_view toml) {
        const auto state = parse_state(toml, "/var/lib/dst/runtime.toml");
        EXPECT_FALSE(state.has_value()) << toml;
        if (state) return std::string();
        EXPECT_EQ(state.error().code, ErrorCode::corrupt);
        EXPECT_TRUE(state.error().text.starts_with("/var/lib/dst/runtime.toml:"));
        EXPECT_NE(state.error().text.find("move /var/lib/dst/runtime.toml away"),
                  std::string::npos);
        return state.error().text;
    };
    EXPECT_NE(refused("").find("cut off"), std::string::npos);
    refused("version = 2\n");
    refused("version = 1\nmemory = \"1G\"\n");
    refused("version = 1\n[[storage]]\nname = \"v\"\nremoved = 1\n");
    refused("version = 1\n[[storage]]\nremoved = true\n");
    refused("version = 1\n[[storage]]\nname = \"v\"\n");
    refused("version = 1\n[[export]]\nname = \"v\"\noverrides = 3\nremoved = true\n");
    refused(
        "version = 1\n[[storage]]\nname = \"v\"\nremoved = true\n[[storage]]\nname = "
        "\"v\"\nremoved = true\n");
    EXPECT_TRUE(refused("version = 1\n[[storage]]\nname = \"v\n")
                    .starts_with("/var/lib/dst/runtime.toml:3: not TOML"));
    refused("version = 1\nstorage = [1]\n");
}

/// Files in memory.
class MemoryFiles final : public io::FileSystem {
  public:
    async::Task<Outcome<std::unique_ptr<io::File>>> open(std::string, io::FileOptions) override {
        co_return refuse("not here");
    }
    Outcome<std::string> load(const std::string& path) override {
        const auto found = files.find(path);
        if (found == files.end()) return refuse(ErrorCode::not_found, path + " is not there");
        return found->second;
    }
    Outcome<> store(const std::string& path, const std::string& content) override {
        files[path] = content;
        return {};
    }
    std::map<std::string, std::string> files;
};

TEST(StateFile, is_kept_in_the_state_directory) {
    MemoryFiles files;
    const Config file = file_of("state_dir = \"/s\"\n" + kVol0);
    EXPECT_EQ(state_path(file), "/s/runtime.toml");
    EXPECT_EQ(load_state(files, state_path(file)).value(), RuntimeState{});
    RuntimeState state;
    record_storage_removed(state, file, "vol0");
    ASSERT_TRUE(store_state(files, state_path(file), state).has_value());
    EXPECT_EQ(load_state(files, state_path(file)).value(), state);
    files.files["/s/runtime.toml"] = "]";
    EXPECT_FALSE(load_state(files, state_path(file)).has_value());
}

}  // namespace
}  // namespace dst::control
