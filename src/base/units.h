// Units of storage: positions and lengths, in sectors and in bytes.
//
// A position and a length are different types, and so are bytes and sectors, so that mixing them
// does not compile. `value()` is for wire and system-call edges; conversions say how they round.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>

namespace dst {

inline constexpr std::uint64_t kSectorBytes = 512;
inline constexpr unsigned kSectorShift = 9;

/// A length in bytes.
class ByteCount {
  public:
    constexpr ByteCount() = default;
    constexpr explicit ByteCount(std::uint64_t value) : value_(value) {}
    [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
    friend constexpr auto operator<=>(ByteCount, ByteCount) = default;
    friend constexpr ByteCount operator+(ByteCount a, ByteCount b) {
        return ByteCount(a.value_ + b.value_);
    }
    friend constexpr ByteCount operator-(ByteCount a, ByteCount b) {
        return ByteCount(a.value_ - b.value_);
    }

  private:
    std::uint64_t value_ = 0;
};

/// A position in bytes, from the front of a device.
class ByteOffset {
  public:
    constexpr ByteOffset() = default;
    constexpr explicit ByteOffset(std::uint64_t value) : value_(value) {}
    [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
    friend constexpr auto operator<=>(ByteOffset, ByteOffset) = default;
    friend constexpr ByteOffset operator+(ByteOffset a, ByteCount b) {
        return ByteOffset(a.value_ + b.value());
    }
    friend constexpr ByteCount operator-(ByteOffset a, ByteOffset b) {
        return ByteCount(a.value_ - b.value_);
    }

  private:
    std::uint64_t value_ = 0;
};

/// A length in sectors of 512 bytes.
class SectorCount {
  public:
    constexpr SectorCount() = default;
    constexpr explicit SectorCount(std::uint64_t value) : value_(value) {}
    [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
    friend constexpr auto operator<=>(SectorCount, SectorCount) = default;
    friend constexpr SectorCount operator+(SectorCount a, SectorCount b) {
        return SectorCount(a.value_ + b.value_);
    }
    friend constexpr SectorCount operator-(SectorCount a, SectorCount b) {
        return SectorCount(a.value_ - b.value_);
    }
    constexpr SectorCount& operator+=(SectorCount b) {
        value_ += b.value_;
        return *this;
    }
    constexpr SectorCount& operator-=(SectorCount b) {
        value_ -= b.value_;
        return *this;
    }

  private:
    std::uint64_t value_ = 0;
};

/// A position in sectors, from the front of a device.
class SectorIndex {
  public:
    constexpr SectorIndex() = default;
    constexpr explicit SectorIndex(std::uint64_t value) : value_(value) {}
    [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
    friend constexpr auto operator<=>(SectorIndex, SectorIndex) = default;
    friend constexpr SectorIndex operator+(SectorIndex a, SectorCount b) {
        return SectorIndex(a.value_ + b.value());
    }
    friend constexpr SectorIndex operator-(SectorIndex a, SectorCount b) {
        return SectorIndex(a.value_ - b.value());
    }
    friend constexpr SectorCount operator-(SectorIndex a, SectorIndex b) {
        return SectorCount(a.value_ - b.value_);
    }

  private:
    std::uint64_t value_ = 0;
};

[[nodiscard]] constexpr ByteCount to_bytes(SectorCount count) {
    return ByteCount(count.value() << kSectorShift);
}
[[nodiscard]] constexpr ByteOffset to_bytes(SectorIndex index) {
    return ByteOffset(index.value() << kSectorShift);
}
[[nodiscard]] constexpr SectorCount sectors_floor(ByteCount bytes) {
    return SectorCount(bytes.value() >> kSectorShift);
}
[[nodiscard]] constexpr SectorCount sectors_ceil(ByteCount bytes) {
    return SectorCount((bytes.value() >> kSectorShift) +
                       ((bytes.value() & (kSectorBytes - 1)) != 0 ? 1 : 0));
}
/// Nothing, if `bytes` is no whole number of sectors.
[[nodiscard]] constexpr std::optional<SectorCount> sectors_exact(ByteCount bytes) {
    if ((bytes.value() & (kSectorBytes - 1)) != 0) return std::nullopt;
    return sectors_floor(bytes);
}
[[nodiscard]] constexpr std::optional<SectorIndex> sectors_exact(ByteOffset bytes) {
    if ((bytes.value() & (kSectorBytes - 1)) != 0) return std::nullopt;
    return SectorIndex(bytes.value() >> kSectorShift);
}

/// Sectors `first` to `end() - 1`. Never empty where it is given to a device.
struct SectorRange {
    SectorIndex first;
    SectorCount count;

    [[nodiscard]] constexpr SectorIndex end() const { return first + count; }
    [[nodiscard]] constexpr bool overlaps(const SectorRange& other) const {
        return first < other.end() && other.first < end();
    }
    [[nodiscard]] constexpr bool contains(const SectorRange& other) const {
        return first <= other.first && other.end() <= end();
    }
    /// True if the range lies within a device of `size` sectors; safe against overflow.
    [[nodiscard]] constexpr bool fits(SectorCount size) const {
        return first.value() <= size.value() && count.value() <= size.value() - first.value();
    }
    friend constexpr bool operator==(const SectorRange&, const SectorRange&) = default;
};

}  // namespace dst
