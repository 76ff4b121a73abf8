#include "metadata/form.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <bitset>

namespace dst::metadata {

namespace {

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= Form::kNameBytesMax && !text.starts_with('.') &&
           std::ranges::all_of(text, [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '_' || c == '-';
           });
}

bool is_settings(std::string_view text) {
    return text.size() <= Form::kSettingsBytesMax &&
           std::ranges::none_of(text, [](char c) { return is_control(c) && c != '\n'; });
}

/// Of a record alone.
const char* broken_rule(const NodeRecord& node) {
    if (node.cookie == 0) return "a node without a cookie";
    if (node.size > kNodeSizeMax || node.size != whole_pages(node.size)) return "size of a node";
    if (node.type.size() > NodeRecord::kTypeBytesMax || std::ranges::any_of(node.type, is_control))
        return "type of a node";
    if (!node.is_witness) return nullptr;
    if (node.attached || node.slot != NodeRecord::kNoSlot) return "a witness that holds data";
    if (!node.has_vote) return "a witness without a vote";
    if (!superblock_place(node.size, 0)) return "size of a witness";
    return nullptr;
}

const char* broken_rule_of_table(const Form& form) {
    std::vector<Cookie> cookies;
    std::bitset<kSlotsMax> slots;
    std::size_t witnesses = 0;
    bool is_any_attached = false;
    for (const NodeRecord& node : form.nodes) {
        if (const char* broken = broken_rule(node)) return broken;
        cookies.push_back(node.cookie);
        is_any_attached |= node.attached;
        if (node.is_witness) {
            ++witnesses;
            continue;
        }
        if (node.slot >= form.shape.slots) return "slot of a node";
        if (slots.test(node.slot)) return "a slot used twice";
        slots.set(node.slot);
        if (!Layout::of(form.shape, node.size)) return "a node too small for its data";
    }
    if (witnesses > Form::kWitnessesMax) return "too many witnesses";
    std::ranges::sort(cookies);
    if (std::ranges::adjacent_find(cookies) != cookies.end()) return "a cookie used twice";
    if (!is_any_attached) return "no node is attached";
    return nullptr;
}

/// Where the votes changed last is on the way here, unless that part of it has been forgotten.
bool is_votes_since(const Form& form) {
    const Age& since = form.votes_since;
    if (since.id == 0 || since.generation == 0 || since.generation > kGenerationMax) return false;
    const auto last = last_generation(form.history, since.id);
    return !last || since.generation <= *last;
}

}  // namespace

std::string to_string(const StorageId& id) {
    std::string text;
    for (const std::byte byte : id.bytes) text += fmt::format("{:02x}", byte);
    return text;
}

std::string cut_type(std::string_view type) {
    std::string text(type.substr(0, NodeRecord::kTypeBytesMax));
    if (text.size() < type.size() &&
        (static_cast<unsigned char>(type[text.size()]) & 0xc0) == 0x80) {
        while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0) == 0x80)
            text.pop_back();
        if (!text.empty()) text.pop_back();
    }
    std::ranges::replace_if(text, is_control, ' ');
    return text;
}

const NodeRecord* Form::find(Cookie cookie) const {
    const auto found = std::ranges::find(nodes, cookie, &NodeRecord::cookie);
    return found == nodes.end() ? nullptr : &*found;
}

std::size_t Form::votes() const {
    return static_cast<std::size_t>(std::ranges::count(nodes, true, &NodeRecord::has_vote));
}

const char* broken_rule(const Form& form) {
    if (form.storage_id == StorageId{}) return "no storage id";
    if (!is_name(form.name)) return "name of the storage";
    if (!is_name(form.algorithm)) return "name of the algorithm";
    if (!is_settings(form.settings)) return "settings of the algorithm";
    if (!is_valid(form.history)) return "history";
    if (!is_votes_since(form)) return "age of the last change of votes";
    if (form.quorum != Quorum::none && form.quorum != Quorum::majority) return "quorum policy";
    if (!std::has_single_bit(form.block_bytes) || form.block_bytes < kSectorBytes ||
        form.block_bytes > kPageBytes)
        return "size of its blocks";
    if (form.takeover.count() <= 0 || form.takeover.count() > UINT32_MAX) return "takeover";
    if (!form.shape.is_valid()) return "size of data, regions or number of slots";
    if (form.zero_from > SectorIndex(0) &&
        (form.zero_from >= SectorIndex(form.shape.data_size.value()) ||
         form.zero_from.value() % kPageSectors.value() != 0 || form.is_forming))
        return "where the data ended before";
    if (const char* broken = broken_rule_of_table(form)) return broken;
    if (form.quorum == Quorum::majority && form.votes() == 0) return "a majority without votes";
    if (form.head.id == 0 || form.head.incarnation == 0) return "no head";
    const bool is_first = form.history.age.generation == 1 && form.history.path.empty();
    if (form.is_forming && (!is_first || form.stopped_cleanly)) return "forming in a later age";
    return nullptr;
}

const char* broken_rule(const Superblock& superblock) {
    if (superblock.sequence == 0 || superblock.sequence > kSequenceMax) return "sequence";
    if (const char* broken = broken_rule(superblock.form)) return broken;
    if (superblock.form.find(superblock.cookie) == nullptr) return "a node that its table lacks";
    return nullptr;
}

}  // namespace dst::metadata
