#include "sim/run/copies.h"

#include <algorithm>
#include <span>
#include <variant>

#include "base/check.h"
#include "control/state_file.h"
#include "metadata/bitmap_page.h"
#include "sim/host.h"
#include "sim/scenario/route.h"

namespace dst::sim {
namespace {

/// Far more than any stack has.
constexpr std::size_t kDepthMax = 16;

/// Follows a device down to its disks.
class Search {
  public:
    explicit Search(Stage& stage) : stage_(stage) {}

    /// Nothing: it is memory, or a mirror.
    std::optional<Copy> node(const DaemonSpec& daemon, const control::NodeSpec& node,
                             std::size_t depth = 0) {
        auto below = place(daemon, node, depth);
        if (!below) return below;
        Copy copy(below->name());
        copy.append(*below,
                    node.size_max ? std::optional(sectors_floor(*node.size_max)) : std::nullopt);
        if (below->is_whole_disk() && !node.size_max) copy.note_whole_disk();
        return copy;
    }

  private:
    std::optional<Copy> place(const DaemonSpec& daemon, const control::NodeSpec& node,
                              std::size_t depth) {
        if (const auto* const local = std::get_if<control::LocalNode>(&node.place))
            return device(daemon, local->device, depth);
        const auto& remote = std::get<control::RemoteNode>(node.place);
        for (const Stage::Server& server : stage_.servers()) {
            if (server.spec->host != remote.endpoint.host ||
                port_of(*server.spec) != remote.endpoint.port)
                continue;
            const auto* const shown = server.spec->config.find_export(remote.export_name);
            if (shown != nullptr) return device(*server.spec, shown->device, depth);
        }
        return std::nullopt;
    }

    std::optional<Copy> device(const DaemonSpec& daemon, const control::DeviceSpec& device,
                               std::size_t depth) {
        if (const auto* const path = std::get_if<control::PathDevice>(&device)) {
            Copy copy(daemon.host + ":" + path->path);
            copy.append(*stage_.host(daemon.host).find_disk(path->path));
            copy.note_whole_disk();
            return copy;
        }
        const auto* const named = std::get_if<control::StorageDevice>(&device);
        if (named == nullptr || depth > kDepthMax) return std::nullopt;
        const control::StorageSpec& storage = *daemon.config.find_storage(named->name);
        if (storage.algorithm == control::kMirror) return std::nullopt;
        Copy copy(daemon.name + ":" + storage.name);
        for (const control::NodeSpec& each : storage.nodes) {
            const auto part = node(daemon, each, depth + 1);
            if (!part) return std::nullopt;
            copy.append(*part, {});
        }
        return copy;
    }

    Stage& stage_;
};

}  // namespace

void Copy::append(const Copy& other, std::optional<SectorCount> most) {
    SectorCount left = most.value_or(other.size());
    for (const Part& part : other.parts_) {
        const SectorCount size = std::min(part.size, left);
        if (size.value() > 0) parts_.push_back({part.disk, size});
        left -= size;
    }
}

SectorCount Copy::size() const {
    if (is_whole_disk_) return parts_.front().disk->medium().size();
    SectorCount all;
    for (const Part& part : parts_) all += part.size;
    return all;
}

std::vector<SectorCount> Copy::ends() const {
    std::vector<SectorCount> all{size()};
    if (is_whole_disk_)
        for (const SectorCount end : parts_.front().disk->ends_before()) all.push_back(end);
    return all;
}

std::vector<std::byte> Copy::read(SectorRange range) const {
    std::vector<std::byte> bytes(to_bytes(range.count).value());
    if (is_whole_disk_) {
        parts_.front().disk->medium().read(range, bytes);
        return bytes;
    }
    SectorIndex begin;  // of the part
    for (const Part& part : parts_) {
        const SectorIndex first = std::max(begin, range.first);
        const SectorIndex end = std::min(begin + part.size, range.end());
        if (first < end)
            part.disk->medium().read({SectorIndex(0) + (first - begin), end - first},
                                     std::span(bytes).subspan(to_bytes(first - range.first).value(),
                                                              to_bytes(end - first).value()));
        begin = begin + part.size;
    }
    return bytes;
}

void Copy::watch(const std::function<void(SectorRange)>& watcher) const {
    SectorIndex begin;  // of the part
    for (const Part& part : parts_) {
        const SectorCount size = is_whole_disk_ ? SectorCount(~std::uint64_t{0}) : part.size;
        part.disk->medium().watch([=](SectorRange range) {
            const SectorIndex end = std::min(range.end(), SectorIndex(0) + size);
            if (range.first < end)
                watcher({begin + (range.first - SectorIndex(0)), end - range.first});
        });
        begin = begin + part.size;
    }
}

bool Copy::is_exchanged() const {
    return std::ranges::any_of(parts_, [](const Part& part) { return part.disk->is_exchanged(); });
}

std::vector<Mirrored> find_mirrors(Stage& stage) {
    std::vector<Mirrored> found;
    for (const Stage::Server& server : stage.servers()) {
        for (const control::StorageSpec& spec : server.spec->config.storages) {
            if (spec.algorithm != control::kMirror) continue;
            Mirrored mirror{.server = &server,
                            .spec = &spec,
                            .copies = {},
                            .places = {},
                            .state_path = control::state_path(Stage::config_of(*server.spec))};
            const AdministratorSpec& administrator = stage.scenario().administrator;
            mirror.is_changed_at_run_time = administrator.changes(server.spec->name, spec.name);
            const std::vector<control::NodeSpec> none;
            for (const auto* const nodes :
                 {&spec.nodes, &spec.witnesses,
                  mirror.is_changed_at_run_time ? &administrator.spares : &none})
                for (const control::NodeSpec& node : *nodes)
                    if (auto copy = Search(stage).node(*server.spec, node)) {
                        mirror.copies.push_back(*std::move(copy));
                        mirror.places.push_back(node);
                    }
            found.push_back(std::move(mirror));
        }
    }
    return found;
}

const std::string& state_of(const Mirrored& mirror) {
    static const std::string kNothing;
    const auto& files = mirror.server->process->host().small_files();
    const auto at = files.find(mirror.state_path);
    return at == files.end() ? kNothing : at->second;
}

std::vector<control::NodeSpec> listed_places(const Mirrored& mirror) {
    control::Config config = Stage::config_of(*mirror.server->spec);
    if (const std::string& text = state_of(mirror); !text.empty()) {
        const auto state = control::parse_state(text, mirror.state_path);
        CHECK(state.has_value());
        config = control::effective(config, *state);
    }
    const control::StorageSpec* const spec = config.find_storage(mirror.spec->name);
    if (spec == nullptr) return {};
    std::vector<control::NodeSpec> listed = spec->nodes;
    listed.insert(listed.end(), spec->witnesses.begin(), spec->witnesses.end());
    return listed;
}

bool is_listed(const Mirrored& mirror, std::size_t copy,
               const std::vector<control::NodeSpec>& listed) {
    return std::ranges::find(listed, mirror.places[copy]) != listed.end();
}

namespace {

metadata::Reading read_superblock(const Copy& copy, SectorCount end, unsigned number) {
    const auto place = metadata::superblock_place(metadata::whole_pages(end), number);
    if (!place) return std::unexpected(metadata::Unreadable{});
    return metadata::decode_superblock(copy.read(*place));
}

}  // namespace

metadata::Reading superblock_on(const Copy& copy) {
    static_assert(metadata::kSuperblockCopies == 2);
    metadata::Reading newest = std::unexpected(metadata::Unreadable{});
    for (const SectorCount end : copy.ends())
        newest = metadata::choose(
            std::move(newest),
            metadata::choose(read_superblock(copy, end, 0), read_superblock(copy, end, 1)));
    return newest;
}

bool is_whole_on(const Copy& copy, const metadata::Age& age) {
    return std::ranges::any_of(copy.ends(), [&](SectorCount end) {
        for (unsigned number = 0; number < metadata::kSuperblockCopies; ++number)
            if (const auto reading = read_superblock(copy, end, number);
                !reading || reading->form.history.age != age)
                return false;
        return true;
    });
}

metadata::Bitmap bitmap_on(const Copy& copy, const metadata::Superblock& superblock,
                           metadata::BitmapName name, bool* is_damaged) {
    const metadata::Shape& shape = superblock.form.shape;
    const auto layout = metadata::Layout::of(shape, superblock.self().size);
    CHECK(layout.has_value());
    metadata::Bitmap bitmap(shape.regions());
    for (std::uint32_t page = 0; page < shape.bitmap_pages(); ++page) {
        const auto bytes = copy.read(layout->page(name, page));
        const metadata::DamagedSectors damaged =
            metadata::decode_page(std::span(bytes).first<metadata::kPageBytes>(),
                                  superblock.form.storage_id, name, page, bitmap);
        if (is_damaged != nullptr) *is_damaged |= damaged != 0;
    }
    return bitmap;
}

}  // namespace dst::sim
