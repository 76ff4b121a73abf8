#include "sim/run/copies.h"

#include <algorithm>
#include <variant>

#include "base/check.h"
#include "metadata/bitmap_page.h"

namespace dst::sim {
namespace {

std::vector<std::byte> content(const Disk& disk, SectorRange range) {
    std::vector<std::byte> bytes(to_bytes(range.count).value());
    disk.medium().read(range, bytes);
    return bytes;
}

/// The disk that a daemon on `host` shows as `export_name`; null if it is none.
Disk* exported_disk(Stage& stage, std::string_view host, std::string_view export_name) {
    for (const Stage::Server& server : stage.servers()) {
        if (server.spec->host != host) continue;
        const auto* const shown = server.spec->config.find_export(export_name);
        if (shown == nullptr) continue;
        const auto* const path = std::get_if<control::PathDevice>(&shown->device);
        return path == nullptr ? nullptr : stage.host(host).find_disk(path->path);
    }
    return nullptr;
}

Disk* disk_of(Stage& stage, const DaemonSpec& daemon, const control::NodeSpec& node) {
    if (const auto* const remote = std::get_if<control::RemoteNode>(&node.place))
        return exported_disk(stage, remote->endpoint.host, remote->export_name);
    const auto& local = std::get<control::LocalNode>(node.place);
    const auto* const path = std::get_if<control::PathDevice>(&local.device);
    return path == nullptr ? nullptr : stage.host(daemon.host).find_disk(path->path);
}

}  // namespace

std::vector<Mirrored> find_mirrors(Stage& stage) {
    std::vector<Mirrored> found;
    for (const Stage::Server& server : stage.servers()) {
        for (const control::StorageSpec& spec : server.spec->config.storages) {
            if (spec.algorithm != control::kMirror) continue;
            Mirrored mirror{.server = &server, .spec = &spec, .disks = {}};
            for (const auto* const nodes : {&spec.nodes, &spec.witnesses})
                for (const control::NodeSpec& node : *nodes) {
                    Disk* const disk = disk_of(stage, *server.spec, node);
                    if (disk != nullptr)
                        mirror.disks.push_back(disk);
                    else
                        mirror.has_others = true;
                }
            found.push_back(std::move(mirror));
        }
    }
    return found;
}

metadata::Reading superblock_on(const Disk& disk) {
    const SectorCount size = metadata::whole_pages(disk.medium().size());
    std::optional<metadata::Reading> both;
    for (unsigned copy = 0; copy < metadata::kSuperblockCopies; ++copy) {
        const auto place = metadata::superblock_place(size, copy);
        if (!place) return std::unexpected(metadata::Unreadable{});
        auto reading = metadata::decode_superblock(content(disk, *place));
        both = both ? metadata::choose(*std::move(both), std::move(reading)) : std::move(reading);
    }
    return *std::move(both);
}

metadata::Bitmap bitmap_on(const Disk& disk, const metadata::Superblock& superblock,
                           metadata::BitmapName name) {
    const metadata::Shape& shape = superblock.form.shape;
    const auto layout = metadata::Layout::of(shape, superblock.self().size);
    CHECK(layout.has_value());
    metadata::Bitmap bitmap(shape.regions());
    for (std::uint32_t page = 0; page < shape.bitmap_pages(); ++page) {
        const auto bytes = content(disk, layout->page(name, page));
        static_cast<void>(metadata::decode_page(std::span(bytes).first<metadata::kPageBytes>(),
                                                superblock.form.storage_id, name, page, bitmap));
    }
    return bitmap;
}

}  // namespace dst::sim
