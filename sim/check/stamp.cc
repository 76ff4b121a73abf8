#include "sim/check/stamp.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "sim/random.h"

namespace dst::sim::check {
namespace {

constexpr std::size_t kWords = kSectorBytes / sizeof(std::uint64_t);
constexpr unsigned kSectorBits = 48;
constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15;
using Words = std::array<std::uint64_t, kWords>;

std::uint64_t packed(Place place) {
    return std::uint64_t{place.volume} << kSectorBits | place.sector.value();
}

Place unpacked(std::uint64_t word) {
    return {.volume = static_cast<std::uint16_t>(word >> kSectorBits),
            .sector = SectorIndex(word & ((1ULL << kSectorBits) - 1))};
}

Words made(std::uint64_t write, std::uint64_t place) {
    Words words;
    std::uint64_t state = write * kStep ^ place;
    const std::uint64_t front = split_mix(state);
    for (std::size_t at = 0; at < kWords; ++at) words[at] = front + at * kStep;
    words[0] = words[kWords - 1] = write;
    words[1] = place;
    return words;
}

/// Words of the filling that are as `write` would have left them.
std::size_t alike(const Words& words, std::uint64_t write, std::uint64_t place) {
    const Words wanted = made(write, place);
    std::size_t count = 0;
    for (std::size_t at = 2; at + 1 < kWords; ++at) count += words[at] == wanted[at] ? 1 : 0;
    return count;
}

}  // namespace

void fill(std::span<std::byte> data, Place first, std::uint64_t write) {
    CHECK(data.size() % kSectorBytes == 0 && write != 0);
    std::uint64_t place = packed(first);
    for (std::size_t at = 0; at < data.size(); at += kSectorBytes, ++place) {
        const Words words = made(write, place);
        std::memcpy(data.data() + at, words.data(), kSectorBytes);
    }
}

Content look(std::span<const std::byte> sector, Place expected) {
    CHECK(sector.size() == kSectorBytes);
    Words words;
    std::memcpy(words.data(), sector.data(), kSectorBytes);
    using Kind = Content::Kind;
    if (std::ranges::all_of(words, [](std::uint64_t word) { return word == 0; }))
        return {.kind = Kind::zero, .place = expected};
    Content found{
        .write = words.front(), .write_behind = words.back(), .place = unpacked(words[1])};
    if (words == made(words.front(), words[1])) {
        found.kind = found.place == expected ? Kind::stamp : Kind::misplaced;
        return found;
    }
    // Either end may be what is left of a write.
    const bool is_torn = alike(words, words.front(), packed(expected)) > 0 ||
                         alike(words, words.back(), packed(expected)) > 0;
    found.kind = is_torn ? Kind::torn : Kind::alien;
    return found;
}

}  // namespace dst::sim::check
