// What the loss of a node, a link or a host would mean to a mirror: its own rules, asked.

#include <fmt/format.h>

#include <chrono>

#include "metadata/loss.h"
#include "storage/losses.h"
#include "storage/mirrored.h"

namespace dst::storage {
namespace {

std::string why_not(const metadata::Outlook& outlook) {
    const metadata::Standing& left = outlook.standing;
    if (!left.has_votes())
        return fmt::format("requests wait: {} of {} votes are left, and {} are a majority",
                           left.votes, left.votes_all, left.majority);
    return "requests wait: no attached node is left";
}

void foretell(Loss& loss, const mirror::Mirror::Prospect& prospect,
              std::chrono::milliseconds grace) {
    const metadata::Outlook& outlook = prospect.outlook;
    loss.goes_on = !takes_head(loss) && outlook.standing.goes_on();
    if (loss.goes_on && outlook.detaches) loss.pause = grace;
    if (takes_head(loss))
        loss.reason = "nobody answers: the head is gone";
    else if (!loss.goes_on)
        loss.reason = why_not(outlook);
    loss.copies = prospect.stakes.copies;
    loss.resync = prospect.stakes.resync;
    if (loss.kind != Loss::Kind::link) {
        loss.at_risk = prospect.stakes.at_risk;
        loss.whole = prospect.stakes.whole;
    }
    loss.start_reason = metadata::reason_of(outlook.restart);
    loss.starts = loss.start_reason.empty();
    loss.start_after_reason = metadata::reason_of(outlook.restart_after);
    loss.starts_after = loss.start_after_reason.empty();
}

}  // namespace

std::vector<Loss> MirroredStorage::losses() const {
    std::vector<Located> nodes;
    for (const metadata::NodeRecord& record : mirror_->form().nodes) {
        const Place* const place = find(record.cookie);
        if (place == nullptr) continue;  // it is lost already, and nobody knows where it was
        nodes.push_back({.cookie = record.cookie,
                         .type = place->name(),
                         .host = host_of(place->member().spec())});
    }
    std::vector<Loss> losses = what_can_be_lost(nodes);
    const auto grace =
        std::chrono::duration_cast<std::chrono::milliseconds>(settings_.mirror.timing.grace);
    for (Loss& loss : losses)
        foretell(loss, mirror_->prospect(loss.nodes, takes_head(loss)), grace);
    return losses;
}

}  // namespace dst::storage
