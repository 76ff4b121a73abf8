#include "control/config_fields.h"

#include <array>

#include "control/config_codecs.h"

namespace dst::control {
namespace {

using namespace codec;

using SpinCount = Count<0, 10'000>;

constexpr std::array kDaemonFields = {
    field<&Config::run_dir, Path>("run_dir"),
    field<&Config::state_dir, Path>("state_dir"),
    field<&Config::listen, Listen>("listen"),
    field<&Config::metrics_listen, Maybe<Endpoint>>("metrics_listen"),
    field<&Config::memory, MemoryLimit>("memory"),
    field<&Config::spin_us, SpinCount>("spin_us"),
};

constexpr std::array kExportFields = {
    field<&ExportSpec::name, Name>("name", Need::required),
    field<&ExportSpec::device, Device>("device", Need::required),
    field<&ExportSpec::access, Access>("access"),
    field<&ExportSpec::cache, OneOf<io::CacheMode>>("cache"),
    field<&ExportSpec::read_only, Flag>("read_only"),
    field<&ExportSpec::description, Text>("description"),
};

constexpr std::array kStorageFields = {
    field<&StorageSpec::name, Name>("name", Need::required),
    field<&StorageSpec::algorithm, Name>("algorithm", Need::required),
    field<&StorageSpec::nodes, Nodes>("nodes", Need::required),
    field<&StorageSpec::witnesses, Nodes>("witnesses"),
    field<&StorageSpec::init, OneOf<InitMode>>("init"),
    field<&StorageSpec::grace, Period>("grace"),
    field<&StorageSpec::slow, Period>("slow"),
    field<&StorageSpec::hold, Patience>("hold"),
    field<&StorageSpec::takeover, Period>("takeover"),
    field<&StorageSpec::quorum, Maybe<OneOf<Quorum>>>("quorum"),
    field<&StorageSpec::read_policy, OneOf<ReadPolicy>>("read_policy"),
    field<&StorageSpec::resync_size, SectorSize>("resync_size"),
    field<&StorageSpec::resync_timeout, Milliseconds>("resync_timeout"),
    field<&StorageSpec::replay_window, Maybe<Size>>("replay_window"),
    field<&StorageSpec::spin_us, Maybe<SpinCount>>("spin_us"),
    field<&StorageSpec::metadata, Maybe<OneOf<MetadataPlace>>>("metadata"),
    field<&StorageSpec::options, Options>("options"),
};

constexpr std::array kAlgorithmFields = {
    field<&AlgorithmSpec::file, Path>("file", Need::required),
};

/// A node as it is written when it says more than its string.
struct NodeTable {
    std::string device;
    std::optional<ByteCount> size;
    io::CacheMode cache = io::CacheMode::direct;
};
constexpr std::array kNodeFields = {
    field<&NodeTable::device, Path>("device", Need::required),
    field<&NodeTable::size, Maybe<SectorSize>>("size"),
    field<&NodeTable::cache, OneOf<io::CacheMode>>("cache"),
};

std::expected<NodeTable, Complaint> read_node_table(const Value& value) {
    NodeTable table;
    for (const Member& member : *value.as<Value::Table>()) {
        const auto known = std::ranges::find(kNodeFields, member.key, &Field<NodeTable>::key);
        if (known == kNodeFields.end()) {
            return complain(fmt::format("unknown key {} of a node; known are device, size, cache",
                                        in_quotes(member.key)),
                            member.value.line);
        }
        if (auto read = known->read(table, member.value); !read) {
            return complain(fmt::format("{}: {}", member.key, read.error().text),
                            member.value.line);
        }
    }
    return table;
}

}  // namespace

std::span<const Field<Config>> daemon_fields() { return kDaemonFields; }
std::span<const Field<ExportSpec>> export_fields() { return kExportFields; }
std::span<const Field<StorageSpec>> storage_fields() { return kStorageFields; }
std::span<const Field<AlgorithmSpec>> algorithm_fields() { return kAlgorithmFields; }

std::expected<NodeSpec, Complaint> read_node(const Value& value) {
    if (const auto* text = value.as<std::string>()) return judged(parse_node(*text), value);
    if (value.as<Value::Table>() == nullptr) {
        return wrong_type(value, "a string such as \"L: /dev/sdb\" or \"R: host:10809/disk0\"");
    }
    auto table = read_node_table(value);
    if (!table) return std::unexpected(std::move(table).error());
    auto node = judged(parse_node(table->device), value);
    if (!node) return node;
    node->size_max = table->size;
    if (table->cache == io::CacheMode::direct) return node;
    auto* local = std::get_if<LocalNode>(&node->place);
    if (local == nullptr || !std::holds_alternative<PathDevice>(local->device)) {
        return complain(fmt::format("{} has no cache of ours; cache is for a local path, leave it "
                                    "out",
                                    in_quotes(table->device)),
                        value.line);
    }
    local->cache = table->cache;
    return node;
}

Value write_node(const NodeSpec& node) {
    NodeTable table{to_string(node), node.size_max};
    if (const auto* local = std::get_if<LocalNode>(&node.place)) table.cache = local->cache;
    Value::Table members = write_fields(std::span<const Field<NodeTable>>(kNodeFields), table);
    if (members.size() == 1) return std::move(members.front().value);
    return Value(std::move(members));
}

}  // namespace dst::control
