// Node: a device with a place in a storage, as algorithms see it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/units.h"
#include "block/device.h"

namespace dst::node {

/// A node's unique id; shown as 16 lower-case hex digits.
using Cookie = std::uint64_t;
[[nodiscard]] std::string to_string(Cookie cookie);
/// 16 hex digits, as `to_string` writes them; nothing if it is something else, or 0.
[[nodiscard]] std::optional<Cookie> parse_cookie(std::string_view text);

class Node {
  public:
    /// `device` outlives the node. `type` as the tree shows it: "L: /dev/sdb", "R: host:port/name".
    /// `size`: how much of the device the storage uses; no more than the device has.
    Node(block::Device& device, Cookie cookie, std::string type, SectorCount size)
        : device_(device), cookie_(cookie), type_(std::move(type)), size_(size) {}
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    [[nodiscard]] block::Device& device() const { return device_; }
    [[nodiscard]] Cookie cookie() const { return cookie_; }
    [[nodiscard]] const std::string& type() const { return type_; }
    [[nodiscard]] SectorCount size() const { return size_; }
    /// Where it begins in the storage; the algorithm's to say, when the node is added.
    [[nodiscard]] SectorIndex start() const { return start_; }
    void set_start(SectorIndex start) { start_ = start; }
    /// The sectors of the storage that it holds, for algorithms that place nodes end to end.
    [[nodiscard]] SectorRange place() const { return {start_, size_}; }

  private:
    block::Device& device_;
    Cookie cookie_;
    std::string type_;
    SectorCount size_;
    SectorIndex start_;
};

}  // namespace dst::node
