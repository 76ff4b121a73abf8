// The judge of one sector: was there an order in which all that its clients saw makes sense?
//
// A sector is a register: it holds one value, and every write has a value of its own. So the zones
// of Gibbons and Korach decide ("Testing Shared Memories", 1997): a write and the reads of its
// value are a cluster; f is its first end, s its last begin. If f < s, its value was certainly
// there from f to s (a forward zone); else all of it may have happened at any one moment of [s, f]
// (a backward zone). There is an order exactly if no read ends before its write begins, no two
// forward zones overlap, and no backward zone lies within a forward one. (A write that nobody
// answered and nobody read need not have happened.)
//
// A crash of whatever keeps the sector's volatile content begins a new epoch, a history of its own.
// What is there at its begin may be any earlier value that is not *certainly* followed by a durable
// write, but it is one value: all reads of the epoch that find something older agree on it. After a
// crash that is final (nothing volatile is left at all) what was lost never comes back, and what
// was found is never lost. A write that was under way may take effect in the new epoch.
//
// Where the clients can't know, nothing is asserted: zeroes look alike, so a read of zeroes that
// several writes explain is put aside; so is every read that a trim, or a change that failed, may
// have left undefined. Nothing here knows how a storage works.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace dst::sim::check {

/// A place in the one order of everything that clients have seen. 0: before all of it.
using Order = std::uint64_t;
inline constexpr Order kNever = std::numeric_limits<Order>::max();

/// A change of the sector.
struct Change {
    enum class Kind : std::uint8_t {
        data,       // its value is its number
        zero,       // its value is zeroes
        undefined,  // nobody knows what is there afterwards: a trim, or a change that failed
    };
    Kind kind = Kind::data;
    bool is_acknowledged = false;
    std::uint64_t number = 0;  // not 0; one change each
    Order begin = 0;
    /// Its answer; of a change without one: when it can't take effect any more, mostly `kNever`.
    Order end = kNever;
    /// Survives every crash from then on.
    Order durable = kNever;
};

/// What a read found there.
struct Sight {
    enum class Kind : std::uint8_t { data, zero, alien };
    Kind kind = Kind::data;
    std::uint64_t number = 0;  // of the change whose value it is; of data only
    std::uint64_t read = 0;    // number of the read
    Order begin = 0;
    Order end = 0;
};

struct Crash {
    Order order = 0;
    bool is_final = true;
};

struct SectorLife {
    std::span<const Change> changes;  // by begin
    std::span<const Sight> sights;    // by begin
    std::span<const Crash> crashes;   // by order
};

struct Verdict {
    /// Which check broke: "linearizable", "durable", "alien".
    std::string_view check;
    std::string text;
    /// Numbers of the read that shows it, and of the change or read that it contradicts (0: none).
    std::uint64_t read = 0;
    std::uint64_t other = 0;
};

/// Nothing if all is well.
[[nodiscard]] std::optional<Verdict> judge(const SectorLife& life);

}  // namespace dst::sim::check
