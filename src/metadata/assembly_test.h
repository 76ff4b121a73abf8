// For the tests of assembly: what may be seen, and what is expected of it.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "metadata/assembly.h"
#include "metadata/test_support.h"

namespace dst::metadata::test {

inline constexpr std::uint64_t kUs = 0x4ead;
inline constexpr std::uint64_t kOther = 0x0ddba11;

/// A storage of `nodes` with cookies 0xc0 on, all attached, in the age (0xa, 5).
inline Form form_of(unsigned nodes, Quorum quorum = Quorum::none, unsigned witnesses = 0) {
    Form form = two_nodes_and_witness();
    form.history = {.age = {.id = 0xa, .generation = 5}};
    form.quorum = quorum;
    form.votes_since = {.id = 0xa, .generation = 1};
    form.head = {.id = kUs, .incarnation = 1};
    form.nodes.clear();
    for (unsigned i = 0; i < nodes + witnesses; ++i)
        form.nodes.push_back(
            {.cookie = 0xc0 + i,
             .slot = i < nodes ? static_cast<std::uint8_t>(i) : NodeRecord::kNoSlot,
             .size = SectorCount(64 * kMebi),
             .attached = i < nodes,
             .is_witness = i >= nodes,
             .has_vote = true,
             .instance = 0x100 + i,
             .type = "R: host" + std::to_string(i) + ":10809/disk"});
    return form;
}

/// The next age, with only the nodes of `attached` (by number).
inline Form next(Form form, std::initializer_list<unsigned> attached) {
    form.history = next_generation(form.history);
    for (NodeRecord& node : form.nodes) node.attached = false;
    for (const unsigned i : attached) form.nodes[i].attached = true;
    return form;
}
inline Form forked(Form form, std::uint64_t id, unsigned attached) {
    form.history = fork(form.history, id);
    for (NodeRecord& node : form.nodes) node.attached = false;
    form.nodes[attached].attached = true;
    return form;
}

/// The place of node `number`, which holds `form`.
inline Place place(unsigned number, const Form& form) {
    return {.name = form.nodes[number].type,
            .seen = Superblock{.form = form, .cookie = 0xc0 + number, .sequence = 1},
            .instance = 0x100 + number};
}
inline Place away(unsigned number, const char* why = "connection refused") {
    return {.name = "R: host" + std::to_string(number) + ":10809/disk", .seen = Unreachable{why}};
}
inline Place unreadable(unsigned number, Unreadable::Kind kind) {
    Place there = away(number);
    there.seen = Unreadable{.kind = kind, .what = "wrong checksum", .version = 7};
    return there;
}
inline Place blank(unsigned number) { return unreadable(number, Unreadable::Kind::blank); }

inline Situation situation(std::vector<Place> places) {
    return {.storage_name = "vol0", .head_id = kUs, .places = std::move(places)};
}
inline Situation forced(Situation situation) {
    situation.force = true;
    return situation;
}
inline Situation keeping(Situation situation, Cookie keep) {
    situation.keep = keep;
    return situation;
}

inline std::vector<Cookie> cookies(const std::vector<Member>& members) {
    std::vector<Cookie> all;
    for (const Member& member : members) all.push_back(member.cookie);
    return all;
}

inline Start expect_start(const Situation& situation) {
    const Decision decision = decide(situation);
    if (const auto* wait = std::get_if<Wait>(&decision)) ADD_FAILURE() << wait->reason;
    if (const auto* refuse = std::get_if<Refuse>(&decision)) ADD_FAILURE() << refuse->reason;
    const auto* start = std::get_if<Start>(&decision);
    return start != nullptr ? *start : Start{};
}
template <typename Kept>
Kept expect_kept(const Situation& situation, Obstacle::Kind kind) {
    const Decision decision = decide(situation);
    const auto* kept = std::get_if<Kept>(&decision);
    EXPECT_NE(kept, nullptr) << decision.index();
    if (kept == nullptr) return {};
    EXPECT_EQ(kept->obstacles.front().kind, kind) << kept->reason;
    EXPECT_EQ(kept->reason.find('\n'), std::string::npos);
    return *kept;
}
inline Wait expect_wait(const Situation& situation, Obstacle::Kind kind) {
    return expect_kept<Wait>(situation, kind);
}
inline Refuse expect_refuse(const Situation& situation, Obstacle::Kind kind) {
    return expect_kept<Refuse>(situation, kind);
}

inline Place held(Place there, Holder holder) {
    there.holder = holder;
    there.holder_id = kOther;
    return there;
}

}  // namespace dst::metadata::test
