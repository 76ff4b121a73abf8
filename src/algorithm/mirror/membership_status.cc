// Why requests wait, in words for a person.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>

#include "algorithm/mirror/membership.h"

namespace dst::mirror {
namespace {

using metadata::NodeRecord;

/// Who is not there, why, and what would help.
struct Absent {
    std::vector<std::string> names;

    void add(const NodeRecord& record, const Node* node) {
        std::string reason = "the configuration does not name it";
        if (node != nullptr && node->backing != nullptr) reason = node->backing->reason();
        names.push_back(fmt::format("{}: {}", record.type, reason));
    }
};

double seconds(io::Duration time) { return std::chrono::duration<double>(time).count(); }

bool is_there(const Node* node) {
    return node != nullptr && node->is_connected() && !node->is_taken();
}

}  // namespace

std::string Membership::obstacle() const {
    const metadata::Form& form = *core_.form;
    Absent absent;
    for (const NodeRecord& record : form.nodes) {
        const Node* const node = core_.find(record.cookie);
        if (record.attached && !is_there(node)) absent.add(record, node);
    }
    if (absent.names.empty()) return {};
    const metadata::Standing standing = metadata::standing_of(
        form, [&](const NodeRecord& record) { return is_there(core_.find(record.cookie)); });
    if (standing.goes_on())
        return fmt::format("{}; goes on without it, if it stays silent for {} s",
                           fmt::join(absent.names, "; "), seconds(core_.settings.grace));
    if (standing.has_votes())
        return fmt::format("{}; goes on when {} back", fmt::join(absent.names, "; "),
                           absent.names.size() == 1 ? "it is" : "one of them is");
    // Those that lack changes have votes, too.
    for (const NodeRecord& record : form.nodes)
        if (const Node* const node = core_.find(record.cookie);
            record.has_vote && !record.attached && !is_there(node))
            absent.add(record, node);
    return fmt::format(
        "{}; goes on when enough of them are back: {} of {} votes are there, and {} "
        "are a majority",
        fmt::join(absent.names, "; "), standing.votes, standing.votes_all, standing.majority);
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
