#include "control/events.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "control/attributes.h"

namespace dst::control {
namespace {

constexpr auto kKindNames = std::to_array<std::string_view>(
    {"storage_added", "storage_removed", "storage_state", "node_added", "node_removed",
     "node_state", "node_link", "export_added", "export_removed", "attached", "detached"});
static_assert(kKindNames.size() == kEventKinds);

std::string_view link_of(const NodeStatus& node) { return node.connected ? "up" : "down"; }

Event of_storage(EventKind kind, const StorageStatus& storage) {
    Event event;
    event.kind = kind;
    event.name = storage.name;
    event.reason = storage.reason;
    return event;
}

Event of_node(EventKind kind, const StorageStatus& storage, const NodeStatus& node) {
    Event event;
    event.kind = kind;
    event.name = storage.name;
    event.cookie = node.cookie;
    event.type = node.type;
    event.reason = node.reason;
    return event;
}

Event of_export(EventKind kind, const ExportStatus& share) {
    Event event;
    event.kind = kind;
    event.name = share.name;
    return event;
}

/// Those of `some` that are shown, and not among `others` under the same name in /dev.
std::vector<const AttachmentStatus*> only_in(const std::vector<AttachmentStatus>& some,
                                             const std::vector<AttachmentStatus>& others) {
    std::vector<const AttachmentStatus*> only;
    for (const AttachmentStatus& one : some) {
        const bool is_in_both = std::ranges::any_of(others, [&](const AttachmentStatus& other) {
            return other.name == one.name && other.device == one.device;
        });
        if (!one.device.empty() && !is_in_both) only.push_back(&one);
    }
    return only;
}

Event of_attachment(EventKind kind, const AttachmentStatus& attachment) {
    Event event;
    event.kind = kind;
    event.name = attachment.name;
    event.type = attachment.via;
    event.reason = attachment.reason;
    return event;
}

using ByCookie = std::map<std::string_view, const NodeStatus*>;

ByCookie by_cookie(const StorageStatus& storage) {
    ByCookie nodes;
    for (const NodeStatus* const node : known_nodes(storage)) nodes.emplace(node->cookie, node);
    return nodes;
}

template <typename Thing>
const Thing* find(const std::vector<Thing>& things, std::string_view name) {
    const auto at = std::ranges::find(things, name, &Thing::name);
    return at == things.end() ? nullptr : &*at;
}

/// Adds an event.
void add(std::vector<Event>& events, Event event, std::string_view from, std::string_view to) {
    event.from = from;
    event.to = to;
    events.push_back(std::move(event));
}

/// `before`: null if the storage is new.
void compare_nodes(std::vector<Event>& events, const StorageStatus* before,
                   const StorageStatus& after) {
    const ByCookie were = before == nullptr ? ByCookie{} : by_cookie(*before);
    const ByCookie are = by_cookie(after);
    for (const auto& [cookie, node] : were)
        if (!are.contains(cookie)) events.push_back(of_node(EventKind::node_removed, after, *node));
    for (const NodeStatus* const node : known_nodes(after)) {
        const auto was = were.find(node->cookie);
        if (was == were.end()) {
            events.push_back(of_node(EventKind::node_added, after, *node));
            continue;
        }
        if (was->second->connected != node->connected)
            add(events, of_node(EventKind::node_link, after, *node), link_of(*was->second),
                link_of(*node));
        if (was->second->in_sync != node->in_sync)
            add(events, of_node(EventKind::node_state, after, *node), sync_state(*was->second),
                sync_state(*node));
    }
}

std::string key_of(std::string_view storage, std::string_view cookie) {
    return fmt::format("{}/{}", storage, cookie);
}

using Json = nlohmann::ordered_json;

Json made(const Event& event) {
    const bool is_export =
        event.kind == EventKind::export_added || event.kind == EventKind::export_removed;
    Json json = {{"sequence", event.sequence},
                 {"time", to_rfc3339(event.time)},
                 {"event", to_string(event.kind)},
                 {is_export ? "export" : "storage", event.name}};
    const auto add = [&](const char* key, const std::string& value) {
        if (!value.empty()) json[key] = value;
    };
    add("node", event.cookie);
    add("type", event.type);
    add("from", event.from);
    add("to", event.to);
    add("reason", event.reason);
    return json;
}

std::string dumped(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string_view to_string(EventKind kind) { return kKindNames[static_cast<std::size_t>(kind)]; }

std::vector<Event> events_between(const Status& before, const Status& after) {
    std::vector<Event> events;
    for (const AttachmentStatus* const gone : only_in(before.attachments, after.attachments))
        add(events, of_attachment(EventKind::detached, *gone), gone->device, "");
    for (const ExportStatus& share : before.exports)
        if (find(after.exports, share.name) == nullptr)
            events.push_back(of_export(EventKind::export_removed, share));
    for (const StorageStatus& storage : before.storages)
        if (find(after.storages, storage.name) == nullptr)
            events.push_back(of_storage(EventKind::storage_removed, storage));
    for (const StorageStatus& storage : after.storages) {
        const StorageStatus* const was = find(before.storages, storage.name);
        if (was == nullptr) {
            Event event = of_storage(EventKind::storage_added, storage);
            event.to = to_string(storage.state);
            events.push_back(std::move(event));
        }
        compare_nodes(events, was, storage);
        if (was != nullptr && was->state != storage.state)
            add(events, of_storage(EventKind::storage_state, storage), to_string(was->state),
                to_string(storage.state));
    }
    for (const ExportStatus& share : after.exports)
        if (find(before.exports, share.name) == nullptr)
            events.push_back(of_export(EventKind::export_added, share));
    for (const AttachmentStatus* const added : only_in(after.attachments, before.attachments))
        add(events, of_attachment(EventKind::attached, *added), "", added->device);
    return events;
}

std::string to_json(const Event& event) { return dumped(made(event)); }

bool EventLog::look(const Status& status) {
    std::vector<Event> events = events_between(seen_, status);
    seen_.storages = status.storages;
    seen_.exports = status.exports;
    seen_.attachments = status.attachments;
    for (Event& event : events) note(std::move(event), status.time);
    return !events.empty();
}

bool EventLog::is_calm() const {
    return std::ranges::all_of(seen_.storages, [](const StorageStatus& storage) {
        return storage.state == StorageState::running || storage.state == StorageState::stopped;
    });
}

void EventLog::note(Event event, io::WallTime time) {
    event.sequence = ++last_;
    event.time = time;
    ++counts_[static_cast<std::size_t>(event.kind)];
    if (event.kind == EventKind::node_state && event.from == "sync")
        ++detachments_[key_of(event.name, event.cookie)];
    if (event.kind == EventKind::node_removed) detachments_.erase(key_of(event.name, event.cookie));
    if (event.kind == EventKind::storage_removed)
        std::erase_if(detachments_,
                      [&](const auto& entry) { return entry.first.starts_with(event.name + "/"); });
    kept_.push_back(std::move(event));
    if (kept_.size() > kKept) kept_.pop_front();
}

std::string EventLog::since(std::uint64_t sequence) const {
    Json json = {{"last", last_}, {"events", Json::array()}};
    for (const Event& event : kept_)
        if (sequence > last_ || event.sequence > sequence) json["events"].push_back(made(event));
    return dumped(json);
}

std::uint64_t EventLog::detachments(std::string_view storage, std::string_view cookie) const {
    const auto at = detachments_.find(key_of(storage, cookie));
    return at == detachments_.end() ? 0 : at->second;
}

}  // namespace dst::control
