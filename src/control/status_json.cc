// The JSON of a status: its field names are the contract of design §9.

#include <nlohmann/json.hpp>

#include "control/attributes.h"
#include "control/status.h"

namespace dst::control {
namespace {

using Json = nlohmann::ordered_json;

std::string dumped(const Json& json) {
    // What came from a peer may be no UTF-8.
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json made(const NodeStatus& node);
Json made(const StorageStatus& storage);
Json made(const ExportStatus& share);
Json made(const AttachmentStatus& attachment);
Json made(const AlgorithmStatus& algorithm);

template <typename T>
Json made(const std::vector<T>& items) {
    Json array = Json::array();
    for (const T& item : items) array.push_back(made(item));
    return array;
}

Json made(const NodeStatus& node) {
    return {{"cookie", node.cookie},       {"type", node.type},
            {"start", node.start.value()}, {"size", node.size.value()},
            {"state", sync_state(node)},   {"connected", node.connected},
            {"stale", node.stale.value()}, {"reason", node.reason},
            {"flags", node.flags},         {"read_errors", node.read_errors},
            {"rewritten", node.rewritten}};
}

Json made(const ComparisonStatus& comparison) {
    return {{"running", comparison.running},
            {"complete", comparison.complete},
            {"done", comparison.done.value()},
            {"total", comparison.total.value()},
            {"different", comparison.different.value()},
            {"repaired", comparison.repaired.value()},
            {"undecided", comparison.undecided.value()},
            {"skipped", comparison.skipped.value()}};
}

Json made(const StorageStatus& storage) {
    Json json = {{"name", storage.name},
                 {"algorithm", storage.algorithm},
                 {"size", storage.size.value()},
                 {"state", to_string(storage.state)},
                 {"reason", storage.reason},
                 {"since", to_rfc3339(storage.since)},
                 {"attached_as", storage.attached_as},
                 {"nodes", made(storage.nodes)},
                 {"resync",
                  {{"done", storage.resync.done.value()},
                   {"total", storage.resync.total.value()},
                   {"rate", storage.resync.rate},
                   {"size", storage.resync.size.value()},
                   {"timeout", storage.resync.timeout.count()}}}};
    if (storage.verify) json["verify"] = made(*storage.verify);
    return json;
}

Json made(const ExportStatus& share) {
    return {{"name", share.name},
            {"device", share.device},
            {"size", share.size.value()},
            {"clients", share.clients},
            {"read_only", share.read_only},
            {"description", share.description},
            {"reserved_by", share.reserved_by},
            {"reservation", share.reservation}};
}

Json made(const AttachmentStatus& attachment) {
    Json json = {{"name", attachment.name},           {"via", attachment.via},
                 {"device", attachment.device},       {"size", attachment.size.value()},
                 {"read_only", attachment.read_only}, {"reason", attachment.reason}};
    if (!attachment.passed_over.empty()) json["passed_over"] = attachment.passed_over;
    return json;
}

Json made(const AlgorithmStatus& algorithm) {
    return {{"name", algorithm.name},
            {"description", algorithm.description},
            {"file", algorithm.file},
            {"uses", algorithm.uses}};
}

// Reading: a field of another type than ours throws, and `parse_status` says so.

StorageState read_state(const std::string& text) {
    for (const auto state : {StorageState::running, StorageState::degraded, StorageState::holding,
                             StorageState::fenced, StorageState::stopped}) {
        if (to_string(state) == text) return state;
    }
    return StorageState::waiting;
}

SectorCount sectors(const Json& json, const char* key) {
    return SectorCount(json.value(key, std::uint64_t{0}));
}

io::WallTime time(const Json& json, const char* key) {
    return parse_rfc3339(json.value(key, std::string())).value_or(io::WallTime{});
}

std::vector<std::string> texts(const Json& json, const char* key) {
    return json.value(key, std::vector<std::string>{});
}

template <typename T>
std::vector<T> list(const Json& json, const char* key, T (*read)(const Json&)) {
    std::vector<T> items;
    for (const Json& item : json.value(key, Json::array())) items.push_back(read(item));
    return items;
}

NodeStatus read_node(const Json& json) {
    return {json.value("cookie", ""),
            json.value("type", ""),
            SectorIndex(json.value("start", std::uint64_t{0})),
            sectors(json, "size"),
            json.value("state", "") == "sync",
            json.value("connected", false),
            sectors(json, "stale"),
            json.value("reason", ""),
            texts(json, "flags"),
            json.value("read_errors", std::uint64_t{0}),
            json.value("rewritten", std::uint64_t{0})};
}

std::optional<ComparisonStatus> read_comparison(const Json& json) {
    if (!json.is_object()) return std::nullopt;
    return ComparisonStatus{.running = json.value("running", false),
                            .complete = json.value("complete", false),
                            .done = sectors(json, "done"),
                            .total = sectors(json, "total"),
                            .different = sectors(json, "different"),
                            .repaired = sectors(json, "repaired"),
                            .undecided = sectors(json, "undecided"),
                            .skipped = sectors(json, "skipped")};
}

StorageStatus read_storage(const Json& json) {
    const Json resync = json.value("resync", Json::object());
    return {json.value("name", ""),
            json.value("algorithm", ""),
            sectors(json, "size"),
            read_state(json.value("state", "")),
            json.value("reason", ""),
            time(json, "since"),
            texts(json, "attached_as"),
            list(json, "nodes", read_node),
            {sectors(resync, "done"), sectors(resync, "total"),
             resync.value("rate", std::uint64_t{0}), sectors(resync, "size"),
             std::chrono::milliseconds(resync.value("timeout", std::int64_t{0}))},
            read_comparison(json.value("verify", Json()))};
}

ExportStatus read_export(const Json& json) {
    return {json.value("name", ""),         json.value("device", ""),
            sectors(json, "size"),          json.value("clients", std::uint64_t{0}),
            json.value("read_only", false), json.value("description", ""),
            json.value("reserved_by", ""),  json.value("reservation", std::uint64_t{0})};
}

AttachmentStatus read_attachment(const Json& json) {
    return {json.value("name", ""),    json.value("via", ""),          json.value("device", ""),
            sectors(json, "size"),     json.value("read_only", false), json.value("reason", ""),
            texts(json, "passed_over")};
}

AlgorithmStatus read_algorithm(const Json& json) {
    return {json.value("name", ""), json.value("description", ""), json.value("file", ""),
            json.value("uses", std::uint64_t{0})};
}

}  // namespace

std::string to_json(const Status& status) {
    return dumped(
        {{"version", status.version},
         {"time", to_rfc3339(status.time)},
         {"memory", {{"limit", status.memory.limit.value()}, {"used", status.memory.used.value()}}},
         {"storages", made(status.storages)},
         {"exports", made(status.exports)},
         {"attachments", made(status.attachments)},
         {"algorithms", made(status.algorithms)},
         {"warnings", status.warnings},
         {"last_event", status.last_event}});
}

std::string to_json(const std::vector<StorageStatus>& storages) {
    return dumped({{"storages", made(storages)}});
}
std::string to_json(const std::vector<ExportStatus>& exports) {
    return dumped({{"exports", made(exports)}});
}
std::string to_json(const std::vector<AttachmentStatus>& attachments) {
    return dumped({{"attachments", made(attachments)}});
}
std::string to_json(const std::vector<AlgorithmStatus>& algorithms) {
    return dumped({{"algorithms", made(algorithms)}});
}

Outcome<Status> parse_status(std::string_view text) {
    try {
        const Json json = Json::parse(text);
        const Json memory = json.value("memory", Json::object());
        return Status{json.value("version", ""),
                      time(json, "time"),
                      {ByteCount(memory.value("limit", std::uint64_t{0})),
                       ByteCount(memory.value("used", std::uint64_t{0}))},
                      list(json, "storages", read_storage),
                      list(json, "exports", read_export),
                      list(json, "attachments", read_attachment),
                      list(json, "algorithms", read_algorithm),
                      texts(json, "warnings"),
                      json.value("last_event", std::uint64_t{0})};
    } catch (const std::exception&) {
        return refuse(ErrorCode::corrupt,
                      "the answer is no status of dst; use a dst of the daemon's version");
    }
}

}  // namespace dst::control
