// Big-endian numbers in byte buffers: the reading and the writing half of every wire codec.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>

#include "base/check.h"

namespace dst {

template <std::unsigned_integral T>
[[nodiscard]] inline T load_be(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    if constexpr (std::endian::native == std::endian::little) value = std::byteswap(value);
    return value;
}

template <std::unsigned_integral T>
inline void store_be(std::byte* to, T value) {
    if constexpr (std::endian::native == std::endian::little) value = std::byteswap(value);
    std::memcpy(to, &value, sizeof value);
}

/// Takes big-endian values off the front of `bytes`; the caller checks `left()` first.
class ByteReader {
  public:
    explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    [[nodiscard]] std::size_t left() const { return bytes_.size(); }
    template <std::unsigned_integral T>
    T take() {
        CHECK(left() >= sizeof(T));
        const T value = load_be<T>(bytes_.data());
        bytes_ = bytes_.subspan(sizeof(T));
        return value;
    }
    std::span<const std::byte> take_bytes(std::size_t size) {
        CHECK(left() >= size);
        const auto taken = bytes_.first(size);
        bytes_ = bytes_.subspan(size);
        return taken;
    }
    std::string_view take_text(std::size_t size) {
        const auto taken = take_bytes(size);
        return {reinterpret_cast<const char*>(taken.data()), taken.size()};
    }

  private:
    std::span<const std::byte> bytes_;
};

/// Puts big-endian values one after another into `bytes`, which must be large enough.
class ByteWriter {
  public:
    explicit ByteWriter(std::span<std::byte> bytes) : bytes_(bytes) {}

    [[nodiscard]] std::size_t written() const { return written_; }
    template <std::unsigned_integral T>
    ByteWriter& put(T value) {
        CHECK(bytes_.size() - written_ >= sizeof(T));
        store_be<T>(bytes_.data() + written_, value);
        written_ += sizeof(T);
        return *this;
    }
    ByteWriter& put_bytes(std::span<const std::byte> from) {
        CHECK(bytes_.size() - written_ >= from.size());
        if (!from.empty()) std::memcpy(bytes_.data() + written_, from.data(), from.size());
        written_ += from.size();
        return *this;
    }

  private:
    std::span<std::byte> bytes_;
    std::size_t written_ = 0;
};

[[nodiscard]] inline std::span<const std::byte> as_bytes(std::string_view text) {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace dst
