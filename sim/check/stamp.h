// Stamp: what a write of the simulator's clients leaves in each of its sectors.
//
// The whole sector is a function of three numbers: the volume, the sector's place in it, and the
// number of the write. So whoever reads a sector sees which write it comes from, whether it was
// meant for this place, and whether all of it comes from one write.
//
//     word 0        number of the write, never 0
//     word 1        volume, 16 bits; place, 48 bits
//     words 2..62   filling, made of the first two
//     word 63       number of the write
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/units.h"

namespace dst::sim::check {

/// A sector of a volume.
struct Place {
    std::uint16_t volume = 0;
    SectorIndex sector;
    friend bool operator==(Place, Place) = default;
};

/// Fills `data`, whole sectors, the first of which is at `first`.
void fill(std::span<std::byte> data, Place first, std::uint64_t write);

/// What a sector was found to hold.
struct Content {
    enum class Kind : std::uint8_t {
        zero,
        stamp,      // all of it one write, meant for this place
        misplaced,  // all of it one write, meant for `place`
        torn,       // more than one write, or damaged
        alien,      // nothing that a client wrote
    };
    Kind kind = Kind::alien;
    /// As its first and its last word have it.
    std::uint64_t write = 0;
    std::uint64_t write_behind = 0;
    Place place;
};
[[nodiscard]] Content look(std::span<const std::byte> sector, Place expected);

}  // namespace dst::sim::check
