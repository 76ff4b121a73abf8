// Why requests wait, in words for a person.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>

#include "algorithm/mirror/membership.h"

namespace dst::mirror {
namespace {

using metadata::NodeRecord;

double seconds(io::Duration time) { return std::chrono::duration<double>(time).count(); }

bool is_there(const Node* node) {
    return node != nullptr && node->is_connected() && !node->is_taken();
}

}  // namespace

bool Membership::has_source() const {
    return std::ranges::any_of(core_.form->nodes, [&](const NodeRecord& record) {
        return record.attached && is_there(core_.find(record.cookie));
    });
}

bool Membership::is_answering() const {
    const metadata::Form& form = *core_.form;
    const auto standing = metadata::standing_of(form, [&](const NodeRecord& record) {
        const Node* const node = core_.find(record.cookie);
        return is_there(node) && node->has_say();
    });
    return standing.has_votes() && std::ranges::all_of(form.nodes, [&](const NodeRecord& record) {
               return !record.attached || is_there(core_.find(record.cookie));
           });
}

/// Why it can have no age now; nothing if it can.
std::optional<std::string> Membership::why_no_age(const NodeRecord& record) const {
    const Node* const node = core_.find(record.cookie);
    if (node == nullptr || node->backing == nullptr) return "the configuration does not name it";
    if (!is_there(node)) return node->backing->reason();
    if (node->state == NodeState::away) return node->reason;
    const SuperblockWriter* const writer = node->superblock.get();
    if (writer == nullptr) return std::nullopt;
    if (writer->failure())
        return fmt::format("its superblock can't be written: {}",
                           to_string(writer->failure()->code));
    if (writer->busy_since() &&
        core_.world.clock.now() >= *writer->busy_since() + core_.settings.grace)
        return fmt::format("writing its superblock takes more than {} s",
                           seconds(core_.settings.grace));
    return std::nullopt;
}

std::string Membership::obstacle() const {
    const metadata::Form& form = *core_.form;
    std::vector<std::string> absent;  // who, and why
    const auto note = [&](const NodeRecord& record) {
        if (const auto why = why_no_age(record))
            absent.push_back(fmt::format("{}: {}", record.type, *why));
    };
    for (const NodeRecord& record : form.nodes)
        if (record.attached) note(record);
    const metadata::Standing standing =
        metadata::standing_of(form, [&](const NodeRecord& record) { return !why_no_age(record); });
    if (absent.empty() && is_answering()) return {};
    if (standing.goes_on())
        return fmt::format("{}; goes on without it, if it stays silent for {} s",
                           fmt::join(absent, "; "), seconds(core_.settings.grace));
    if (standing.has_votes())
        return fmt::format("{}; goes on when {} back", fmt::join(absent, "; "),
                           absent.size() == 1 ? "it is" : "one of them is");
    // Those that lack changes have votes, too.
    for (const NodeRecord& record : form.nodes)
        if (record.has_vote && !record.attached) note(record);
    return fmt::format(
        "{}; goes on when enough of them are back: {} of {} votes are there, and {} "
        "are a majority",
        fmt::join(absent, "; "), standing.votes, standing.votes_all, standing.majority);
}

metadata::Outlook Membership::outlook_after(std::span<const metadata::Cookie> lost,
                                            bool is_head_lost) const {
    std::vector<const metadata::Form*> forms = {core_.form.get()};
    for (const FormHandle& sent : sent_) forms.push_back(sent.get());
    std::vector<metadata::NodeNow> nodes;
    for (const auto& node : core_.nodes)
        nodes.push_back({.cookie = node->cookie,
                         .is_there = is_there(node.get()),
                         .can_reserve = node->backing == nullptr || node->backing->can_vote(),
                         .name = node->type});
    return metadata::outlook_after(forms, nodes, lost, is_head_lost);
}

}  // namespace dst::mirror
