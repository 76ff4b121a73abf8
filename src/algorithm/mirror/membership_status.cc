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
    std::size_t attached_there = 0;
    std::size_t votes_there = 0;

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
        if (!is_there(node)) continue;
        absent.attached_there += record.attached ? 1 : 0;
        absent.votes_there += record.has_vote ? 1 : 0;
    }
    if (absent.names.empty()) return {};
    const bool has_majority =
        form.quorum == metadata::Quorum::none || absent.votes_there >= form.majority();
    if (has_majority && absent.attached_there > 0)
        return fmt::format("{}; goes on without it, if it stays silent for {} s",
                           fmt::join(absent.names, "; "), seconds(core_.settings.grace));
    if (has_majority)
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
        fmt::join(absent.names, "; "), absent.votes_there, form.votes(), form.majority());
}

}  // namespace dst::mirror
