// Whether the parts of a configuration fit together.

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "control/config.h"
#include "control/config_reader.h"
#include "control/memory_shares.h"

namespace dst::control {
namespace {

constexpr ByteCount kResyncSizeMin = ByteCount(64 << 10);  // the smallest region (design §7)

/// A refusal about one spec: where it stands, what it is, what is wrong.
template <typename Spec>
std::unexpected<Problem> wrong(const Spec& spec, std::string_view kind, std::string_view text,
                               ErrorCode code = ErrorCode::invalid) {
    return refuse(code, fmt::format("{}{}{} '{}': {}", spec.where.text,
                                    spec.where.text.empty() ? "" : ": ", kind, spec.name, text));
}

// Each storage by itself -------------------------------------------------------------------------

/// "5s", or "5s (the default)".
std::string shown(Duration value, Duration by_default) {
    return to_string(value) + (value == by_default ? " (the default)" : "");
}

/// The budget of timers (design §5).
Outcome<> check_timers(const StorageSpec& spec) {
    const StorageSpec defaults;
    const std::string grace = shown(spec.grace, defaults.grace);
    if (spec.grace > spec.takeover / 2) {
        return wrong(spec, "storage",
                     fmt::format("grace {} is more than half of takeover {}, so a head that is cut "
                                 "off could still answer while another takes over; set grace to at "
                                 "most {}, or takeover to at least {}",
                                 grace, shown(spec.takeover, defaults.takeover),
                                 to_string(spec.takeover / 2), to_string(spec.grace * 2)));
    }
    if (spec.hold && *spec.hold < spec.grace) {
        return wrong(
            spec, "storage",
            fmt::format("hold {} is shorter than grace {}, so requests would fail before "
                        "a silent node is given up; set hold to at least {}, or \"forever\"",
                        to_string(*spec.hold), grace, to_string(spec.grace)));
    }
    if (spec.slow < spec.grace) {
        return wrong(spec, "storage",
                     fmt::format("slow {} is shorter than grace {}, so a node that answers late "
                                 "would be given up before one that does not answer at all; set "
                                 "slow to at least {}",
                                 shown(spec.slow, defaults.slow), grace, to_string(spec.grace)));
    }
    return {};
}

Outcome<> check_sizes(const StorageSpec& spec, const Config& config) {
    const std::string memory = to_string(config.memory);
    if (spec.replay_window && spec.replay_window->value() > config.memory.value() / 2) {
        return wrong(spec, "storage",
                     fmt::format("replay_window {} is more than half of the daemon's memory {}, so "
                                 "kept changes could leave nothing for new requests; set it to at "
                                 "most {}, or memory to at least {}",
                                 to_string(*spec.replay_window), memory,
                                 to_string(ByteCount(config.memory.value() / 2)),
                                 to_string(ByteCount(spec.replay_window->value() * 2))));
    }
    if (spec.resync_size < kResyncSizeMin) {
        return wrong(spec, "storage",
                     fmt::format("resync_size {} is less than one region; set it to at least {}",
                                 to_string(spec.resync_size), to_string(kResyncSizeMin)));
    }
    if (spec.resync_size.value() > config.memory.value() / 4) {
        return wrong(spec, "storage",
                     fmt::format("resync_size {} is more than a quarter of the daemon's memory {}, "
                                 "so a resync could starve requests; set it to at most {}",
                                 to_string(spec.resync_size), memory,
                                 to_string(ByteCount(config.memory.value() / 4))));
    }
    return {};
}

Outcome<> check_storage(const StorageSpec& spec, const Config& config) {
    TRY_VOID(check_timers(spec));
    TRY_VOID(check_sizes(spec, config));
    const bool is_mirror = spec.algorithm == kMirror;
    // Only one whose nodes were all removed at run time has none.
    if (spec.nodes.empty() && !spec.stopped)
        return wrong(spec, "storage", "a storage of no nodes has no size; name at least one");
    if (is_mirror && spec.metadata == MetadataPlace::none) {
        return wrong(spec, "storage",
                     "a mirror can't do without metadata, which says which copy is right; leave "
                     "metadata out");
    }
    if (!is_mirror && spec.metadata == MetadataPlace::on_nodes) {
        return wrong(spec, "storage",
                     fmt::format("metadata = \"nodes\" is for mirrors, and algorithm is {}; write "
                                 "\"none\", or leave it out",
                                 spec.algorithm),
                     ErrorCode::unsupported);
    }
    if (!is_mirror && !spec.witnesses.empty()) {
        return wrong(spec, "storage",
                     fmt::format("witnesses have votes in a mirror, and algorithm is {}; leave "
                                 "them out",
                                 spec.algorithm));
    }
    if (spec.quorum == Quorum::majority && spec.metadata == MetadataPlace::none) {
        return wrong(spec, "storage",
                     "quorum \"majority\" counts votes that are written in the metadata, and "
                     "metadata is \"none\"; leave out one of them");
    }
    return {};
}

Outcome<> check_export(const ExportSpec& spec) {
    if (spec.cache != io::CacheMode::direct && !std::holds_alternative<PathDevice>(spec.device)) {
        return wrong(spec, "export",
                     fmt::format("{} has no cache of ours, which is for files and block devices; "
                                 "leave cache out",
                                 to_string(spec.device)));
    }
    return {};
}

// Names and references ---------------------------------------------------------------------------

template <typename Spec>
Outcome<> check_unique(const std::vector<Spec>& specs, std::string_view kind) {
    std::map<std::string_view, const Spec*> seen;
    for (const Spec& spec : specs) {
        const auto [first, is_new] = seen.emplace(spec.name, &spec);
        if (is_new) continue;
        const std::string& where = first->second->where.text;
        return wrong(spec, kind,
                     fmt::format("there is one of this name already{}{}; give each its own name",
                                 where.empty() ? "" : " at ", where),
                     ErrorCode::exists);
    }
    return {};
}

Outcome<> check_unique_files(const std::vector<AlgorithmSpec>& algorithms) {
    std::set<std::string_view> seen;
    for (const auto& spec : algorithms) {
        if (seen.insert(spec.file).second) continue;
        return refuse(ErrorCode::exists,
                      fmt::format("{}{}algorithm {} is loaded twice; remove one", spec.where.text,
                                  spec.where.text.empty() ? "" : ": ", in_quotes(spec.file)));
    }
    return {};
}

const StorageDevice* storage_below(const NodeSpec& node) {
    const auto* local = std::get_if<LocalNode>(&node.place);
    return local == nullptr ? nullptr : std::get_if<StorageDevice>(&local->device);
}

/// Those that hold data, and witnesses.
std::vector<NodeSpec> all_nodes(const StorageSpec& spec) {
    std::vector<NodeSpec> all = spec.nodes;
    all.insert(all.end(), spec.witnesses.begin(), spec.witnesses.end());
    return all;
}

/// What to say about a storage that does not exist.
std::string no_such_storage(std::string_view name, const Config& config) {
    std::vector<std::string_view> known;
    known.reserve(config.storages.size());
    for (const auto& storage : config.storages) known.push_back(storage.name);
    const std::string_view meant = closest(name, known);
    const std::string hint =
        meant.empty() ? std::string("create it first") : fmt::format("did you mean '{}'?", meant);
    return fmt::format("there is no storage '{}'; {}", name, hint);
}

Outcome<> check_references(const Config& config) {
    for (const auto& spec : config.exports) {
        const auto* below = std::get_if<StorageDevice>(&spec.device);
        if (below == nullptr || config.find_storage(below->name) != nullptr) continue;
        return wrong(spec, "export", no_such_storage(below->name, config), ErrorCode::not_found);
    }
    for (const auto& spec : config.storages) {
        for (const NodeSpec& node : all_nodes(spec)) {
            const auto* below = storage_below(node);
            if (below == nullptr || config.find_storage(below->name) != nullptr) continue;
            return wrong(spec, "storage", no_such_storage(below->name, config),
                         ErrorCode::not_found);
        }
    }
    return {};
}

/// Walks down from a storage; `path` are the names from the top to here.
class LoopFinder {
  public:
    explicit LoopFinder(const Config& config) : config_(config) {}

    Outcome<> visit(const StorageSpec& spec) {
        const auto again = std::ranges::find(path_, spec.name);
        if (again != path_.end()) {
            const std::vector<std::string_view> loop(again, path_.end());
            return wrong(spec, "storage",
                         fmt::format("it contains itself ({} > {}), so no request would ever reach "
                                     "a disk; take one storage out of the loop",
                                     fmt::join(loop, " > "), spec.name));
        }
        if (!done_.insert(spec.name).second) return {};
        if (path_.size() == kDepthMax) {
            return wrong(spec, "storage",
                         fmt::format("storages are stacked more than {} deep above it, and each "
                                     "needs memory for a request; stack fewer",
                                     kDepthMax));
        }
        path_.push_back(spec.name);
        for (const NodeSpec& node : all_nodes(spec)) {
            const auto* below = storage_below(node);
            if (below == nullptr) continue;
            TRY_VOID(visit(*config_.find_storage(below->name)));
        }
        path_.pop_back();
        return {};
    }

  private:
    static constexpr std::size_t kDepthMax = 32;

    const Config& config_;
    std::vector<std::string_view> path_;
    std::set<std::string_view> done_;
};

// Devices used twice -----------------------------------------------------------------------------

/// Who uses which device. A storage may have many exports, for it orders their requests; every
/// other device has one user.
class DeviceUsers {
  public:
    /// The user that was there before, if both together can't be; else nothing.
    std::optional<std::string> add(const DeviceSpec& device, std::string user, bool is_export) {
        if (std::holds_alternative<MemoryDevice>(device)) return std::nullopt;
        const auto* path = std::get_if<PathDevice>(&device);
        const auto key = path == nullptr
                             ? to_string(device)
                             : std::filesystem::path(path->path).lexically_normal().string();
        const auto [first, is_new] = users_.emplace(key, User{std::move(user), is_export});
        if (is_new || (path == nullptr && is_export && first->second.is_export)) return {};
        return first->second.name;
    }
    std::optional<std::string> add(const RemoteNode& node, std::string user) {
        const auto key = fmt::format("R: {}/{}", io::to_string(node.endpoint), node.export_name);
        const auto [first, is_new] = users_.emplace(key, User{std::move(user), false});
        if (is_new) return {};
        return first->second.name;
    }

  private:
    struct User {
        std::string name;
        bool is_export;
    };
    std::map<std::string, User> users_;
};

std::string name_of(const ExportSpec& spec) { return fmt::format("export '{}'", spec.name); }
std::string name_of(const StorageSpec& spec) { return fmt::format("storage '{}'", spec.name); }

std::string used_twice(std::string_view device, std::string_view by) {
    return fmt::format(
        "{} is in use by {} already, and two users of one device would overwrite "
        "each other; give each its own",
        device, by);
}

Outcome<> check_device(const ExportSpec& spec, DeviceUsers& users) {
    const auto before = users.add(spec.device, name_of(spec), true);
    if (!before) return {};
    return wrong(spec, "export", used_twice(to_string(spec.device), *before), ErrorCode::busy);
}

Outcome<> check_device(const StorageSpec& spec, DeviceUsers& users) {
    for (const NodeSpec& node : all_nodes(spec)) {
        const auto* local = std::get_if<LocalNode>(&node.place);
        const auto before = local == nullptr
                                ? users.add(std::get<RemoteNode>(node.place), name_of(spec))
                                : users.add(local->device, name_of(spec), false);
        if (!before) continue;
        return wrong(spec, "storage", used_twice(to_string(node), *before), ErrorCode::busy);
    }
    return {};
}

/// Whoever was there before is not to blame.
Outcome<> check_devices(const Config& config, std::string_view newcomer) {
    DeviceUsers users;
    for (const bool is_new : {false, true}) {
        for (const auto& spec : config.storages)
            if ((name_of(spec) == newcomer) == is_new) TRY_VOID(check_device(spec, users));
        for (const auto& spec : config.exports)
            if ((name_of(spec) == newcomer) == is_new) TRY_VOID(check_device(spec, users));
    }
    return {};
}

}  // namespace

Outcome<> check(const Config& config, std::string_view newcomer) {
    TRY_VOID(check_unique(config.exports, "export"));
    TRY_VOID(check_unique(config.storages, "storage"));
    TRY_VOID(check_unique_files(config.algorithms));
    for (const auto& spec : config.exports) TRY_VOID(check_export(spec));
    for (const auto& spec : config.storages) TRY_VOID(check_storage(spec, config));
    TRY_VOID(check_references(config));
    LoopFinder loops(config);
    for (const auto& spec : config.storages) TRY_VOID(loops.visit(spec));
    TRY_VOID(check_devices(config, newcomer));
    return check_memory(config);
}

}  // namespace dst::control
