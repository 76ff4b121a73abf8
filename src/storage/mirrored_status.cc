// A mirrored storage as others see it.

#include <fmt/format.h>

#include <algorithm>

#include "storage/mirrored.h"

namespace dst::storage {

using metadata::NodeRecord;

bool MirroredStorage::is_all_connected() const { return is_formed() && mirror_->is_answering(); }

std::size_t MirroredStorage::requests_waiting() const {
    std::size_t waiting = mirror_ != nullptr ? mirror_->waiting() : 0;
    for (const auto& place : places_) waiting += place->member().requests_waiting();
    return waiting;
}

std::optional<Problem> MirroredStorage::dead_end() const {
    if (is_final_) return Problem{ErrorCode::invalid, reason_};
    if (mirror_ != nullptr) return std::nullopt;
    for (const auto& place : places_)
        if (place->member().is_hopeless())
            return Problem{ErrorCode::not_found,
                           fmt::format("{}: {}", place->name(), place->member().reason())};
    return std::nullopt;
}

std::string MirroredStorage::obstacle() const {
    if (is_formed()) return {};
    if (!is_started()) return "it is stopped: start it with 'dst storage start " + name() + "'";
    return reason_;
}

NodeStatus MirroredStorage::status_of(const NodeRecord& record,
                                      const mirror::Mirror::NodeView& view) const {
    const Place* const place = find(record.cookie);
    NodeStatus status{.cookie = record.cookie,
                      .type = place != nullptr ? place->name() : record.type,
                      .start = {},
                      .size = record.is_witness ? SectorCount() : mirror_->form().shape.data_size,
                      // An age that names it may be on its way; in force it is one to count on.
                      .in_sync = (view.state == mirror::NodeState::attached && record.attached) ||
                                 (record.is_witness && view.state == mirror::NodeState::joining),
                      .connected = view.is_connected,
                      .stale = view.stale,
                      .reason = view.reason,
                      .since = view.since,
                      .flags = {},
                      .read_errors = view.read_errors,
                      .rewritten = view.rewritten};
    if (place != nullptr) status.flags = place->member().flags();
    if (record.is_witness) status.flags.emplace_back("witness");
    if (view.state == mirror::NodeState::joining && !record.is_witness)
        status.flags.emplace_back("resync");
    if (view.is_connected) return status;
    const Place* const lost = find_lost(record);
    // The link was broken because of that; once it is there again it is looked at anew.
    if (place != nullptr && view.reason.starts_with(mirror::kSlow))
        status.reason = fmt::format("{}; {}", view.reason, place->reason());
    else if (place != nullptr)
        status.reason = place->reason();
    else if (lost == nullptr)
        status.reason = "the configuration does not name it";
    else if (lost->is_connected() && lost->has_failed_look())
        status.reason = lost->why_stranger();
    else if (lost->is_connected() && !lost->why_stranger().empty())
        status.reason = "not the disk that was there: " + lost->why_stranger();
    else
        status.reason = lost->reason();
    return status;
}

NodeStatus MirroredStorage::status_of(const Place& place) const {
    NodeStatus status{.cookie = place.cookie().value_or(0),
                      .type = place.name(),
                      .start = {},
                      .size = {},
                      .in_sync = false,
                      .connected = place.is_connected(),
                      .stale = {},
                      .reason = place.reason(),
                      .since = place.member().since(),
                      .flags = place.member().flags()};
    if (place.is_witness()) status.flags.emplace_back("witness");
    return status;
}

/// Where a node was by what the configuration calls it, though it is not there now; null: nowhere.
Place* MirroredStorage::find_lost(const NodeRecord& record) const {
    for (const auto& place : places_)
        if (!place->cookie() && !place->is_leaving() && !place->is_in_hand() &&
            metadata::cut_type(place->name()) == record.type)
            return place.get();
    return nullptr;
}

StorageStatus MirroredStorage::status() const {
    StorageStatus status{.name = name(),
                         .algorithm = settings_.algorithm,
                         .size = geometry().size,
                         .state = State::stopped,
                         .reason = {},
                         .since = since_,
                         .nodes = {}};
    if (!is_started()) {
        status.reason = "stopped; 'dst storage start " + name() + "' starts it";
        for (const MemberSpec& spec : settings_.members)
            status.nodes.push_back({.cookie = 0,
                                    .type = spec.type,
                                    .start = {},
                                    .size = {},
                                    .in_sync = false,
                                    .connected = false,
                                    .stale = {},
                                    .reason = "the storage is stopped",
                                    .since = since_,
                                    .flags = {}});
        return status;
    }
    if (!is_formed()) {
        status.state = was_fenced_ ? State::fenced : State::waiting;
        status.reason = reason_;
        for (const auto& place : places_) status.nodes.push_back(status_of(*place));
        return status;
    }
    std::vector<std::string> missing;
    const auto views = mirror_->nodes();
    for (const auto& view : views) {
        const NodeRecord& record = *mirror_->form().find(view.cookie);
        status.nodes.push_back(status_of(record, view));
        const NodeStatus& node = status.nodes.back();
        if (!node.in_sync) missing.push_back(fmt::format("{}: {}", node.type, node.reason));
        status.since = std::max(status.since, node.since);
    }
    // Places that the configuration names, and that are no nodes.
    for (const auto& place : places_) {
        if (place->is_leaving() || place->cookie()) continue;
        const bool is_known = std::ranges::any_of(mirror_->form().nodes, [&](const auto& record) {
            return find(record.cookie) == nullptr && find_lost(record) == place.get();
        });
        if (is_known) continue;
        status.nodes.push_back(status_of(*place));
        if (!place->why_stranger().empty()) status.nodes.back().reason = place->why_stranger();
        missing.push_back(fmt::format("{}: {}", place->name(), status.nodes.back().reason));
    }
    const mirror::Resync::View resync = mirror_->resync();
    status.resync = {
        .done = resync.done, .total = resync.total, .bytes_per_second = resync.bytes_per_second};
    status.comparison = mirror_->verify().view();
    // A node that is silent is attached until an age leaves it out.
    if (const std::string obstacle = mirror_->obstacle(); !obstacle.empty()) {
        const std::size_t waiting = requests_waiting();
        status.state = waiting > 0 ? State::holding : State::degraded;
        status.reason = who_waits(waiting) + obstacle;
    } else if (!missing.empty()) {
        status.state = State::degraded;
        status.reason = fmt::format("{}", fmt::join(missing, "; "));
    } else {
        status.state = State::running;
        status.reason = "all nodes are in sync";
    }
    return status;
}

std::vector<NodeMeasures> MirroredStorage::node_measures() const {
    std::vector<NodeMeasures> all;
    for (const auto& place : places_)
        all.push_back(place->member().measures(place->cookie().value_or(0)));
    return all;
}

}  // namespace dst::storage
