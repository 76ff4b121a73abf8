#include "metadata/assembly_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace dst::metadata::text {

namespace {

std::string hex(std::uint64_t value) { return fmt::format("{:016x}", value); }

/// What is at a place that holds no node of this storage.
std::string content(const Situation& situation, const Place& place) {
    if (const auto* unreachable = std::get_if<Unreachable>(&place.seen)) return unreachable->why;
    if (const auto* unreadable = std::get_if<Unreadable>(&place.seen))
        return to_string(*unreadable);
    const auto& form = std::get<Superblock>(place.seen).form;
    if (form.name != situation.storage_name)
        return fmt::format("belongs to the storage {} ({})", form.name, to_string(form.storage_id));
    return fmt::format("belongs to another storage of that name ({})", to_string(form.storage_id));
}

std::string list(const Situation& situation, std::span<const NodeRecord* const> nodes) {
    std::vector<std::string> texts;
    for (const NodeRecord* node : nodes) texts.push_back(missing(situation, *node));
    return fmt::format("{}", fmt::join(texts, ", "));
}

std::string list(std::span<const Side> sides) {
    std::vector<std::string> texts;
    for (const Side& side : sides) {
        std::vector<std::string> holders;
        holders.reserve(side.holders.size());
        for (const Cookie cookie : side.holders) holders.push_back(hex(cookie));
        texts.push_back(
            fmt::format("age {} on {}", to_string(side.age), fmt::join(holders, " and ")));
    }
    return fmt::format("{}", fmt::join(texts, ", "));
}

std::string resolve(const Situation& situation) {
    return fmt::format(
        "say which side to keep: dst storage resolve {} --keep COOKIE (the others are overwritten)",
        situation.storage_name);
}

}  // namespace

std::string node(const NodeRecord& node) {
    return fmt::format("node {} ({})", hex(node.cookie), node.type);
}

std::string unusable(const Situation& situation, const Place& place) {
    return fmt::format("{}: {}", place.name, content(situation, place));
}

std::string missing(const Situation& situation, const NodeRecord& record) {
    const auto place = std::ranges::find_if(
        situation.places, [&](const Place& each) { return cut_type(each.name) == record.type; });
    if (place == situation.places.end()) return node(record);
    if (const auto* superblock = std::get_if<Superblock>(&place->seen);
        superblock != nullptr && superblock->cookie == record.cookie)
        return node(record);
    std::string shrunk;
    if (place->size > SectorCount(0) && place->size < record.size)
        shrunk =
            fmt::format("has {} sectors and had {}: ", place->size.value(), record.size.value());
    return fmt::format("{}: {}{}", node(record), shrunk, content(situation, *place));
}

std::string no_majority(const Situation& situation, const Form& form,
                        std::span<const NodeRecord* const> absent) {
    return fmt::format("{} of {} votes {} there, and {} are a majority; waits for {}",
                       form.votes() - absent.size(), form.votes(),
                       form.votes() - absent.size() == 1 ? "is" : "are", form.majority(),
                       list(situation, absent));
}

std::string held(const Place& place) {
    return fmt::format("{} is held by head {}, which {}", place.name, hex(place.holder_id),
                       place.holder == Holder::connected
                           ? "is connected: stop the storage there"
                           : "has not been gone for as long as takeover says");
}

std::string used(const Place& place) {
    return fmt::format(
        "{} looks blank, but head {} has it reserved and never gave it back: start "
        "that head, which knows where its end was",
        place.name, hex(place.holder_id));
}

std::string stranger(const Form& current, const Superblock& superblock) {
    if (superblock.form.storage_id == current.storage_id)
        return "was a node and is none any more: 'dst node add' makes it one anew";
    return fmt::format(
        "belongs to another storage, '{}' ({}): correct the configuration, or take it over with "
        "'dst node add --force'",
        superblock.form.name, to_string(superblock.form.storage_id));
}

std::string stranger(const Unreadable& unreadable) {
    return unreadable.kind == Unreadable::Kind::blank
               ? "is blank and no node yet: 'dst node add' makes it one, 'dst node replace' puts "
                 "it "
                 "in the place of another one"
               : fmt::format(
                     "{}: correct the configuration, or take it over with 'dst node add --force'",
                     to_string(unreadable));
}

std::string not_there(Cookie cookie) {
    return fmt::format("waits for node {}, whose copy was said to be the right one", hex(cookie));
}

std::string no_member(const Place& place) {
    return fmt::format("{}: was removed from the storage: add it anew", place.name);
}

std::string interrupted(const Place& place) {
    return fmt::format("{}: is left over from a making that was interrupted: add it anew",
                       place.name);
}

std::string other_head(const Superblock& superblock, const Form& base) {
    return fmt::format(
        "{} can't be reserved (plain NBD), and head {}, which used it last, did not stop cleanly: "
        "make sure that it is gone",
        node(superblock.self()), hex(base.head.id));
}

std::string no_source(const Situation& situation, const Form& base) {
    std::vector<const NodeRecord*> attached;
    for (const NodeRecord& record : base.nodes)
        if (record.attached) attached.push_back(&record);
    return fmt::format("waits for one of the nodes that are attached in the newest age: {}",
                       list(situation, attached));
}

std::string diverged(const Situation& situation, std::span<const Side> sides) {
    return fmt::format("the nodes have diverged ({}): {}", list(sides), resolve(situation));
}

std::string undecided(const Situation& situation, std::span<const Side> sides,
                      std::span<const NodeRecord* const> absent) {
    return fmt::format(
        "the nodes have diverged ({}), and the votes that are not there can tell which side "
        "counts; "
        "waits for {}; or {}",
        list(sides), list(situation, absent), resolve(situation));
}

std::string not_ready(const Situation& situation) {
    std::vector<std::string> away;
    for (const Place& place : situation.places)
        if (std::holds_alternative<Unreachable>(place.seen))
            away.push_back(unusable(situation, place));
    return fmt::format(
        "no node that is there knows of it; waits for {} (if they don't either, it is made anew "
        "when all of them are there)",
        fmt::join(away, ", "));
}

std::string how_to_free(const Situation& situation) {
    std::vector<std::string> names;
    for (const Place& place : situation.places)
        if (const auto* superblock = std::get_if<Superblock>(&place.seen);
            superblock != nullptr && superblock->form.name != situation.storage_name &&
            std::ranges::find(names, superblock->form.name) == names.end())
            names.push_back(superblock->form.name);
    std::string text;
    if (names.size() == 1)
        text = fmt::format("; if it is the storage {} that you mean, call it by that name",
                           names.front());
    return text +
           "; a new storage is made of blank nodes: if nothing there is needed, zero the last 64 "
           "KiB";
}

std::string newer_version(const Place& place, const Unreadable& newer) {
    return fmt::format("{}: {}: start it with the newer program", place.name, to_string(newer));
}

std::string twice(const Place& one, const Place& other, Cookie cookie) {
    return fmt::format(
        "{} and {} are both node {}: a copy of a disk, or two ways to one; remove one of them from "
        "the configuration",
        one.name, other.name, hex(cookie));
}

std::string two_storages(const Place& one, const Place& other, const std::string& name) {
    return fmt::format(
        "{} and {} belong to two storages that are both called {}: remove the one that is not "
        "meant "
        "from the configuration",
        one.name, other.name, name);
}

std::string reason(std::span<const Obstacle> obstacles) {
    std::vector<std::string> texts;
    for (const Obstacle& obstacle : obstacles) texts.push_back(obstacle.text);
    std::string text = fmt::format("{}", fmt::join(texts, "; "));
    if (std::ranges::all_of(obstacles, &Obstacle::can_be_forced))
        text += "; 'dst storage start' with --force starts it all the same";
    return text;
}

}  // namespace dst::metadata::text
