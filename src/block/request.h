// Request: one operation on a device, as every layer above the nodes passes it on.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/check.h"
#include "base/result.h"
#include "base/units.h"
#include "block/buffer.h"

namespace dst::block {

enum class Op : std::uint8_t { read, write, flush, trim, write_zeroes, block_status };

[[nodiscard]] constexpr std::string_view to_string(Op op) {
    constexpr std::string_view kNames[] = {"read", "write",        "flush",
                                           "trim", "write_zeroes", "block_status"};
    return kNames[static_cast<std::size_t>(op)];
}

/// A change: what must be ordered, replayed and made durable.
[[nodiscard]] constexpr bool is_change(Op op) {
    return op == Op::write || op == Op::trim || op == Op::write_zeroes;
}

/// The longest payload of one request, in bytes: whoever takes requests from outside cuts there.
inline constexpr std::uint32_t kPayloadMaxBytes = 1 << 20;

/// What is known of a range (NBD `base:allocation`).
struct Extent {
    SectorCount count;
    bool hole = false;
    bool zero = false;
};

/// Collects extents in order; adjacent equal ones become one.
class ExtentList {
  public:
    /// `room`: where extents go; at least one.
    explicit ExtentList(std::span<Extent> room) : room_(room) { CHECK(!room.empty()); }
    /// False if it is full: the caller stops, what was described so far stands.
    bool add(Extent extent) {
        if (extent.count.value() == 0) return true;
        if (used_ > 0 && room_[used_ - 1].hole == extent.hole &&
            room_[used_ - 1].zero == extent.zero) {
            room_[used_ - 1].count += extent.count;
            described_ += extent.count;
            return true;
        }
        if (used_ == room_.size()) return false;
        room_[used_++] = extent;
        described_ += extent.count;
        return true;
    }
    [[nodiscard]] std::span<const Extent> extents() const { return room_.first(used_); }
    [[nodiscard]] SectorCount described() const { return described_; }
    [[nodiscard]] bool full() const { return used_ == room_.size(); }

    /// A point to which what was added later can be taken back.
    struct Mark {
        std::size_t used = 0;
        SectorCount last;
        SectorCount described;
    };
    [[nodiscard]] Mark mark() const {
        return {used_, used_ > 0 ? room_[used_ - 1].count : SectorCount(), described_};
    }
    void rewind(const Mark& mark) {
        CHECK(mark.used <= used_);
        used_ = mark.used;
        described_ = mark.described;
        if (used_ > 0) room_[used_ - 1].count = mark.last;
    }

  private:
    std::span<Extent> room_;
    std::size_t used_ = 0;
    SectorCount described_;
};

struct Request {
    Op op = Op::read;
    /// write, trim, write_zeroes: durable when answered.
    bool fua = false;
    /// write_zeroes: the space must stay allocated (NBD_CMD_FLAG_NO_HOLE).
    bool no_hole = false;
    /// write_zeroes: `unsupported` rather than slow (NBD_CMD_FLAG_FAST_ZERO).
    bool fast_zero = false;
    /// `node_lost` rather than waiting for a link: at once where there is none, and as soon as it
    /// is lost before the answer. For who can ask somebody else.
    bool if_connected = false;
    /// Waits for as long as it takes, whatever a node's `hold` says. For what nobody has asked for
    /// who could be told.
    bool is_patient = false;
    /// A mirror's own. With FUA it is not kept for a replay: on a medium that has lost what was
    /// durable it is looked for in vain, and made anew.
    bool is_metadata = false;
    /// Never empty, within the device; not used by flush.
    SectorRange range{};
    /// read: where to; write: where from. Of `range`'s length, 4 KiB-aligned at its buffer's front.
    std::span<std::byte> data{};
    /// Owns `data`: who must keep it beyond the answer (replay) takes a reference. Of a write only.
    const Buffer* buffer = nullptr;
    /// block_status: where to. At least the first sectors of `range` get described.
    ExtentList* extents = nullptr;
};

/// Part of `request`: `range` lies within its range. Data is cut to match.
[[nodiscard]] inline Request part_of(const Request& request, SectorRange range) {
    CHECK(request.range.contains(range));
    Request part = request;
    part.range = range;
    if (!request.data.empty())
        part.data = request.data.subspan(to_bytes(range.first - request.range.first).value(),
                                         to_bytes(range.count).value());
    return part;
}

}  // namespace dst::block
